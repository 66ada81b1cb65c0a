"""How long parts that go on side by side still take, as a terminal that is none is told; and how far one thing is."""

import itertools
from dataclasses import replace

import pytest

import sim.console
from edge_server.record import RoundRecord
from sim.console import Interrupts, Screen


@pytest.mark.parametrize(
    ("at_once", "ends", "told"),
    [
        (1, [10.0, 12.0, 14.0, 16.0], [None, 4, 2, None]),
        (2, [10.0, 10.1, 12.0, 12.1, 14.0], [None, None, 2, 1, None]),
        (3, [5.0, 6.0], [None, None]),
    ],
)
def test_it_is_told_by_those_that_did_not_start_up(monkeypatch, capsys, at_once, ends, told):
    monkeypatch.setattr(sim.console, "perf_counter", itertools.chain(ends).__next__)
    with Screen(quiet=False).counting("runs", len(ends), at_once) as count:
        for _ in ends:
            count("run")
    lines = capsys.readouterr().err.splitlines()
    expected = ["" if left is None else f"; about {left} s left" for left in told]
    assert lines == [f"[{n}/{len(ends)}] run{left}" for n, left in enumerate(expected, start=1)]


def test_a_run_is_told_of_every_ten_seconds(monkeypatch, capsys):
    monkeypatch.setattr(sim.console, "perf_counter", lambda: 4.0 * len(rounds))
    rounds: list[int] = []
    record = replace(RoundRecord.empty(0, 5, 2), fairness=0.25)
    with Screen(quiet=False).watching(Interrupts()) as watcher:
        watcher.on_start("mine", 8)
        for t in range(8):
            rounds.append(t)
            watcher.on_round(record)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "mine: 8 rounds",
        "mine: 3 of 8 rounds",
        "mine: 6 of 8 rounds",
    ]
    assert all("fairness 0.250" in line for line in lines[1:])


def test_a_power_trainer_is_told_of_every_ten_seconds(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(sim.console, "perf_counter", lambda: now[0])
    with Screen(quiet=False).training(Interrupts()) as watcher:
        for what, numbers in (("steps of mine", "loss 1"), ("tasks to score", "")):
            watcher.on_start(what, 5)
            for done in range(1, 6):
                now[0] += 4.0
                watcher.on_progress(done, numbers)
    assert capsys.readouterr().err.splitlines() == [
        "5 steps of mine",
        "steps of mine: 3 of 5, loss 1",
        "5 tasks to score",
        "tasks to score: 3 of 5",
    ]
