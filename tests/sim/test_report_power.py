"""The report of power trainers says what their directories say, alone or side by side, and mixes no kinds."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from power_runs import SMALL, command, written
from report_page import Page
from typer.testing import CliRunner

import runs
from sim.cli import app
from sim.report import build as report
from sim.report.words import number, signed

Made = tuple[Path, report.ReportPaths, Page]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A routed run, and a rival whose multipliers run away."""
    folder = tmp_path_factory.mktemp("power")
    groups = [*SMALL["tasks"], {"problem": "p4", "users": [2]}]
    file = written(folder, tasks=groups)
    assert command(file, folder / "routed", "--quiet").exit_code == 0
    rival = written(folder / "rival", tasks=groups, scheme="naive", dual_rate=1000.0, stages=[100, 0])
    assert command(rival, folder / "naive", "--quiet").exit_code == 0
    return folder / "routed", folder / "naive"


@pytest.fixture(scope="module")
def alone(two: tuple[Path, Path]) -> Made:
    made = report.build([two[0]])
    return two[0], made, Page(made.html.read_text())


@pytest.fixture(scope="module")
def side_by_side(two: tuple[Path, Path], alone: Made) -> Made:
    made = report.build([two[1], two[0]])
    return two[1], made, Page(made.html.read_text())


def power(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = runs.read_json(folder / "power.json")
    return found


def test_the_tables_of_tasks_are_those_of_power_json(alone: Made) -> None:
    folder, _, page = alone
    for task in power(folder)["tasks"]:
        cells = page.row(f"{task['problem']}, N = {task['n']}")
        if task["problem"] == "P3":
            gaps = [f"{100 * task[key]:.2f}" for key in ("gap_mean", "gap_median", "gap_p99")]
            assert cells == [*gaps, number(task["label_mse"]), number(task["delay_mse"])]
        else:
            shares = [f"{100 * task[key] / task['optimum']:.2f}" for key in ("rate", "threshold", "constant")]
            over = [signed(task[key]) for key in ("violation_mean", "violation_max")]
            assert cells == [number(task["rate"]), number(task["optimum"]), *shares, *over]


def test_the_summary_is_recomputed_from_power_json(alone: Made) -> None:
    folder, _, page = alone
    told = power(folder)
    limited = [task for task in told["tasks"] if task["problem"] == "P4"]
    shares = [task["percent_of_optimum"] for task in limited]
    expected = {
        "% of the optimum, least of all tasks": number(min(shares)),
        "% of the optimum, mean": number(float(np.mean(shares))),
        "mean power off its limit, worst task, W": number(max(abs(task["violation_mean"]) for task in limited)),
        "one user's mean power over its limit, worst, W": number(max(task["violation_max"] for task in limited)),
        "tasks above the threshold rule": f"{sum(task['rate'] > task['threshold'] for task in limited)} of 2",
        "steps": "50",
        "digest": runs.read_json(folder / "manifest.json")["digest"][:12],
    }
    assert {name: page.row(name)[0] for name in expected} == expected
    assert report.table([folder])[0]["tasks"] == told["tasks"]


def test_every_chart_is_there_and_the_page_needs_nothing_else(alone: Made) -> None:
    folder, made, page = alone
    names = ["rates", "violations", "label_losses", "loss", "overlap"]
    assert [path.stem for path in made.pngs] == names
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.parent == folder for path in made.pngs)
    text = made.html.read_text()
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "http:" not in outside
    assert "https:" not in outside
    assert not re.search(r"<(script|link|img|iframe|object)\b|@import|url\((?!#)", text)
    assert len(page.ids) == len(set(page.ids))
    assert text.count("<svg ") == 5
    assert f"equiran train-power {folder}/scenario.yaml" in text
    assert "1 × masks_hardened" in text  # noqa: RUF001


def test_equal_records_give_equal_pages(alone: Made) -> None:
    folder, made, _ = alone
    before = [path.read_bytes() for path in (made.html, *made.pngs)]
    assert [path.read_bytes() for path in (made.html, *report.build([folder]).pngs)] == before


def test_several_are_drawn_side_by_side_and_what_is_no_result_is_said(
    side_by_side: Made, two: tuple[Path, Path]
) -> None:
    _, made, page = side_by_side
    assert [row.run for row in made.table] == ["naive", "routed"]
    assert "naive: locked, with a rate below that of constant power: p4_capacity/3 and p4_capacity/2." in page.words
    assert any(words.startswith("naive: too far from the limit on mean power to be a result: ") for words in page.words)
    assert any(words.startswith("Nearest to the optimum in its worst task: routed with ") for words in page.words)
    rows = [cells for cells in page.rows if cells[:1] == ["P4, N = 3"]]
    assert len(rows) == 1
    shown = [cells[2] for cells in page.rows if len(cells) == 9 and cells[1] in ("naive", "routed")]
    told = {run.name: {(t["problem"], t["n"]): t for t in power(run)["tasks"]} for run in two}
    assert shown == [number(told[run]["P4", n]["rate"]) for n in (3, 2) for run in ("naive", "routed")]


def test_the_command_tells_the_table(two: tuple[Path, Path], alone: Made) -> None:
    result = CliRunner().invoke(app, ["report", str(two[0]), "--json"])
    told = json.loads(result.stdout)
    assert told["html"] == str(two[0] / "report.html")
    assert told["table"][0]["least_percent"] == min(
        task["percent_of_optimum"] for task in power(two[0])["tasks"] if task["problem"] == "P4"
    )


def test_kinds_are_not_mixed(two: tuple[Path, Path], tmp_path: Path) -> None:
    slots = runs.run(tmp_path, runs.kernel()).folder
    result = CliRunner().invoke(app, ["report", str(slots), str(two[0])])
    assert (result.exit_code, result.stdout) == (2, "")
    said = f"{slots} is a run with slots and {two[0]} one of train-power; make a report of each kind\n"
    assert result.stderr == said


def test_a_stopped_run_has_curves_and_no_scores(tmp_path: Path) -> None:
    assert command(written(tmp_path), tmp_path / "out", "--quiet", "--stop-after", "30").exit_code == 0
    made = report.build([tmp_path / "out"])
    assert "small has no scores: its policy is scored when all its steps are taken" in made.html.read_text()
    assert [path.stem for path in made.pngs] == ["rates", "violations", "label_losses", "loss"]


def test_a_live_run_is_read_up_to_its_last_whole_record(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command(written(tmp_path), out, "--quiet", "--stop-after", "30").exit_code == 0
    rows = pq.read_table(out / "progress.parquet")
    with (out / "progress.arrows").open("wb") as stream, pa.ipc.new_stream(stream, rows.schema) as writer:
        for batch in rows.to_batches(max_chunksize=3):
            writer.write_batch(batch)
    (out / "progress.arrows").write_bytes((out / "progress.arrows").read_bytes()[:-60])
    (out / "progress.parquet").unlink()
    manifest = runs.read_json(out / "manifest.json")
    (out / "manifest.json").write_text(json.dumps({**manifest, "status": "running"}))
    assert "the progress journal ends in an unfinished record" in report.build([out]).html.read_text()


def test_a_run_without_a_record_yet_is_a_page_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command(written(tmp_path), out, "--quiet", "--stop-after", "3").exit_code == 0
    assert report.build([out]).pngs == ()


def test_exports_hold_runs_and_tasks(two: tuple[Path, Path], tmp_path: Path) -> None:
    made = report.build(two, tmp_path)
    assert [path.name for path in made.exports] == ["runs.csv", "runs.parquet", "tasks.csv", "tasks.parquet"]
    tasks = pq.read_table(tmp_path / "tasks.parquet").to_pydict()
    assert tasks["rate"] == [task["rate"] for folder in two for task in power(folder)["tasks"]]
    assert pq.read_table(tmp_path / "runs.parquet")["run"].to_pylist() == [row.run for row in made.table]
    assert made.comparison == []
