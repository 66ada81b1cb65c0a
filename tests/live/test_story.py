"""Events as the page tells them: read once, those of a kind together, the run held or not."""

from pathlib import Path

from growing import Growing

from sim.live.story import Story


def test_events_of_a_kind_stand_together(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run")
    for user in growing.users:
        growing.event(event="join", user=user)
    growing.event(event="lost", user="user_01", round=3, slot=2, reason="the stream broke")
    story = Story(growing.folder)
    assert story.look()
    joins, lost = story.newest
    assert (joins.kind, joins.users, joins.many) == ("join", ("user_00", "user_02"), 3)
    assert lost[1:] == ("lost", "bad", "round 3, slot 2", ("user_01",), "the stream broke", 1)
    assert story.counts == [("join", 3), ("lost", 1)]
    assert not story.look()
    growing.event(event="lost", user="user_02", round=3, slot=2, reason="the stream broke")
    assert story.look()
    assert story.newest[-1].many == 2


def test_a_line_that_is_still_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "jo')
    story = Story(tmp_path)
    assert not story.look()
    with path.open("a") as file:
        file.write('in"}\n')
    assert story.look()
    assert story.counts == [("join", 1)]


def test_thousands_are_counted_and_the_newest_are_kept(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run")
    for t in range(3000):
        growing.event(event="rejected", user="user_01", round=t, slot=0)
    story = Story(growing.folder)
    story.look()
    assert story.counts == [("rejected", 3000)]
    assert [entry.place for entry in story.newest][-1] == "round 2999, slot 0"
    assert len(story.newest) == 100


def test_a_run_is_held_from_paused_to_continued_or_its_next_life(tmp_path: Path) -> None:
    growing = Growing(tmp_path / "run")
    story = Story(growing.folder)
    for kind, held in (("paused", True), ("continued", False), ("paused", True), ("recovered", False)):
        growing.event(event=kind, round=0, slot=1)
        story.look()
        assert story.held == held
