"""`equiran diff`: equal runs are equal, and where two part is said to the row."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import power_runs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import runs
from sim.cli import app
from sim.differences.pairs import Rows, side_by_side
from sim.differences.runs import SLOTS
from sim.differences.tally import Kind, Tally
from sim.differences.trees import MISSING, differences
from sim.records import Journal
from sim.report.files import read_batches


def diff(a: Path, b: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["diff", str(a), str(b), *options], env={"COLUMNS": "80"})


def told(a: Path, b: Path) -> Any:
    result = diff(a, b, "--json")
    assert result.exit_code == int(json.loads(result.stdout)["differs"])
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.run(tmp_path_factory.mktemp("kernel"), runs.kernel(rounds=3)).folder


def changed(run: Path, folder: Path, row: int, **values: Any) -> Path:
    """A copy of a run with other values in one row of slots.parquet."""
    shutil.copytree(run, folder)
    table = pq.read_table(run / "slots.parquet").to_pylist()
    table[row] |= values
    pq.write_table(pa.Table.from_pylist(table, pq.read_schema(run / "slots.parquet")), folder / "slots.parquet")
    return folder


def test_another_transport_is_told_and_does_not_count(kernel: Path, tmp_path: Path) -> None:
    other = runs.run(tmp_path, runs.kernel(rounds=3), transport="grpc").folder
    found = told(kernel, other)
    assert not found["differs"]
    (part,) = found["parts"]
    assert part["scenario"] == [{"path": "transport", "a": "memory", "b": "grpc", "counts": False}]
    assert (part["manifest"], part["event"]) == ([], None)
    assert part["tables"]["slots"]["rows"] == {"a": 24, "b": 24}
    assert diff(kernel, other).stdout.splitlines()[-1] == "equal"


def test_one_bit_in_one_row_is_found(kernel: Path, tmp_path: Path) -> None:
    row = pq.read_table(kernel / "slots.parquet").to_pylist()[13]
    up = float(np.nextafter(row["loss"], 9.0))
    found = told(kernel, changed(kernel, tmp_path / "b", 13, loss=up))
    place = {key: row[key] for key in ("round", "slot", "user")}
    table = found["parts"][0]["tables"]["slots"]
    assert table["first"] == {**place, "values": {"loss": {"a": row["loss"], "b": up}}}
    assert table["columns"] == {"loss": {"rows": 1, "one_sided": 0, "largest": up - row["loss"], "at": place}}
    assert (table["differing"], table["shared"]) == (1, 24)
    text = diff(kernel, tmp_path / "b").stdout
    assert f"the first: round {row['round']}, slot {row['slot']}, user {row['user']}" in text
    assert repr(up) in text
    assert max(len(line.rstrip()) for line in text.splitlines()[2:]) <= 80


def test_absent_equals_absent_a_sign_of_zero_does_not(kernel: Path, tmp_path: Path) -> None:
    absent, zero = {"loss": None, "utility": None, "status": "absent"}, {"weight": 0.0}
    a = changed(changed(kernel, tmp_path / "x", 2, **absent), tmp_path / "a", 5, **zero)
    b = changed(changed(kernel, tmp_path / "y", 2, **absent), tmp_path / "b", 5, weight=-0.0)
    assert [*told(tmp_path / "x", tmp_path / "y")["parts"][0]["tables"]["slots"]["columns"]] == []
    table = told(a, b)["parts"][0]["tables"]["slots"]
    assert table["columns"]["weight"]["rows"] == 1
    one_sided = told(kernel, tmp_path / "x")["parts"][0]["tables"]["slots"]
    assert {name: (c["rows"], c["one_sided"]) for name, c in one_sided["columns"].items()} == {
        "loss": (1, 1), "utility": (1, 1), "status": (1, 0)
    }  # fmt: skip
    assert one_sided["columns"]["loss"]["largest"] is None


def test_another_step_fewer_rounds_and_another_user(kernel: Path, tmp_path: Path) -> None:
    tree = runs.changed(runs.kernel(many=3, rounds=2), edge__primal__step=0.06)
    other = runs.run(tmp_path, tree).folder
    found = told(kernel, other)["parts"][0]
    assert {key["path"]: (key.get("a"), key.get("b")) for key in found["scenario"]}["edge.primal.step"] == (0.05, 0.06)
    slots = found["tables"]["slots"]
    assert slots["only_rounds"] == {"a": [[2, 2]], "b": []}
    assert len(slots["only_users"]["b"]) == 1
    assert slots["rows"] == {"a": 24, "b": 24}
    assert slots["shared"] == 16
    summaries = [runs.read_json(folder / "summary.json")["utility_mean"] for folder in (kernel, other)]
    for user, means in slots["means"].items():
        for side, summary in zip("ab", summaries, strict=True):
            assert means[side] == (pytest.approx(summary[user]) if user in summary else None)
    assert "only A has rounds 2" in diff(kernel, other).stdout


def test_a_run_that_was_stopped_and_went_on_is_equal(kernel: Path, tmp_path: Path) -> None:
    file = runs.write(tmp_path, runs.kernel(rounds=3))
    half = ["run", str(file), "--out", str(tmp_path / "half"), "--stop-after", "1", "--quiet"]
    assert CliRunner().invoke(app, half).exit_code == 0
    found = told(kernel, tmp_path / "half")["parts"][0]
    assert {key["path"]: key.get("b") for key in found["manifest"]}["status"] == "stopped"
    assert found["tables"]["slots"]["only_rounds"]["a"] == [[1, 2]]
    assert CliRunner().invoke(app, ["resume", str(tmp_path / "half"), "--quiet"]).exit_code == 0
    found = told(kernel, tmp_path / "half")
    assert not found["differs"]
    assert found["parts"][0]["event"]["a"] is None


def test_a_run_under_way_is_compared_as_far_as_it_is(kernel: Path, tmp_path: Path) -> None:
    live = tmp_path / "live"
    shutil.copytree(kernel, live)
    table = pq.read_table(live / "slots.parquet")
    (live / "slots.parquet").unlink()
    journal = Journal(live, "slots", table.schema)
    for round_ in range(2):
        (batch,) = table.slice(8 * round_, 8).combine_chunks().to_batches()
        journal.append(batch)
    journal.sync()
    arrows = live / "slots.arrows"
    with arrows.open("ab") as file:
        file.write(b"\xff\xff\xff\xff\x10\x01\x00\x00half a rec")
    slots = told(kernel, live)["parts"][0]["tables"]["slots"]
    journal.close()
    assert (slots["rows"], slots["shared"], slots["differing"]) == ({"a": 24, "b": 16}, 16, 0)


def test_runs_beside_each_other_are_compared_by_name(tmp_path: Path) -> None:
    first, second = {"name": "one", "slots": 3}, {"name": "two", "slots": 2}
    a = runs.run(tmp_path / "a", {**runs.kernel(), "compare": [first, second]}).folder
    b = runs.run(tmp_path / "b", {**runs.kernel(), "compare": [first]}).folder
    found = told(a, b)
    assert [(part["name"], part["tables"]["slots"]["differs"]) for part in found["parts"]] == [
        ("", False),
        ("one", False),
    ]
    assert (found["differs"], found["only"]) == (True, {"a": ["two"], "b": []})
    assert "only A has two beside it" in diff(a, b).stdout


def test_power_trainers_and_a_run_with_slots(kernel: Path, tmp_path: Path) -> None:
    file = power_runs.written(tmp_path)
    for name, options in (("a", ()), ("b", ("--seed", "6")), ("c", ("--stop-after", "25"))):
        assert power_runs.command(file, tmp_path / name, "--quiet", *options).exit_code == 0
    found = told(tmp_path / "a", tmp_path / "b")["parts"][0]
    assert found["scenario"] == [{"path": "seed", "a": 5, "b": 6, "counts": True}]
    assert found["tables"]["progress"]["first"]["step"] == 10
    assert "tasks.0.gap_mean" in {key["path"] for key in found["power"]}
    half = told(tmp_path / "a", tmp_path / "c")["parts"][0]["tables"]["progress"]
    assert (half["differing"], half["only_steps"]["a"]) == (0, [[30, 30], [40, 40], [50, 50]])
    assert diff(tmp_path / "a", tmp_path / "b").exit_code == 1
    shutil.copytree(tmp_path / "a", tmp_path / "d")
    assert diff(tmp_path / "a", tmp_path / "d").stdout.splitlines()[-1] == "equal"
    mixed = diff(kernel, tmp_path / "a")
    assert (mixed.exit_code, mixed.stdout, mixed.stderr.count("\n")) == (2, "", 1)
    assert "is a power trainer's run" in mixed.stderr


def test_what_cannot_be_read_is_one_line(kernel: Path, tmp_path: Path) -> None:
    for folder, said in ((tmp_path, "manifest.json is missing"), (tmp_path / "no", "manifest.json is missing")):
        result = diff(kernel, folder)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert said in result.stderr
    torn = tmp_path / "torn"
    shutil.copytree(kernel, torn)
    (torn / "slots.parquet").write_bytes((kernel / "slots.parquet").read_bytes()[:200])
    result = diff(kernel, torn)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "torn/slots.parquet: cut short or damaged" in result.stderr


def test_many_rounds_in_batches_that_end_anywhere() -> None:
    rng = np.random.default_rng(5)
    rounds, users = 60_000, 4
    base = pa.table(
        {
            "round": pa.array(np.repeat(np.arange(rounds), users), pa.int32()),
            "user": np.tile([f"u{k}" for k in range(users)], rounds),
            "loss": rng.normal(size=rounds * users),
        }
    )
    other = base.to_pydict()
    other["loss"][123_457] += 1.0
    cut = pa.table(other, base.schema).slice(0, (rounds - 2) * users)
    tally = Tally(Kind("rounds", ("round",), "user"))
    ours, theirs = base.to_batches(max_chunksize=10_007), cut.to_batches(max_chunksize=33_331)
    largest = 0
    for a, b in side_by_side(Rows(iter(ours), "round"), Rows(iter(theirs), "round")):
        largest = max(largest, a.num_rows)
        tally.add(a, b)
    assert largest < 150_000
    assert (tally.shared, tally.differing, tally.columns["loss"].rows) == ((rounds - 2) * users, 1, 1)
    assert tally.columns["loss"].at == {"round": 123_457 // users, "user": f"u{123_457 % users}"}
    assert tally.only == ([[rounds - 2, rounds - 1]], [])
    assert SLOTS.decisive == ("loss", "utility", "weight", "status")


def test_reading_holds_a_few_rows_at_a_time(tmp_path: Path) -> None:
    groups, rows = 40, 65_536
    with pq.ParquetWriter(tmp_path / "slots.parquet", pa.schema([("loss", pa.float64())])) as file:
        for group in range(groups):
            file.write_table(pa.table({"loss": np.random.default_rng(group).normal(size=rows)}))
    before, most, read = pa.total_allocated_bytes(), 0, 0
    for batch in read_batches(tmp_path, "slots", live=False):
        read += batch.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert read == groups * rows
    assert most < groups * rows * 8 / 4


def test_trees_by_name_and_by_place() -> None:
    a = {"users": [{"name": "x", "batch": 1}, {"name": "y"}], "stages": [1, 2], "tasks": [{"n": 1}], "hosts": "auto"}
    b = {"users": [{"name": "y"}, {"name": "x", "batch": 2}], "stages": [1], "tasks": [{"n": 2}], "hosts": 2, "z": None}
    found = [(one.path, one.a, one.b, one.counts) for one in differences(a, b, frozenset({"hosts"}))]
    assert found == [
        ("users (names)", ["x", "y"], ["y", "x"], True),
        ("users.x.batch", 1, 2, True),
        ("stages", [1, 2], [1], True),
        ("tasks.0.n", 1, 2, True),
        ("hosts", "auto", 2, False),
        ("z", MISSING, None, True),
    ]
