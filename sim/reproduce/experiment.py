"""What every experiment gives: its runs, its rows and its pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sim.report.style import Chart
from sim.reproduce.jobs import Size, Work
from sim.reproduce.rows import Row
from sim.reproduce.runs import Runs


@dataclass(frozen=True)
class Experiment:
    """One name of `equiran reproduce`.

    text: what a reader should know. figures: what its rows call themselves. pictures: the keys of its charts.
    seeds: how many a full reproduction takes.
    """

    name: str
    title: str
    text: str
    figures: tuple[str, ...]
    pictures: tuple[str, ...]
    seeds: int
    jobs: Callable[[Size], Sequence[Work]]
    rows: Callable[[Runs, Size], list[Row]]
    charts: Callable[[Runs, Size], list[Chart]]
