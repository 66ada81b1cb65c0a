"""`equiran reproduce`: verdicts, tables, and runs that are reused, stopped or refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sim.caller import RunError
from sim.cli import app
from sim.report.style import Chart
from sim.reproduce import rows as table
from sim.reproduce.claims import SIMILARITIES
from sim.reproduce.commands import NAMES
from sim.reproduce.experiment import Experiment
from sim.reproduce.fig2 import slope
from sim.reproduce.jobs import Job, PowerJob, Size, seeds
from sim.reproduce.page import results_page
from sim.reproduce.pool import Stopped, is_there, run_all
from sim.reproduce.rainbow import rainbow
from sim.reproduce.rivals import RULES, STREAMS, constant
from sim.reproduce.rows import MEASURED, NOT_REPRODUCED, PARTLY, QUICK, REPRODUCED, Row
from sim.reproduce.run import EXPERIMENTS, reproduce
from sim.reproduce.runs import Runs

GOLDEN = "owo_fmtl/golden.yaml"
FULL, QUICK_SIZE = Size(2, quick=False), Size(2, quick=True)


def quiet(_text: str) -> None: ...


def never() -> bool:
    return False


def test_verdicts_are_graded_by_distance() -> None:
    assert [table.near(x, 1.0, 0.1) for x in (1.1, 0.85, 1.3, np.nan)] == [
        REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_REPRODUCED,
    ]  # fmt: skip
    assert [table.at_most(x, -0.5, 0.1) for x in (-0.7, -0.45, 0.0)] == [REPRODUCED, PARTLY, NOT_REPRODUCED]
    assert [table.between(x, 20, 40) for x in (30, 50, 12, 5, -3)] == [
        REPRODUCED, PARTLY, PARTLY, NOT_REPRODUCED, NOT_REPRODUCED,
    ]  # fmt: skip
    assert [table.always(x) for x in (1.0, 0.95, 0.5)] == [REPRODUCED, PARTLY, NOT_REPRODUCED]


def test_a_row_is_the_mean_and_the_spread_over_seeds() -> None:
    made = table.row("Fig. 2", "s", "m", "-", np.array([1.0, 2.0, 3.0]), MEASURED, "")
    assert (made.ours, made.spread, made.seeds) == (2.0, 1.0, 3)
    assert table.row("Fig. 2", "s", "m", "-", np.array([1.0]), MEASURED, "").spread is None
    assert table.row("Fig. 2", "s", "m", "-", np.array([1.0, np.nan]), MEASURED, "").ours is None


@given(st.floats(-3, 0), st.floats(0.01, 10))
def test_the_slope_of_a_power_law(power: float, scale: float) -> None:
    slots = (4, 8, 16, 32)
    assert slope(slots, scale * np.array(slots, np.float64) ** power) == pytest.approx(power, abs=1e-9)
    assert np.isnan(slope(slots, np.array([1.0, 0.5, 0.0, -0.1])))


text = st.text(st.characters(blacklist_categories=("Cs", "Cc")))
number = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@given(st.builds(Row, text, text, text, text, text, number, number, st.integers(1, 9), text, text))
def test_a_table_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, made: Row) -> None:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    table.write_csv([made], path)
    assert table.read_csv(path) == [made]


def test_quick_rows_say_nothing_of_the_paper() -> None:
    made = table.row("Fig. 3", "s", "gain, %", "20 to 40", np.array([30.0]), REPRODUCED, "why")
    (quick,) = table.as_quick([made])
    assert (quick.verdict, quick.reported, quick.why, quick.ours) == (QUICK, "-", "", 30.0)
    assert "not comparable with the paper" in results_page([quick], [*EXPERIMENTS.values()])


@pytest.mark.parametrize("size", [FULL, QUICK_SIZE], ids=["full", "quick"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_run_is_a_valid_scenario_with_a_folder_of_its_own(name: str, size: Size) -> None:
    folders: dict[str, Job | PowerJob] = {}
    for job in EXPERIMENTS[name].jobs(size):
        assert folders.setdefault(job.name, job) == job
    for job in folders.values():
        if job.seed == 1:
            scenario = job.load().scenario
            assert scenario.seed == 1
            if isinstance(job, Job):
                assert (scenario.transport, scenario.compare) == ("memory", ())


def test_the_command_knows_every_experiment() -> None:
    assert tuple(EXPERIMENTS) == NAMES


def test_full_runs_have_the_papers_sizes() -> None:
    rainbow_run = rainbow(FULL, "continue")[0].load().scenario
    assert (rainbow_run.rounds, rainbow_run.slots) == (168, 31)
    assert {job.load().scenario.rounds for job in EXPERIMENTS["fig2"].jobs(Size(1, quick=False))} == {512}
    assert len(RULES) == 17
    assert SIMILARITIES[0] == 0


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_constant_weights_keep_their_sum(stream: object) -> None:
    assert stream in STREAMS
    for share in stream.shares:
        weights = constant(stream, share, FULL)[0].load().scenario.edge.aggregator.weights
        assert sum(weights) == pytest.approx(stream.total, abs=1e-5)
        assert weights[0] == pytest.approx(share * stream.total)
        assert len(weights) == stream.users


def test_a_finished_run_of_the_same_scenario_is_not_run_again(tmp_path: Path) -> None:
    told: list[str] = []
    jobs = seeds(GOLDEN, "short", ("rounds=1",), 2)
    run_all(jobs, tmp_path, told.append, never)
    before = (tmp_path / jobs[0].name / "manifest.json").stat().st_mtime_ns
    assert (told[0], len(told)) == ("2 runs, 0 of them there already", 3)
    run_all([*jobs, *jobs], tmp_path, told.append, never)
    assert told[3:] == ["2 runs, 2 of them there already"]
    assert (tmp_path / jobs[0].name / "manifest.json").stat().st_mtime_ns == before
    changed = jobs[0]._replace(sets=("rounds=2",))
    assert is_there(jobs[0], tmp_path)
    assert not is_there(changed, tmp_path)
    run_all([changed], tmp_path, told.append, never)
    assert len(Runs(tmp_path).shared(changed, "regret")) == 2
    assert is_there(changed, tmp_path)
    assert not is_there(jobs[0], tmp_path)


def test_a_failed_run_is_an_error_unless_it_may_fail(tmp_path: Path) -> None:
    sets = ("edge.primal.step=theory", "rounds=1")
    job = Job(GOLDEN, "no_theory", sets, 0)
    with pytest.raises(RunError, match=r"golden/no_theory/seed_0: golden: .*D\* is 0"):
        run_all([job], tmp_path, quiet, never)
    allowed = job._replace(may_fail=True)
    run_all([allowed], tmp_path / "allowed", quiet, never)
    runs = Runs(tmp_path / "allowed")
    assert "D* is 0" in str(runs.failure(allowed))
    assert np.isnan(runs.summary([allowed], "regret_mean")).all()
    assert is_there(allowed, tmp_path / "allowed")


def test_an_interrupt_stops_between_slots_and_the_rest_is_run_later(tmp_path: Path) -> None:
    job = Job("owo_fmtl/fig2_stochastic.yaml", "long", ("edge.primal.step=0.1", "rounds=4000", "record.slots=false"), 0)
    with pytest.raises(Stopped):
        run_all([job], tmp_path, quiet, lambda: (tmp_path / job.name / "manifest.json").exists())
    assert json.loads((tmp_path / job.name / "manifest.json").read_text())["status"] == "stopped"
    assert not is_there(job, tmp_path)


def tiny() -> Experiment:
    def jobs(size: Size) -> list[Job]:
        return seeds(GOLDEN, "tiny", (), size.seeds)

    def rows(runs: Runs, size: Size) -> list[Row]:
        regret = runs.summary(jobs(size), "regret_mean")
        return [table.row("Fig. 0", "golden", "regret | m = 3", "-", regret, MEASURED, "why")]

    def charts(runs: Runs, size: Size) -> list[Chart]:
        return []

    return Experiment("tiny", "Tiny", "Two rounds.", ("Fig. 0",), (), 1, jobs, rows, charts)


def test_a_reproduction_writes_its_table_and_its_page(tmp_path: Path) -> None:
    made = reproduce([tiny()], None, quick=False, out=tmp_path, note=quiet, stop=never)
    (row,) = made.rows
    summary = json.loads((tmp_path / "runs/golden/tiny/seed_0/summary.json").read_text())
    assert row.ours == pytest.approx(summary["regret_mean"], rel=1e-3)
    assert table.read_csv(made.csv) == made.rows
    page = made.page.read_text(encoding="utf-8")
    assert "## Tiny" in page
    assert "regret \\| m = 3" in page
    assert made.told()["rows"][0]["metric"] == "regret | m = 3"
    (quick,) = reproduce([tiny()], 1, quick=True, out=tmp_path, note=quiet, stop=never).rows
    assert (quick.verdict, quick.seeds) == (QUICK, 1)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_picture_has_its_command_below_it(name: str) -> None:
    experiment = EXPERIMENTS[name]
    made = table.row(experiment.figures[0], "s", "m", "-", np.ones(3), MEASURED, "")
    page = results_page([made], [*EXPERIMENTS.values()])
    for key in experiment.pictures:
        assert f"](images/{key}.png)\n\n```sh\n.venv/bin/equiran reproduce {name} --seeds 3\n```" in page
    assert page.count("## ") == 1
    assert "--quick" in results_page([replace(made, verdict=QUICK)], [experiment])


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIRAN_DATA", str(tmp_path / "nothing"))
    invoke = CliRunner().invoke
    unknown = invoke(app, ["reproduce", "fig9", "--out", str(tmp_path / "out")])
    missing = invoke(app, ["reproduce", "fig4", "--out", str(tmp_path / "out")])
    assert (unknown.exit_code, missing.exit_code) == (2, 2)
    assert "no experiment 'fig9' to reproduce; there are: fig2, fig3, fig4, free, rivals, radio" in unknown.output
    assert 'MNIST is not here: run "equiran data fetch mnist"' in missing.output
    assert not (tmp_path / "out").exists()
