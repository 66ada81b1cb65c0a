"""Long runs of 64 users under chaos, over sockets: nothing piles up, and every feedback message is accounted for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import runs

ROOT = Path(__file__).parents[2]
CHAOS = runs.SCENARIOS / "stress" / "chaos.yaml"
SLOTS = 50
MIB = 1 << 20


class Soaked:
    """A run in a process of its own that is over. held: a column per look, one after each round."""

    def __init__(self, folder: Path, rounds: int, *sets: str):
        command = [sys.executable, str(ROOT / "tests" / "soaking.py"), str(CHAOS), str(folder)]
        settings = ["transport=grpc", f"rounds={rounds}", f"slots={SLOTS}", "compare=[]", *sets]
        where = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        ended = subprocess.run([*command, *settings], cwd=ROOT, env=where, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        looks = [json.loads(line) for line in ended.stdout.splitlines()]
        self.held = {name: np.array([look[name] for look in looks]) for name in looks[0]}
        self.summary = runs.read_json(folder / "summary.json")
        self.faults = runs.events(folder, "fault")

    def growth(self, behind: int) -> float:
        """MiB per 1000 slots, by least squares over the rounds behind the first few."""
        thousands = self.held["round"][behind:] * SLOTS / 1000
        slope, _ = np.polyfit(thousands, self.held["rss"][behind:] / MIB, 1)
        return float(slope)

    def require_exact(self, rounds: int) -> None:
        """received = applied + rejected + late + duplicate, and each of these is what faults made of it."""
        counts = self.summary["contributions"]
        assert counts["received"] == sum(counts[name] for name in ("applied", "rejected", "late", "duplicate"))
        kinds = [event["kind"] for event in self.faults]
        spoilt = {(e["user"], e["round"], e["slot"]) for e in self.faults if e["kind"] in ("nan", "corrupt")}
        assert counts["rejected"] == len(spoilt) > 0
        assert counts["applied"] + counts["rejected"] == 64 * rounds * SLOTS
        assert kinds.count("duplicate") <= counts["duplicate"] <= kinds.count("duplicate") + kinds.count("reorder")
        assert self.summary["events"]["returned"] >= kinds.count("disconnect") > 0


def test_five_hundred_slots_on_a_trunk_pile_nothing_up(tmp_path: Path) -> None:
    soaked = Soaked(tmp_path / "out", 10, "trunk=true")
    soaked.require_exact(10)
    assert np.ptp(soaked.held["fds"][2:]) <= 2
    assert soaked.growth(behind=4) < 4


@pytest.mark.slow
def test_ten_thousand_slots_grow_by_less_than_a_mebibyte_per_thousand(tmp_path: Path) -> None:
    soaked = Soaked(tmp_path / "out", 200)
    soaked.require_exact(200)
    assert np.ptp(soaked.held["fds"][2:]) <= 2
    assert soaked.growth(behind=4) < 1
