"""`bench power --beside-slots`, shortened: its turns count real slots and real steps, and it leaves nothing behind."""

import psutil
import pytest
from typer.testing import CliRunner

from sim.bench.power_beside import Effort, report
from sim.bench.slot import Load
from sim.cli import app

pytestmark = pytest.mark.alone


def test_both_rates_in_turns_and_equal_digests() -> None:
    effort = Effort(turns=2, slots=20, seconds=0.3, digest_rounds=12)
    found = report(Load(users=2, batch=5, encoder="lenet", slots=1, hosts=1), effort)
    for kind in ("slots", "steps"):
        assert found[f"{kind}_alone_per_s"] > 0
        assert found[f"{kind}_ratio"] >= 0
    assert found["slots_together_per_s"] > 0
    assert found["same_digest"]
    assert found["digest_steps"] > 0
    assert found["digest_without"] == found["digest_beside"]
    assert (found["slots_bar"], found["steps_bar"]) == (0.80, 0.15)
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert not [command for command in commands if "server_tasks.worker" in command or "sim.bench" in command]


def test_one_of_two_benchmarks() -> None:
    result = CliRunner().invoke(app, ["bench", "power", "--complexity", "--beside-slots"])
    assert result.exit_code == 2
    assert "give one of them" in result.stderr
