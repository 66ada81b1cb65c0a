"""Runs that live, stopped early, or are damaged."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import manifest, write_json, write_run

from sim.report import build as report
from sim.report.lines import moving_mean
from sim.report.page import compose
from sim.report.style import spread


def to_journals(folder, rounds, slots):
    """What a living run has on disk: journals, one batch per round, and no Parquet or summary."""
    for name, columns in (("rounds", rounds), ("slots", slots)):
        table = pq.read_table(folder / f"{name}.parquet")
        (folder / f"{name}.parquet").unlink()
        numbers = np.array(columns["round"])
        with pa.OSFile(str(folder / f"{name}.arrows"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
            for number in np.unique(numbers):
                out.write_table(table.filter(pa.array(numbers == number)))
    (folder / "summary.json").unlink()
    write_json(folder / "manifest.json", manifest("tiny", status="running"))


def test_a_living_run_is_read_from_its_journals(tmp_path):
    folder = tmp_path / "run"
    rounds, slots = write_run(folder)
    to_journals(folder, rounds, slots)
    (found,) = report.table([folder])
    assert found["status"] == "running"
    assert found["rounds"] == 6
    assert found["fairness"] == pytest.approx(np.mean(rounds["fairness"]))
    assert found["bytes"]["attacked"]["up"] == 24 * 144_210
    assert found["wall_seconds"] is None
    u = rounds["mean_utility"].reshape(6, 2).mean(0)
    assert found["worst_utility"] == pytest.approx(u.min())
    assert found["jain"] == pytest.approx(u.sum() ** 2 / (2 * (u**2).sum()))
    assert "not yet" not in compose([folder]).html.split("<main>")[0]


def test_a_journal_cut_in_mid_record_keeps_its_whole_rounds(tmp_path):
    folder = tmp_path / "run"
    rounds, slots = write_run(folder)
    to_journals(folder, rounds, slots)
    journal = folder / "rounds.arrows"
    journal.write_bytes(journal.read_bytes()[:-300])
    (found,) = report.table([folder])
    assert 1 <= found["rounds"] < 6
    assert "the rounds journal ends in an unfinished record, left out" in compose([folder]).html


@pytest.mark.parametrize("state", ["no files yet", "journal without a schema", "no rows"])
def test_a_run_without_rounds_says_so(tmp_path, state):
    folder = tmp_path / "run"
    rounds, slots = write_run(folder, rounds=1)
    if state == "no rows":
        for name in ("rounds", "slots"):
            pq.write_table(pq.read_table(folder / f"{name}.parquet")[:0], folder / f"{name}.parquet")
        write_json(folder / "summary.json", {"fairness_mean": None, "utility_mean": {}, "bytes": {}})
    else:
        to_journals(folder, rounds, slots)
        for name in ("rounds", "slots"):
            (folder / f"{name}.arrows").unlink()
            if state == "journal without a schema":
                (folder / f"{name}.arrows").write_bytes(b"")
    paths = report.build([folder])
    assert "tiny has no rounds" in paths.html.read_text()
    assert paths.pngs == ()
    assert paths.table[0].fairness is None


@pytest.mark.parametrize("users", [("clean", "attacked"), tuple(f"user{index}" for index in range(12))])
def test_an_empty_run_beside_a_full_one_is_named_and_the_full_one_drawn(tmp_path, users):
    write_run(tmp_path / "full", name="full", users=users)
    rounds, slots = write_run(tmp_path / "empty", name="empty", users=users, rounds=1)
    to_journals(tmp_path / "empty", rounds, slots)
    for name in ("rounds", "slots"):
        (tmp_path / "empty" / f"{name}.arrows").unlink()
    page = compose([tmp_path / "full", tmp_path / "empty"])
    assert "tiny has no rounds" in page.html
    assert len(page.charts) > 4
    assert "compare them with care" not in page.html


def test_users_absent_for_a_while_leave_gaps_not_numbers(tmp_path):
    folder = tmp_path / "run"
    write_run(folder)
    table = pq.read_table(folder / "rounds.parquet")
    keep = (np.array(table["round"]) < 2) | (np.array(table["user"]) == "clean")
    pq.write_table(table.filter(pa.array(keep)), folder / "rounds.parquet")
    slots = pq.read_table(folder / "slots.parquet")
    away = (np.array(slots["round"]) >= 2) & (np.array(slots["user"]) == "attacked")
    status = pa.array(np.where(away, "absent", "applied").tolist())
    pq.write_table(slots.set_column(slots.column_names.index("status"), "status", status), folder / "slots.parquet")
    text = compose([folder]).html
    assert "32 applied, 16 absent" in text


def test_null_and_infinite_numbers_are_not_drawn_as_numbers(tmp_path):
    folder = tmp_path / "run"
    rounds, _ = write_run(folder)
    values = np.array(rounds["fairness"])
    values[:2] = np.inf
    rounds["fairness"] = pa.array([None, None, *values[2:]], pa.float64())
    pq.write_table(pa.table(rounds), folder / "rounds.parquet")
    write_json(folder / "summary.json", {"fairness_mean": None})
    assert report.table([folder])[0]["fairness"] == pytest.approx(values[2:].mean())


@pytest.mark.parametrize("name", ["manifest.json", "scenario.yaml", "rounds.parquet"])
def test_a_missing_file_is_named_in_one_line(tmp_path, name):
    write_run(tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    with pytest.raises(report.UnreadableRun, match=f"is not a run: {name} is missing") as raised:
        report.build([tmp_path / "run"])
    assert "\n" not in str(raised.value)


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(report.UnreadableRun, match="nowhere is not a run"):
        report.table([tmp_path / "nowhere"])


@pytest.mark.parametrize("name", ["rounds.parquet", "slots.parquet"])
def test_a_truncated_parquet_file_is_named_in_one_line(tmp_path, name):
    path = tmp_path / "run" / name
    write_run(tmp_path / "run")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(report.UnreadableRun, match=f"{name}: cut short or damaged") as raised:
        report.build([tmp_path / "run"])
    assert "\n" not in str(raised.value)


def test_a_missing_column_is_named(tmp_path):
    write_run(tmp_path / "run")
    table = pq.read_table(tmp_path / "run" / "rounds.parquet").drop_columns(["user"])
    pq.write_table(table, tmp_path / "run" / "rounds.parquet")
    with pytest.raises(report.UnreadableRun, match=r"rounds\.parquet: column 'user' is missing"):
        report.table([tmp_path / "run"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("manifest.json", "{", r"manifest\.json:1: not JSON"),
        ("manifest.json", "[]", r"manifest\.json: must hold one JSON object"),
        ("scenario.yaml", "a: [", r"scenario\.yaml: not YAML"),
        ("events.jsonl", '{"event": "join"}\noops\n{"event": "leave"}\n', r"events\.jsonl:2: not JSON"),
        ("events.jsonl", "3\n", r"events\.jsonl:1: an event must be one JSON object"),
    ],
)
def test_damaged_text_is_named_with_its_line(tmp_path, name, content, said):
    write_run(tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(report.UnreadableRun, match=said) as raised:
        report.table([tmp_path / "run"])
    assert "\n" not in str(raised.value)


def test_an_event_still_being_written_is_left_out_and_said(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "events.jsonl").write_text(json.dumps({"event": "join"}) + '\n{"event": "le')
    text = compose([tmp_path / "run"]).html
    assert "events.jsonl ends in an unfinished record" in text
    assert "1 × join" in text  # noqa: RUF001


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_labels_stay_inside_apart_and_in_order(heights):
    placed = spread(heights, 0.1)
    order = np.argsort(heights, kind="stable")
    assert np.all(np.diff(np.array(placed)[order]) >= 0.1 - 1e-9)
    assert min(placed) >= 0
    assert max(placed) <= 1 + 1e-9


@given(st.lists(st.floats(-10, 10), min_size=5, max_size=40), st.sampled_from([1, 3, 5]))
def test_the_moving_mean_is_the_mean_of_the_neighbours(values, width):
    y = np.array(values)
    half = width // 2
    expected = [np.mean(y[max(0, index - half) : index + half + 1]) for index in range(len(y))]
    np.testing.assert_allclose(moving_mean(y, width), expected, atol=1e-9)
