"""A comparison of two runs as people and programs read it."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from sim.console import say, say_table
from sim.differences.runs import Comparison, Part
from sim.differences.tally import Column, Tally
from sim.differences.trees import MISSING, Difference
from sim.effective import inline

_LONG = 60
"""Characters of a value that are shown."""
_HEX = 64
_FEW = 12
"""Rows of a table; a comparison of thousands of users is for --json."""


def tell(found: Comparison) -> None:
    """On stdout, for people."""
    for side, folder, manifest in zip("AB", found.folders, found.parts[0].standing, strict=True):
        say(f"{side}: {folder}, {manifest.get('status')}, digest {_short(manifest.get('digest'))}")
    for side, names in zip("AB", found.only, strict=True):
        if names:
            say(f"only {side} has {_listed(names)} beside it")
    for part in found.parts:
        _tell_part(part)
    say("different" if found.differs else "equal")


def as_dict(found: Comparison) -> dict[str, Any]:
    """For `--json`."""
    return {
        "differs": found.differs,
        "a": str(found.folders[0]),
        "b": str(found.folders[1]),
        "only": _sides(found.only),
        "parts": [_part(part) for part in found.parts],
    }


def _tell_part(part: Part) -> None:
    if part.name:
        say(f"\n{part.name}: {'different' if part.differs else 'equal'}")
    _tell_keys("scenario", part.scenario)
    _tell_keys("made by, and how it ended", part.manifest)
    _tell_keys("power.json", part.results)
    for gone in part.missing:
        say(f"{gone.path}: A {gone.a}, B {gone.b}: not compared")
    told = False
    for table in part.tables:
        _tell_table(table, brief=told)
        told = told or table.differs
    if part.event:
        a, b = part.event
        say("the first event that differs, and changes no number:")
        say(f"  A {inline(a) if a else 'has no more'}\n  B {inline(b) if b else 'has no more'}")


def _tell_keys(title: str, keys: Sequence[Difference]) -> None:
    rows = [{"key": one.path, "A": _short(one.a), "B": _short(one.b), "": _remark(one)} for one in keys]
    if rows:
        say("")
        say_table(rows[:_FEW], title)
        _tell_more(rows)


def _remark(key: Difference) -> str:
    return "" if key.counts else "(does not count)"


def _tell_table(table: Tally, *, brief: bool) -> None:
    name, (a, b) = table.kind.name, table.rows
    say("")
    if not table.differs:
        say(f"{name}: all {a:,} rows are equal, bit for bit")
        return
    rows = f"{table.shared:,} rows" if a == b == table.shared else f"{table.shared:,} rows of both (A {a:,}, B {b:,})"
    say(f"{name}: {table.differing:,} of {rows} differ")
    for line in _alone(table):
        say(line)
    if not brief:
        _tell_first(table)
        _tell_columns(table)
        _tell_means(table)


def _alone(table: Tally) -> Iterator[str]:
    """What only one side has."""
    for side, ranges in zip("AB", table.only, strict=True):
        if ranges:
            yield f"only {side} has {table.kind.places[0]}s {', '.join(_range(*one) for one in ranges[:_FEW])}"
    for side, names, others in zip("AB", table.names, reversed(table.names), strict=True):
        if gone := [name for name in names if name not in others]:
            yield f"only {side} has {_listed(gone)}"
    for side, columns in zip("AB", table.apart, strict=True):
        if columns:
            yield f"only {side} has the columns {_listed([*columns])}"


def _tell_first(table: Tally) -> None:
    if table.first is None:
        return
    place = {key: value for key, value in table.first.items() if key != "values"}
    values = table.first["values"]
    rows = [
        {"column": name, "A": _exact(v["a"]), "B": _exact(v["b"]), "B - A": _gap(**v)} for name, v in values.items()
    ]
    say("")
    say_table(rows[:_FEW], f"the first: {_place(place)}")
    _tell_more(rows)


def _tell_columns(table: Tally) -> None:
    rows = [
        {"column": name, "rows": f"{column.rows:,}", "largest": _number(column.largest), "at": _place(column.at or {})}
        for name, column in table.columns.items()
    ]
    if rows:
        say("")
        say_table(rows[:_FEW], "rows that differ, and the largest difference")
        _tell_more(rows)


def _tell_means(table: Tally) -> None:
    rows = [
        {table.kind.who: name, "A": _number(a), "B": _number(b), "B - A": _gap(a, b)}
        for name, (a, b) in table.means().items()
        if a != b
    ]
    if rows:
        say("")
        say_table(rows[:_FEW], f"mean {(table.kind.meaned or '').removeprefix('mean_')}")
        _tell_more(rows)


def _tell_more(rows: Sequence[object]) -> None:
    if len(rows) > _FEW:
        say(f"and {len(rows) - _FEW:,} more: --json has all")


def _short(value: Any) -> str:
    if value is MISSING or value is None:
        return "-"
    text = inline(value) if not isinstance(value, str) else value
    if isinstance(value, str) and len(value) == _HEX:
        return value[:8]
    return text if len(text) <= _LONG else f"{text[: _LONG - 2]}.."


def _exact(value: Any) -> str:
    return "-" if value is None else repr(value) if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _gap(a: Any, b: Any) -> str:
    known = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (a, b))
    return _number(b - a) if known else "-"


def _place(place: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in place.items())


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW:,} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def _part(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "differs": part.differs,
        "scenario": [one.as_dict() for one in part.scenario],
        "manifest": [one.as_dict() for one in part.manifest],
        "power": [one.as_dict() for one in part.results],
        "not_compared": [one.as_dict() for one in part.missing],
        "tables": {table.kind.name: _table(table) for table in part.tables},
        "event": part.event and _sides(part.event),
    }


def _table(table: Tally) -> dict[str, Any]:
    means = {name: {"a": a, "b": b} for name, (a, b) in table.means().items()}
    return {
        "differs": table.differs,
        "rows": _sides(table.rows),
        "shared": table.shared,
        "differing": table.differing,
        "first": _finite(table.first),
        "columns": {name: _column(column) for name, column in table.columns.items()},
        f"only_{table.kind.places[0]}s": _sides(table.only),
        f"only_{table.kind.who}s": _sides(
            [[name for name in names if name not in others] for names, others in _both_ways(table.names)]
        ),
        "only_columns": _sides([[*columns] for columns in table.apart]),
        "means": means,
    }


def _column(column: Column) -> dict[str, Any]:
    return {"rows": column.rows, "one_sided": column.one_sided, "largest": column.largest, "at": column.at}


def _both_ways(pair: tuple[Any, Any]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    return (pair[0], pair[1]), (pair[1], pair[0])


def _sides(pair: Sequence[Any]) -> dict[str, Any]:
    return {"a": pair[0], "b": pair[1]}


def _finite(value: Any) -> Any:
    """JSON has no infinity: its name, in place of it."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
