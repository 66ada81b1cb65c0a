"""`equiran sweep`: its grid, what it refuses, its table and its picture."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import runs
from sim.cli import app
from sim.effective import inline
from sim.scenario import ScenarioErrors
from sim.sweep import plan as plans
from sim.sweep.grid import Axis, axes, points
from sim.sweep.picture import series
from sim.sweep.plan import is_done, jobs_that_fit, plan
from sim.sweep.table import MEASURES, Mean, Row, Table, shown
from sim.yaml_lines import parse_option, plain

STEP = "edge.primal.step=0.01,0.1"


def sweep(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["sweep", *(str(argument) for argument in arguments)])


def manifests(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/manifest.json")}


def lines(out: Path) -> list[dict[str, str]]:
    with (out / "sweep.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=1,2,3", (1, 2, 3)),
        ("a=1e-3, no,null", (0.001, "no", None)),
        ("a=[1, 2],[3]", ([1, 2], [3])),
        ("a={b: [1, 2], c: x},{b: none}", ({"b": [1, 2], "c": "x"}, {"b": "none"})),
        ("a='x, y',\"z\"", ("x, y", "z")),
        ("a=my.part:Class", ("my.part:Class",)),
    ],
)
def test_values_are_the_inside_of_a_yaml_list(text: str, values: tuple[object, ...]) -> None:
    assert axes([text]) == [Axis(text.partition("=")[0], values)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a", "expected a.b=1,2,3"),
        ("a..b=1", "expected a.b=1,2,3"),
        ("a=", "has no values"),
        ("a=1,1.0,1", "1 is there twice"),
        ("a={b: 1", "--over a={b: 1"),
        ("a=[1, 2", "--over a=[1, 2"),
        ("seed=1,2", "--seeds N"),
        ("transport=grpc", "give --transport"),
        ("compare=[]", "cannot be swept"),
    ],
)
def test_what_is_no_list_of_values_is_refused(text: str, said: str) -> None:
    with pytest.raises(ScenarioErrors, match=r"^--over ") as raised:
        axes([text])
    assert said in str(raised.value)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Co", "Cn"))
)  # fmt: skip
trees = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text("abc", min_size=1), inner))


@given(trees)
def test_a_value_on_one_line_reads_as_itself(value: object) -> None:
    assert plain(parse_option(inline(value), "--over")) == value


some_numbers = st.lists(st.integers(), min_size=1, max_size=4, unique=True)
some_words = st.lists(st.text("ab,{ #/", max_size=90), min_size=1, max_size=4, unique=True)


@given(some_numbers, some_words)
def test_a_grid_is_every_combination_with_a_folder_of_its_own(numbers: list[int], words: list[str]) -> None:
    grid = points([Axis("a.n", tuple(numbers)), Axis("w", tuple(words))], 1)
    assert [point.values for point in grid] == [(n, w) for n in numbers for w in words]
    assert len({point.label for point in grid}) == len(grid)
    assert all("/" not in point.label and len(point.label) < 100 for point in grid)


def test_a_grid_has_a_limit() -> None:
    with pytest.raises(ScenarioErrors, match="12000 runs, at most 10000"):
        points([Axis("a", tuple(range(3000)))], 4)


def test_everything_wrong_is_said_at_once_and_nothing_starts(tmp_path: Path) -> None:
    file = runs.write(tmp_path, runs.kernel())
    out = tmp_path / "out"
    told = sweep(file, "--over", "edge.primal.step=0.1,-1", "--over", "slots=0,3", "--set", "rouds=3", "--out", out)
    assert told.exit_code == 2
    found = told.stderr.splitlines()
    assert len(found) == 3, found
    assert any(line.startswith("--over slots=0: slots: must be at least 1") for line in found)
    assert any(line.startswith("--over edge.primal.step=-1: edge.primal.step: ") for line in found)
    assert any(line.startswith("--set rouds=3: rouds: unknown key") for line in found)
    assert not out.exists()


def test_an_error_of_one_combination_names_it(tmp_path: Path) -> None:
    file = runs.write(tmp_path, runs.kernel())
    with pytest.raises(ScenarioErrors) as raised:
        plan(file, ["edge.aggregator.u_min=1,5", "slots=3,4"], 1, (), "memory")
    (line,) = raised.value.errors
    assert line.endswith("(with edge.aggregator.u_min=5, slots=3)") or line.startswith("--over ")


def test_a_sweep_makes_a_table_and_a_picture_and_goes_on_with_more(tmp_path: Path) -> None:
    beside = [{"name": "equal", "edge.aggregator.kind": "constant"}]
    tree = runs.changed(runs.kernel(rounds=1, transport="ray", compare=beside), edge__meta__target="oracle")
    file, out = runs.write(tmp_path, tree), tmp_path / "out"
    options = [
        "--over",
        "edge.aggregator={kind: owo_fmtl},{kind: constant, weights: equal}",
        "--out",
        out,
        "--jobs",
        1,
        "--json",
    ]
    first = sweep(file, *options, "--over", STEP, "--seeds", 1)
    assert first.exit_code == 0, first.output
    assert "compare is left out" in first.stderr
    before = manifests(out)
    assert len(before) == 4
    more = sweep(file, *options, "--over", f"{STEP},theory", "--seeds", 2)
    assert more.exit_code == 1, more.output
    assert {path: manifests(out)[path] for path in before} == before
    check_told(json.loads(more.stdout), lines(out))
    alone = runs.run(tmp_path, runs.changed(tree, edge__primal__step=0.01, compare=[]), "grpc")
    assert lines(out)[0]["digest"] == alone.digest


def check_told(told: runs.Tree, rows: list[dict[str, str]]) -> None:
    assert (told["runs"], told["failed"], len(told["points"])) == (12, 4, 6)
    for row in rows:
        assert row["status"] == ("failed" if row["edge.primal.step"] == "theory" else "done")
        assert ("D* is 0" in row["error"], row["fairness_mean"] == "") == (row["status"] == "failed",) * 2
    assert [row["seed"] for row in rows] == ["3", "4"] * 6
    assert rows[-1]["edge.aggregator"] == "{kind: constant, weights: equal}"
    first, second = (float(row["fairness_mean"]) for row in rows[:2])
    mean = told["points"][0]["fairness_mean"]
    assert mean["mean"] == pytest.approx((first + second) / 2)
    assert mean["spread"] == pytest.approx(abs(first - second) / np.sqrt(2))
    assert told["points"][2]["fairness_mean"] is None
    assert Path(told["picture"]).read_bytes().startswith(b"\x89PNG")


def test_a_run_of_other_versions_or_another_scenario_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = runs.write(tmp_path, runs.kernel())
    (planned,) = plan(file, ["slots=4"], 1, (), "memory").runs
    assert not is_done(planned, tmp_path)
    assert planned.run.run(tmp_path / planned.run.name, lambda: False)[0] == "done"
    assert is_done(planned, tmp_path)
    (other,) = plan(file, ["slots=4"], 1, ["rounds=3"], "memory").runs
    assert not is_done(other, tmp_path)
    known = plans.versions()
    monkeypatch.setattr(plans, "versions", lambda: {**known, "torch": "0.0"})
    assert not is_done(planned, tmp_path)


def test_runs_at_a_time_are_cores_over_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans.joblib, "cpu_count", lambda: 6)
    file = runs.write(tmp_path, runs.kernel())
    assert jobs_that_fit(plan(file, ["threads.edge=1"], 1, (), "memory").runs) <= 6
    assert jobs_that_fit(plan(file, ["threads.edge=1,3"], 1, (), "grpc").runs) == 2
    assert jobs_that_fit(plan(file, ["threads.edge=8"], 1, (), "memory").runs) == 1
    assert jobs_that_fit(plan(file, ["threads.edge=1"], 1, (), "ray").runs) == 1


def table(along: list[Axis], fairness: list[list[float | None]]) -> Table:
    grid = points(along, 1)
    measures = dict.fromkeys(MEASURES)
    rows = [
        Row(point, seed, {**measures, "fairness_mean": value}, None, None if value else "no", "")
        for point, values in enumerate(fairness)
        for seed, value in enumerate(values)
    ]
    return Table(along, grid, rows)


def test_a_picture_has_a_line_per_second_key_over_the_sorted_first() -> None:
    made = table([Axis("x", (3, 1)), Axis("a.b", ("p", "q"))], [[30.0, 32.0], [40.0, 42.0], [10.0, None], [20.0, 22.0]])
    p, q = series(made, "fairness_mean")
    assert (p.label, q.label) == ("b=p", "b=q")
    assert p.x.tolist() == [1, 3]
    np.testing.assert_array_equal(p.y, [[10, np.nan], [30, 32]])
    np.testing.assert_array_equal(q.y, [[20, 22], [40, 42]])


def test_words_stand_in_the_order_they_were_given() -> None:
    (line,) = series(table([Axis("x", ("b", "a"))], [[1.0], [2.0]]), "fairness_mean")
    assert (line.x.tolist(), line.y.tolist()) == ([0, 1], [[1], [2]])


def test_the_terminal_shows_means_and_spreads() -> None:
    made = table([Axis("a.x", (1, 2)), Axis("b.x", (1,))], [[1.0, 3.0], [None, None]])
    assert shown(made) == [
        {"a.x": "1", "b.x": "1", "seeds": 2, "fairness": Mean(2.0, 2**0.5)},
        {"a.x": "2", "b.x": "1", "seeds": 0, "fairness": None},
    ]


@pytest.mark.parametrize(
    ("mean", "spread", "said"),
    [
        (0.5, None, "0.5"),
        (2.0, 2**0.5, "2.0 ± 1.4"),
        (-0.007247, 0.0081, "-0.007 ± 0.008"),
        (0.31321, 0.00142, "0.3132 ± 0.0014"),
        (1.0, 8e-6, "1.0000 ± 0.0000"),
        (1234.5, 12.3, "1234 ± 12"),
        (0.5, 0.0, "0.5000 ± 0.0000"),
        (3.12345e-5, 1.04e-5, "3.123e-05 ± 1e-05"),
        (-1e-5, 4e-5, "-1e-05 ± 4e-05"),
    ],
)
def test_a_mean_has_the_decimals_that_its_spread_leaves_sure(mean: float, spread: float | None, said: str) -> None:
    assert str(Mean(mean, spread)) == said


def test_seeds_alone_are_a_sweep_of_one_point(tmp_path: Path) -> None:
    scenario = runs.write(tmp_path, runs.kernel(rounds=2, slots=2))
    done = sweep(scenario, "--seeds", 2, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert [(row["seed"], row["status"]) for row in lines(tmp_path / "out")] == [("3", "done"), ("4", "done")]
    assert {path.parent.name for path in (tmp_path / "out/runs").glob("*/*")} == {"seeds"}
    assert str(tmp_path / "out/sweep.csv") in done.stdout
    assert "sweep.png" not in done.stdout
