"""docs/serve_join.md word by word, on machines with a network between them (tests/two_hosts.py)."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import apart
import runs
import two_hosts
from sim.caller import Watcher
from two_hosts import Machine

if WHY := two_hosts.cannot():
    pytestmark = pytest.mark.skip(reason=WHY)

PLACES = {"edge": 1, "ann": 2, "bob": 3}


@pytest.fixture
def machines() -> Iterator[dict[str, Machine]]:
    with ExitStack() as stack:
        switch = stack.enter_context(two_hosts.a_switch())
        yield {who: stack.enter_context(two_hosts.plugged(switch, k)) for who, k in PLACES.items()}


def prepared(folder: Path, who: str) -> Path:
    """A machine's folder, with what its owner has."""
    (folder / who).mkdir()
    (folder / who / "scenario.yaml").write_text(apart.page_scenario())
    if who != "edge":
        apart.page_data(folder / who, who)
        apart.page_data(folder / "all", who)
    return folder / who


def test_the_page_s_commands_work_word_by_word(tmp_path: Path, machines: dict[str, Machine]) -> None:
    ours = {}
    with apart.apart() as processes:
        for who, machine in machines.items():
            line = apart.page_command(who).replace("equiran", apart.EQUIRAN, 1)
            ours[who] = processes.run(machine.command(f"exec {line}", prepared(tmp_path, who)), tmp_path / who)
        for running in ours.values():
            running.ends(0)
        for who in ("ann", "bob"):
            assert ours[who].out == f"{who}: goodbye after 20 of 20 rounds\n"
    (tmp_path / "all/scenario.yaml").write_text(apart.page_scenario())
    whole = runs.run_loaded(
        runs.load(tmp_path / "all/scenario.yaml", transport="memory"), tmp_path / "run", None, Watcher()
    )
    assert runs.read_json(tmp_path / "edge/run/manifest.json")["digest"] == whole.digest
    assert runs.read_json(tmp_path / "edge/run/served.json")["address"] == "10.213.7.1:7700"
    resumed = apart.page_command("edge again")
    with apart.apart() as processes:
        line = resumed.replace("equiran", apart.EQUIRAN, 1)
        again = processes.run(machines["edge"].command(f"exec {line}", tmp_path / "edge"), tmp_path / "edge")
        again.ends(0)
        assert again.err.endswith("is done already\n")
