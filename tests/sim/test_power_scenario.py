"""What a power scenario may say, and that everything wrong with it is said before anything starts."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from power_runs import BEST, command, written

from edge_server.power_config import P3, P4, Cell, Problems, RoutedMtl
from edge_server.routed_mtl.channels import Jakes, PathLoss
from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.p3_delay import PRESETS
from edge_server.routed_mtl.p3_min_max import P3MinMax
from edge_server.routed_mtl.problems import Problem
from edge_server.routed_mtl.tasks import Tasks
from sim.power_scenario import load_power
from sim.scenario import ScenarioErrors


def test_the_options_and_their_defaults_are_those_of_the_design() -> None:
    config = RoutedMtl(kind="routed_mtl")
    assert config.design(7) == Design(seed=7)
    extra = {"kind", "problems", "tasks", "samples", "every"}
    assert {*RoutedMtl.model_fields} - extra == {field.name for field in fields(Design)} - {"seed"}
    assert len(config.built_tasks()) == 14


def test_presets_and_what_differs_from_them() -> None:
    literal: Problem = PRESETS["literal"]
    assert P3(preset="literal").built() == literal
    assert P3(preset="literal", floor=0.5).built().floor == 0.5  # type: ignore[attr-defined]
    moved = P4(p_av=0.2, channel={"kind": "jakes", "doppler": 0.01}).built()  # type: ignore[arg-type]
    assert (moved.p_av, moved.channel) == (0.2, Jakes(0.01))  # type: ignore[attr-defined]
    slowest = Problems(p3_min_max={"rho": 10.0, "payload_ratio": 30.0}).built()["p3_min_max"]  # type: ignore[arg-type]
    assert slowest == P3MinMax(rho=10.0, payload_ratio=30.0)
    ring = Cell(kind="cell", exponent=3.5, sigma_db=8, nearest_m=10, farthest_m=100).built()
    assert ring.path_loss == PathLoss(3.5)  # type: ignore[attr-defined]


def test_tasks_keep_their_order() -> None:
    config = RoutedMtl(kind="routed_mtl", tasks=[{"problem": "p4", "users": [4, 3]}, {"problem": "p3", "users": [2]}])  # type: ignore[list-item]
    tasks: Tasks = config.built_tasks()
    assert [str(task) for task in tasks] == ["p4_capacity/4", "p4_capacity/3", "p3_delay/2"]


TASK = "edge.server_tasks.0"
BAD = [
    (f"{TASK}.skp=true", f'{TASK}.skp: unknown key; did you mean "skip"?'),
    (f"{TASK}.scheme=rooted", f"{TASK}.scheme: expected routed | single | naive | zero_padding | equivariant"),
    (f"{TASK}.kind=routed", f"{TASK}.kind: unknown kind 'routed'; did you mean \"routed_mtl\"?"),
    (f"{TASK}.stages=[5, 5, 5]", f"{TASK}: stages must be the steps [t1, t2] of both stages, got 3 numbers"),
    (f"{TASK}.stages=[0, 0]", f"{TASK}: design: stages must be (t1, t2), not negative and not both 0"),
    (f"{TASK}.stages=[5, -1]", f"{TASK}.stages.1: must be at least 0, got -1"),
    (f"{TASK}.rate=0", f"{TASK}.rate: must be above 0, got 0"),
    (f"{TASK}.w3=.nan", f"{TASK}.w3: must be finite"),
    (f"{TASK}.problems.p4.p_av=2", f"{TASK}.problems.p4: p4: the mean power P_av = 2 W must be at most P_tot = 1 W"),
    (f"{TASK}.problems.p5=default", f"{TASK}.problems.p5: unknown key; known here: p3, p3_min_max, p4"),
    (f"{TASK}.problems.p3.channel={{kind: rice, k_factor: 1}}", "unknown kind 'rice'"),
    (
        f"{TASK}.problems.p3.channel={{kind: cell, exponent: 3, nearest_m: 9, farthest_m: 5}}",
        f"{TASK}.problems.p3.channel: cell: nearest_m = 9.0 must be below farthest_m = 5.0",
    ),
    (
        f"{TASK}.tasks=[{{problem: p6, users: [5]}}]",
        f"{TASK}.tasks.0.problem: must be p3, p3_min_max, p4 or package.module:Class",
    ),
    (f"{TASK}.tasks=[{{problem: p3, users: [0]}}]", f"{TASK}.tasks.0.users.0: must be at least 1, got 0"),
    (f"{TASK}.tasks=[{{problem: p3, users: []}}]", f"{TASK}.tasks.0: users must hold at least one number"),
    (f"{TASK}.tasks=[]", f"{TASK}: tasks must hold at least one task"),
    (f"{TASK}.tasks=[{{problem: p3, users: [5, 5]}}]", f"{TASK}: task p3/5 is given more than once"),
    (f"{TASK}.tasks=[{{problem: p3, args: {{a: 1}}, users: [5]}}]", "args are for a problem of your own"),
    (f"{TASK}.problems.p3_min_max.payload_ratio=0.5", f"{TASK}.problems.p3_min_max.payload_ratio: must be at least 1"),
    (f"{TASK}.places=10", f"{TASK}: task p3/12 has more users than places (10); raise places"),
    (f"{TASK}.samples.train=0", f"{TASK}.samples.train: must be at least 1, got 0"),
    (f"{TASK}.device=tpu", f"{TASK}.device: must be cpu, cuda or cuda:N, got 'tpu'"),
    ("edge.server_tasks=[]", "edge: server_tasks must hold one task to train by itself, got 0"),
    ("users=[]", "users: unknown key"),
    ("seed=-1", "seed: must be at least 0, got -1"),
]


@pytest.mark.parametrize(("option", "message"), BAD, ids=[row[0] for row in BAD])
def test_bad_input_is_one_line(option: str, message: str) -> None:
    with pytest.raises(ScenarioErrors) as raised:
        load_power(BEST, [option])
    assert [error for error in raised.value.errors if message in error], raised.value.errors
    assert len(raised.value.errors) == 1


def test_errors_come_all_at_once_with_their_lines(tmp_path: Path) -> None:
    file = written(tmp_path, w3=-1, batch=0)
    text = file.read_text() + "seed: 6\n"
    file.write_text(text)
    lines = {key: text.splitlines().index(key) + 1 for key in ("    w3: -1", "    batch: 0", "seed: 6")}
    result = command(file, tmp_path / "out")
    assert result.exit_code == 2
    places = [line.split(": ")[0] for line in result.stderr.splitlines()]
    assert places == [f"{file}:{number}" for number in sorted(lines.values())]
    assert "duplicate key; first given in line 3" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": [{"problem": "nowhere:Own", "users": [2]}]}, "problem nowhere:Own: cannot import nowhere: Module"),
        ({"tasks": [{"problem": "math:sqrt", "users": [2]}]}, "problem math:sqrt: TypeError"),
        ({"device": "cuda:7"}, "torch sees no GPU here"),
    ],
)
def test_what_cannot_be_built_starts_nothing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    if "device" in changes and torch.cuda.is_available():
        message = "cuda"
    file = written(tmp_path, **changes)
    result = command(file, tmp_path / "out")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{file}:6: {TASK}: ")
    assert message in line
    assert not (tmp_path / "out").exists()
