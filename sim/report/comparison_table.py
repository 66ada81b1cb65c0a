"""The table of a comparison as the page shows it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.report.comparison import BASE, Compared, Measure
from sim.report.estimates import Estimate
from sim.report.words import DASH, change


@dataclass(frozen=True)
class ComparedLine:
    """One row. name: the measure, empty where the row above has it. group: its place."""

    name: str
    group: int
    cells: tuple[str, ...]
    verdict: str


def comparison_lines(lines: Sequence[Compared]) -> list[ComparedLine]:
    """Measure by measure: mean, interval, seeds, difference, its interval, common seeds."""
    return [
        ComparedLine(line.measure.name if line.verdict == BASE or _first(line, lines) else "", line.group,
                     _cells(line), line.verdict)
        for line in lines
    ]  # fmt: skip


def _first(line: Compared, lines: Sequence[Compared]) -> bool:
    return next(one for one in lines if one.measure is line.measure) is line


def _cells(line: Compared) -> tuple[str, ...]:
    show, found = line.measure.show, line.difference
    return (
        show(line.mean.mean),
        _interval(line.mean, line.measure, signed=False),
        str(line.mean.many),
        DASH if found is None else change(found.mean, show),
        DASH if found is None else _interval(found, line.measure, signed=True),
        DASH if found is None else str(found.many),
    )


def _interval(found: Estimate, measure: Measure, *, signed: bool) -> str:
    if found.low is None or found.high is None:
        return DASH
    ends = (change(end, measure.show) if signed or end < 0 else measure.show(end) for end in (found.low, found.high))
    return " to ".join(ends)
