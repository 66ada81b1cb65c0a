"""Runs over several seeds: grouped, averaged, compared seed by seed, exported, and told apart by shape."""

import csv
import json
from math import sqrt
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from report_page import Page
from report_runs import write_json, write_run
from scipy import stats
from typer.testing import CliRunner

from sim.cli import app
from sim.report.comparison import MEASURES, verdict
from sim.report.estimates import Estimate, estimate
from sim.report.folders import run_folders
from sim.report.page import compose
from sim.report.style import GLYPHS, MARKERS, RUN_COLOURS, run_colour, run_dash, run_glyph, run_marker
from sim.report.words import number

EQUAL = {"kind": "constant", "alpha": 1.0, "u_min": 1.0, "u_max": 3.3}


def fairness(folder: Path, seeds: range, name: str, gain: float = 1.0, **changes) -> list[float]:
    """Runs of these seeds in `folder`/NAME_SEED, and the mean fairness of each."""
    made = [write_run(folder / f"{name}_{seed}", name=name, seed=seed, gain=gain, **changes)[0] for seed in seeds]
    return [float(np.mean(rounds["fairness"])) for rounds in made]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two groups of runs with three common seeds of five: folders, fairness of each, and the page."""
    folder = tmp_path_factory.mktemp("runs")
    ours = fairness(folder, range(4), "ours", regret=True)
    theirs = fairness(folder, range(1, 5), "theirs", gain=8.0, aggregator=EQUAL)
    folders = [*sorted(folder.glob("ours_*")), *sorted(folder.glob("theirs_*"))]
    return folders, (ours, theirs), compose(folders)


def test_means_and_intervals_are_those_of_students_t(two) -> None:
    _, found, made = two
    lines = [line for line in made.comparison if line["measure"] == "fairness_mean"]
    assert [(line["group"], line["seeds"]) for line in lines] == [("ours", 4), ("theirs", 4)]
    for line, values in zip(lines, found, strict=True):
        expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert line["mean"] == pytest.approx(np.mean(values), rel=1e-12)
        assert (line["low"], line["high"]) == pytest.approx(expected, rel=1e-9)


def test_differences_are_paired_by_seed(two) -> None:
    _, (ours, theirs), made = two
    base, other = (line for line in made.comparison if line["measure"] == "fairness_mean")
    assert (base["verdict"], base["difference"], other["base"]) == ("base", None, "ours")
    paired = stats.ttest_rel(theirs[:3], ours[1:])
    assert other["common_seeds"] == 3
    assert other["difference"] == pytest.approx(np.mean(np.subtract(theirs[:3], ours[1:])), rel=1e-12)
    ends = paired.confidence_interval(0.95)
    assert (other["difference_low"], other["difference_high"]) == pytest.approx((ends.low, ends.high), rel=1e-9)
    assert (other["verdict"] == "not told apart") == (paired.pvalue > 0.05)


def test_the_page_shows_groups_and_names_their_seeds(two) -> None:
    _, (ours, theirs), made = two
    page = Page(made.html)
    assert page.row("mean fairness") == [number(np.mean(ours)), number(np.mean(theirs))]
    assert page.row("seed") == ["0 to 3", "1 to 4"]
    assert "owo_fmtl" in page.row("aggregator")[0]
    assert page.row("not as ours")[1].startswith("edge.aggregator.kind=constant")
    assert [chart.key for chart in made.charts][:3] == ["means", "differences", "fairness"]
    assert [row.seed for row in made.table] == [0, 1, 2, 3, 1, 2, 3, 4]
    assert made.html.count("equiran run ") == 8
    singles = [cells for cells in page.rows_after("Jain") if len(cells) == 9]
    assert [cells[2] for cells in singles] == [number(value) for value in (*ours, *theirs)]


def test_figures_draw_the_mean_over_seeds(two) -> None:
    folders, (ours, _), _ = two
    rounds = [np.asarray(pq.read_table(folder / "rounds.parquet")["mean_utility"]) for folder in folders[:4]]
    page = Page(compose(folders[:4]).html)
    cells = next(cells for cells in page.rows_after("val. accuracy") if cells[0] == "clean")
    assert cells[2] == number(np.mean([values.reshape(6, 2)[:, 0].mean() for values in rounds]))
    assert "Mean fairness over rounds: " + number(np.mean(ours)) in "".join(page.words)


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    fairness(tmp_path, range(1), "ours")
    fairness(tmp_path, range(1), "theirs", gain=8.0, aggregator=EQUAL)
    made = compose(sorted(tmp_path.iterdir()))
    other = made.comparison[1]
    assert (other["verdict"], other["low"], other["difference_low"]) == ("one seed, no interval", None, None)
    assert "means" not in {chart.key for chart in made.charts}


def test_another_alpha_is_another_measure(tmp_path: Path) -> None:
    fairness(tmp_path, range(2), "ours")
    fairness(tmp_path, range(2), "theirs", aggregator={**EQUAL, "alpha": 2.0})
    lines = {(line["measure"], line["group"]): line for line in compose([tmp_path]).comparison}
    assert lines["fairness_mean", "theirs"]["verdict"] == "another measure"
    assert lines["fairness_mean", "theirs"]["difference"] is None
    assert lines["worst_utility", "theirs"]["verdict"] == "equal"


def test_a_seed_that_is_there_twice_is_not_averaged_twice(tmp_path: Path) -> None:
    for copy in ("one", "two"):
        fairness(tmp_path / copy, range(3), "same")
    lines = [line for line in compose([tmp_path]).comparison if line["measure"] == "fairness_mean"]
    assert [(line["seeds"], line["verdict"]) for line in lines] == [(3, "base"), (3, "equal")]
    assert [Path(line["group"]).parts[-2:] for line in lines] == [("one", "same_0"), ("two", "same_0")]


def test_what_is_not_finished_is_drawn_and_not_compared(tmp_path: Path) -> None:
    fairness(tmp_path, range(3), "ours")
    path = tmp_path / "ours_1" / "manifest.json"
    write_json(path, json.loads(path.read_text()) | {"status": "stopped"})
    made = compose([tmp_path])
    assert made.comparison[0]["seeds"] == 2
    assert "ours_1 is not finished: it is drawn, and not compared." in made.html


@pytest.mark.parametrize(
    ("low", "high", "better", "said"),
    [
        (0.1, 0.3, "higher", "better"),
        (0.1, 0.3, "lower", "worse"),
        (-0.3, -0.1, "higher", "worse"),
        (-0.3, -0.1, None, "lower"),
        (-0.1, 0.3, "higher", "not told apart"),
        (0.0, 0.0, "higher", "equal"),
        (None, None, "higher", "one seed, no interval"),
    ],
)
def test_verdicts(low, high, better, said) -> None:
    assert verdict(Estimate(0.0, low, high, 3), MEASURES[0]._replace(better=better)) == said


def test_an_interval_by_hand() -> None:
    """With two degrees of freedom Student's t has a quantile in closed form."""
    p = 0.975
    half = (2 * p - 1) * sqrt(2 / (4 * p * (1 - p))) / sqrt(3)
    found = estimate([1.0, 2.0, 3.0])
    assert found is not None
    assert (found.mean, found.many) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-12)
    assert estimate([]) is None
    assert estimate([5.0]) == (5.0, None, None, 1)


def test_an_interval_ends_where_the_number_does() -> None:
    assert Estimate(0.9, 0.7, 1.1, 3).within(0.0, 1.0) == (0.9, 0.7, 1.0, 3)
    assert Estimate(2.0, -1.0, 5.0, 3).within(0.0, None) == (2.0, 0.0, 5.0, 3)
    assert Estimate(5.0, None, None, 1).within(0.0, 1.0) == (5.0, None, None, 1)
    beyond = 1.0 + 2**-52
    assert Estimate(beyond, 0.9, 1.1, 3).within(0.0, 1.0) == (beyond, 0.9, beyond, 3)


def test_what_is_the_machines_gets_no_verdict(two) -> None:
    _, _, made = two
    found = {line["measure"]: line["verdict"] for line in made.comparison if line["verdict"] != "base"}
    assert found["wall_seconds"] == found["slots_per_second"] == "of the machine"
    assert "Of the machine: it is not the method's, and gets no verdict." in " ".join(Page(made.html).words)


def test_ninety_five_of_a_hundred_intervals_hold_the_mean() -> None:
    rng = np.random.default_rng(1)
    found = [estimate(rng.normal(3.0, 2.0, 5).tolist()) for _ in range(2000)]
    assert np.mean([one.low <= 3.0 <= one.high for one in found]) == pytest.approx(0.95, abs=0.02)


def test_a_sweeps_folder_stands_for_its_runs(tmp_path: Path) -> None:
    runs = [(point, seed) for point in ("slots=16", "slots=8") for seed in (0, 1)]
    for point, seed in runs:
        slots = int(point.partition("=")[2])
        write_run(tmp_path / "runs" / point / f"seed_{seed}", name="swept", seed=seed, slots=slots, rounds=2)
    assert [path.parts[-2:] for path in run_folders([tmp_path])][:2] == [("slots=8", "seed_0"), ("slots=8", "seed_1")]
    rows = "".join(f"x/sweep/runs/{point}/seed_{seed}\n" for point, seed in runs)
    (tmp_path / "sweep.csv").write_text("dir\n" + rows)
    assert [path.parts[-2:] for path in run_folders([tmp_path])] == [(point, f"seed_{seed}") for point, seed in runs]
    made = compose([tmp_path])
    assert [line["group"] for line in made.comparison[:2]] == ["slots=16", "slots=8"]
    assert Page(made.html).row("not as slots=16")[1] == "slots=8"


def test_a_folder_without_runs_says_what_is_missing(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert told.exit_code == 2
    assert "is not a run: manifest.json is missing" in told.stderr


def test_a_report_may_go_elsewhere(two, tmp_path: Path) -> None:
    folders, _, made = two
    before = {folder: sorted(path.name for path in folder.iterdir()) for folder in folders}
    told = CliRunner().invoke(app, ["report", *map(str, folders), "--out", str(tmp_path / "a b")])
    assert (told.exit_code, told.stdout) == (0, f"{tmp_path}/a b/report.html\n")
    assert {path.stem for path in (tmp_path / "a b").glob("*.png")} == {chart.key for chart in made.charts}
    assert {folder: sorted(path.name for path in folder.iterdir()) for folder in folders} == before
    assert f" --out '{tmp_path}/a b'" in " ".join(Page((tmp_path / "a b/report.html").read_text()).words)
    (tmp_path / "file").touch()
    refused = CliRunner().invoke(app, ["report", str(folders[0]), "--out", str(tmp_path / "file")])
    assert (refused.exit_code, refused.stderr) == (2, f"--out {tmp_path}/file: this is a file, give a folder\n")


def test_exports_hold_the_tables_unrounded(two, tmp_path: Path) -> None:
    folders, (ours, theirs), _ = two
    told = CliRunner().invoke(app, ["report", *map(str, folders), "--export", str(tmp_path), "--json"])
    assert told.exit_code == 0
    said = json.loads(told.stdout)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(Path(path).name for path in said["exports"])
    for name, many in (("runs", 8), ("users", 16), ("comparison", len(said["comparison"]))):
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        table = pq.read_table(tmp_path / f"{name}.parquet")
        assert (len(rows), table.num_rows) == (many, many)
        assert [*rows[0]] == table.column_names
    runs = pq.read_table(tmp_path / "runs.parquet").to_pydict()
    assert runs["fairness"] == pytest.approx([*ours, *theirs], rel=1e-15)
    assert pq.read_table(tmp_path / "comparison.parquet").to_pylist() == said["comparison"]
    assert [row["seed"] for row in said["table"]] == [0, 1, 2, 3, 1, 2, 3, 4]


def test_shapes_alone_tell_forty_runs_apart() -> None:
    looks = [(run_dash(index), run_marker(index)) for index in range(40)]
    assert len({*looks}) == 40
    assert len({*MARKERS}) == len({*GLYPHS}) == len(MARKERS) == len(GLYPHS)


def test_colours_and_shapes_tell_sixty_four_runs_apart() -> None:
    assert len({(run_colour(index), run_glyph(index)) for index in range(64)}) == 64
    assert [run_colour(index) for index in range(8)] == [*RUN_COLOURS]


DEUTAN = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881))
PROTAN = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
TRITAN = ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039))
OKLAB = (
    ((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
     (0.0883024619, 0.2817188376, 0.6299787005)),
    ((0.2104542553, 0.793617785, -0.0040720468), (1.9779984951, -2.428592205, 0.4505937099),
     (0.0259040371, 0.7827717662, -0.808675766)),
)  # fmt: skip


@pytest.mark.parametrize("eye", [np.eye(3), DEUTAN, PROTAN, TRITAN], ids=["all", "deutan", "protan", "tritan"])
def test_the_first_colours_differ_for_every_eye(eye) -> None:
    """Machado's matrices for full colour blindness, and distances in Oklab, where .02 is just seen."""
    found = np.array([seen(run_colour(index), eye) for index in range(4)])
    apart = np.linalg.norm(found[:, None] - found[None], axis=-1) + np.eye(4)
    assert apart.min() > 0.035


def seen(colour: str, eye) -> np.ndarray:
    plain = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(plain <= 0.04045, plain / 12.92, ((plain + 0.055) / 1.055) ** 2.4)
    cones, lab = (np.array(matrix) for matrix in OKLAB)
    return lab @ np.cbrt(cones @ np.clip(np.array(eye) @ linear, 0, 1))


def test_of_many_groups_the_first_twelve_are_drawn(tmp_path: Path) -> None:
    for place in range(14):
        write_run(tmp_path / f"run_{place}", name=f"name_{place}", rounds=2, slots=2, gain=place + 1.0)
    made = compose([tmp_path])
    page = Page(made.html)
    assert "The figures of rounds draw the first 12 of 14 runs." in page.words
    caption = next(chart.caption for chart in made.charts if chart.key == "fairness")
    assert "name_11" in caption
    assert "name_12" not in caption
    heads = [cells[1:] for cells in page.rows if cells[:1] == ["measure"] and "run" not in cells]
    assert [len(cells) for cells in heads] == [5, 5, 4]
