"""The table of a comparison as the page shows it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.report.comparison import BASE, Compared, Measure
from sim.report.estimates import Estimate
from sim.report.words import DASH, NO_BREAK, change

_HEADS = ("mean", "95 % interval", "seeds", "difference", "95 % interval", "common seeds")
_SEEDS = (2, 5)


@dataclass(frozen=True)
class ComparedLine:
    """One row. name: the measure, empty where the row above has it. group: its place."""

    name: str
    group: int
    cells: tuple[str, ...]
    verdict: str


@dataclass(frozen=True)
class ComparisonTable:
    """heads: of the cells of each line. A column that says nothing is left out, and so is the number of seeds where it
    is the same in all: seeds.
    """

    heads: list[str]
    lines: list[ComparedLine]
    seeds: str | None


def comparison_table(lines: Sequence[Compared]) -> ComparisonTable:
    """Measure by measure."""
    cells = [_cells(line) for line in lines]
    many = {each[place] for each in cells for place in _SEEDS} - {DASH}
    seeds = many.pop() if len(many) == 1 else None
    said = [place for place in range(len(_HEADS)) if place not in _SEEDS or seeds is None]
    told = [place for place in said if any(each[place] != DASH for each in cells)]
    rows = [
        ComparedLine(_name(line, lines), line.group, tuple(each[place] for place in told), line.verdict)
        for line, each in zip(lines, cells, strict=True)
    ]
    return ComparisonTable([_HEADS[place] for place in told], rows, seeds)


def _name(line: Compared, lines: Sequence[Compared]) -> str:
    return line.measure.name if line.verdict == BASE or _first(line, lines) else ""


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
    return " to ".join(end.replace(" ", NO_BREAK) for end in ends)
