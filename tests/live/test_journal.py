"""Rows of a journal are read once, as they come, whatever becomes of the file meanwhile."""

import shutil
from pathlib import Path

import pytest
from growing import Growing

from sim.live.journal import Journal, Rows
from sim.report.files import UnreadableRun

ALL = 1_000_000
COLUMNS = ("round", "slot", "user", "loss")


def places(rows: Rows) -> list[tuple[int, int, str]]:
    return [
        (int(t), int(i), user)
        for batch in rows.batches
        for t, i, user in zip(*(batch[name].to_pylist() for name in COLUMNS[:3]), strict=True)
    ]


@pytest.fixture
def run(tmp_path: Path) -> Growing:
    return Growing(tmp_path / "run")


def test_each_row_comes_once_and_in_order(run: Growing) -> None:
    journal, found = Journal(run.folder, "slots", COLUMNS), []
    assert journal.take(ALL) == Rows([])
    for rounds in (1, 3, 2):
        run.grow(rounds)
        found += places(journal.take(ALL))
        assert journal.take(ALL) == Rows([])
    assert found == [(t, i, user) for t in range(6) for i in range(4) for user in run.users]


def test_only_what_is_new_is_read_from_the_disk(run: Growing) -> None:
    run.grow(2000)
    journal = Journal(run.folder, "slots", COLUMNS)
    journal.take(ALL)
    before = bytes_read()
    run.grow(1)
    assert len(places(journal.take(ALL))) == 12
    assert bytes_read() - before < 100_000 < (run.folder / "slots.arrows").stat().st_size / 10


def bytes_read() -> int:
    """By this process so far, wherever from."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_a_long_one_comes_in_pieces(run: Growing) -> None:
    run.grow(10)
    journal, found = Journal(run.folder, "slots", COLUMNS), []
    while (rows := journal.take(30)).more:
        assert sum(batch.num_rows for batch in rows.batches) <= 36
        found += places(rows)
    assert len(found + places(rows)) == 120


@pytest.mark.parametrize("less", [1, 7, 200, 900])
def test_a_record_that_is_still_written_waits(run: Growing, tmp_path: Path, less: int) -> None:
    run.grow(2)
    whole = (run.folder / "slots.arrows").read_bytes()
    cut = tmp_path / "cut" / "slots.arrows"
    cut.parent.mkdir()
    cut.write_bytes(whole[:-less])
    journal = Journal(cut.parent, "slots", COLUMNS)
    assert len(places(journal.take(ALL))) == 12
    assert journal.cut
    with cut.open("ab") as file:
        file.write(whole[-less:])
    assert [t for t, _, _ in places(journal.take(ALL))] == [1] * 12
    assert not journal.cut


def test_its_end_is_read_although_parquet_has_taken_its_place(run: Growing) -> None:
    run.grow(2)
    journal = Journal(run.folder, "slots", COLUMNS)
    assert len(places(journal.take(ALL))) == 24
    run.grow(1)
    run.finish()
    assert not (run.folder / "slots.arrows").exists()
    assert [t for t, _, _ in places(journal.take(ALL))] == [2] * 12
    assert journal.take(ALL) == journal.take(ALL) == Rows([])


def test_parquet_alone_is_read_once(run: Growing) -> None:
    run.grow(3)
    run.finish()
    journal = Journal(run.folder, "slots", COLUMNS)
    assert len(places(journal.take(ALL))) == 36
    assert journal.take(ALL) == Rows([])


def test_a_run_that_goes_on_is_read_again(run: Growing) -> None:
    run.grow(3)
    run.finish()
    journal = Journal(run.folder, "slots", COLUMNS)
    journal.take(ALL)
    again = Growing(run.folder)
    again.grow(1)
    rows = journal.take(ALL)
    assert rows.again
    assert len(places(rows)) == 12
    again.grow(1)
    assert not (rows := journal.take(ALL)).again
    assert len(places(rows)) == 12


def test_a_run_that_went_on_and_ended_between_two_looks_is_read_again(run: Growing) -> None:
    run.grow(3)
    journal = Journal(run.folder, "slots", COLUMNS)
    journal.take(ALL)
    run.finish()
    again = Growing(run.folder)
    again.grow(5)
    again.finish()
    rows = journal.take(ALL)
    assert rows.again
    assert len(places(rows)) == 60


@pytest.mark.parametrize("at", [0, 3000])
def test_damage_is_one_line(run: Growing, at: int) -> None:
    run.grow(5)
    path = run.folder / "slots.arrows"
    content = bytearray(path.read_bytes())
    spot = content.find(b"\xff\xff\xff\xff", at)
    content[spot : spot + 4] = b"oops"
    path.write_bytes(content)
    with pytest.raises(UnreadableRun) as caught:
        Journal(run.folder, "slots", COLUMNS).take(ALL)
    assert str(caught.value) == f"{path}: damaged (no record begins where one should); run the scenario again"


def test_damaged_parquet_is_one_line(run: Growing) -> None:
    run.grow(1)
    run.finish()
    path = run.folder / "slots.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnreadableRun, match=r"slots\.parquet: cut short or damaged \(.*\); run the scenario again"):
        Journal(run.folder, "slots", COLUMNS).take(ALL)


def test_a_directory_that_vanishes_has_no_more_rows(run: Growing) -> None:
    run.grow(1)
    journal = Journal(run.folder, "slots", COLUMNS)
    journal.take(ALL)
    shutil.rmtree(run.folder)
    assert journal.take(ALL) == Rows([])
