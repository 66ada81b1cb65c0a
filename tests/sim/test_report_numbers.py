"""What the report shows of a run over gRPC, recomputed from its files by code that shares nothing with it."""

import pytest
from report_page import Page

import runs
from recomputed import USERS, Recomputed, price, tree
from sim.report.page import compose
from sim.report.words import number, size


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, Recomputed, Recomputed]:
    """The page, its run, and the run with alpha 0 beside it."""
    folder = runs.run(tmp_path_factory.mktemp("run"), tree()).folder
    return Page(compose([folder]).html), Recomputed(folder), Recomputed(folder / "efficient")


def test_the_summary_is_what_the_files_add_up_to(shown: tuple[Page, Recomputed, Recomputed]) -> None:
    page, run, efficient = shown
    assert run.misses > 0
    expected = {
        "mean fairness": number(run.fairness),
        "mean utility per user": number(float(run.utilities.mean())),
        "worst user's utility": number(float(run.utilities.min())),
        "worst user": USERS[int(run.utilities.argmin())],
        "Jain's index": number(run.jain),
        "price of fairness": number(price(run, efficient)),
        "mean regret": number(run.regret),
        "slots missed at the deadline": str(run.misses),
    }
    assert {name: page.row(name)[0] for name in expected} == expected
    assert page.row("worst user's utility")[1] == number(float(efficient.utilities.min()))


def test_every_users_bill_is_what_the_files_add_up_to(shown: tuple[Page, Recomputed, Recomputed]) -> None:
    page, run, _ = shown
    bills = page.rows_after("bytes up")
    for user in USERS:
        cells = next(cells for cells in bills if cells[0] == user)
        assert cells[2:4] == [size(run.bytes(user, "up")), size(run.bytes(user, "down"))]
        assert cells[8] == number(run.down_joules(user))


def test_what_went_wrong_is_counted_from_the_files(shown: tuple[Page, Recomputed, Recomputed]) -> None:
    page, run, _ = shown
    assert run.events("fault") == run.events("rejected") == run.of("rejected") == 2
    users = page.rows_after("not applied")
    cells = next(cells for cells in users if cells[0] == "user_00")
    assert cells[-3:-1] == [str(run.of("applied", "user_00")), str(30 - run.of("applied", "user_00"))]
    said = "".join(page.words)
    assert "2 × rejected" in said  # noqa: RUF001
    assert f"{run.of('applied')} applied" in said
    assert sum(cells[:1] == ["rejected"] for cells in page.rows) >= 4


def test_differences_between_two_runs_of_one_seed_have_no_interval(shown: tuple[Page, Recomputed, Recomputed]) -> None:
    page, run, efficient = shown
    lines = page.rows_after("verdict")
    place = next(at for at, cells in enumerate(lines) if cells[0] == "worst user's utility")
    change = float(efficient.utilities.min() - run.utilities.min())
    cells = lines[place + 1]
    assert "95 % interval" not in {name for row in page.rows for name in row}
    assert cells[2] == number(float(efficient.utilities.min()))
    assert cells[3].replace("+", "") == number(change)
    assert cells[-1] == "one seed, no interval"
    fairness = next(at for at, cells in enumerate(lines) if cells[0] == "mean fairness")
    assert lines[fairness + 1][-1] == "another measure"
