"""An encoder that no memory here can hold is told before anything starts, or by the edge that stands elsewhere."""

from pathlib import Path

import pytest
from torch import nn

import runs
import sim.room
from edge_server.compute import Inline
from sim.build import build_rounds
from sim.caller import BadScenario, Watcher
from sim.faulty_edge import build_cell
from sim.planning import blueprint
from sim.runner import run
from sim.theory import resolve_step

TREE = runs.digits(many=2)
LINE = r"its [\d,]+ parameters need about [\d,]+ GB at the edge, this machine has \d+ GB: take fewer"


class Small:
    """The memory of a machine with 50 kB: an encoder with more than this one would make the tests slow."""

    total = 50_000


def test_it_needs_sixteen_times_its_parameters() -> None:
    assert sim.room.edge_bytes(nn.Linear(1000, 100)) == 16 * 4 * 100_100


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_it_is_one_line_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    monkeypatch.setattr(sim.room.psutil, "virtual_memory", Small)
    with pytest.raises(BadScenario, match=rf"scenario\.yaml:\d+: edge\.encoder: {LINE}"):
        run(runs.loaded(tmp_path, TREE, transport), tmp_path / "out", None, Watcher())
    assert not (tmp_path / "out").exists()


def test_the_edge_looks_at_its_own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Ray it is not the one where the scenario was checked."""
    design = blueprint(runs.loaded(tmp_path, TREE, "ray").scenario, "r")
    step = resolve_step(design, print, lambda: False)
    monkeypatch.setattr(sim.room.psutil, "virtual_memory", Small)
    with pytest.raises(ValueError, match=LINE):
        build_rounds(design, step, build_cell(design, print, lambda: False), Inline(1), print, print)
