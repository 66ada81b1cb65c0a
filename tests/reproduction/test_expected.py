"""The table of the last full reproduction: the page is made from it, and a part of it is run again."""

from pathlib import Path

import pytest

from sim.reproduce.fig2 import FIG2, SLOTS, point
from sim.reproduce.jobs import Size
from sim.reproduce.page import results_page
from sim.reproduce.pool import run_all
from sim.reproduce.rows import MEASURED, MET, NO_ANSWER, NOT_MET, NOT_REPRODUCED, PARTLY, REPRODUCED, Row, read_csv
from sim.reproduce.run import EXPERIMENTS
from sim.reproduce.runs import Runs

ROOT = Path(__file__).parents[2]
EXPECTED = read_csv(Path(__file__).parent / "expected.csv")
SHORT = [
    (slots, row)
    for slots in SLOTS[:3]
    for row in EXPECTED
    if (row.figure, row.metric) == ("Fig. 2", f"regret, alpha 1, m = {slots}")
]


def test_the_page_is_made_from_the_table() -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert page == results_page(EXPECTED, [*EXPERIMENTS.values()])


def test_every_picture_of_the_page_is_there() -> None:
    for experiment in EXPERIMENTS.values():
        if any(row.figure in experiment.figures for row in EXPECTED):
            for key in experiment.pictures:
                assert (ROOT / f"docs/images/{key}.png").is_file(), key


def test_the_table_holds_verdicts_of_full_runs_only() -> None:
    assert {row.verdict for row in EXPECTED} <= {REPRODUCED, PARTLY, NOT_REPRODUCED, MEASURED, NO_ANSWER, MET, NOT_MET}
    keys = [(row.figure, row.scenario, row.metric) for row in EXPECTED]
    assert len(set(keys)) == len(keys)


@pytest.mark.slow
@pytest.mark.parametrize(("slots", "row"), SHORT, ids=[f"m_{slots}" for slots, _ in SHORT])
def test_the_short_end_of_fig_2_comes_out_again(tmp_path: Path, slots: int, row: Row) -> None:
    """With the table's seeds, within 1 % on any machine type."""
    size = Size(row.seeds, quick=False)
    jobs = point(row.scenario, 1, slots, size)
    assert {*jobs} <= {*FIG2.jobs(size)}
    run_all(jobs, tmp_path, print, lambda: False)
    assert Runs(tmp_path).summary(jobs, "regret_mean").mean() == pytest.approx(row.ours, rel=0.01)
