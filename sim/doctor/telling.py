"""What the doctor says, with nothing but the standard library: the rest may be what is missing."""

import json
import shutil
import sys
import textwrap

from sim.doctor.diagnosis import diagnosis
from sim.doctor.look import look
from sim.doctor.row import Row

TROUBLE = 1
_WIDEST, _WIDE, _NARROWEST = 100, 60, 30


def examine(*, as_json: bool, start_ray: bool) -> int:
    """Looks at this machine and says what was found, on stdout. The exit code: 1 where there is trouble."""
    rows = diagnosis(look(start_ray=start_ray))
    sys.stdout.write((_as_json(rows) if as_json else _as_text(rows)) + "\n")
    return TROUBLE if _count(rows, "trouble") else 0


def without_packages(error: ImportError, arguments: list[str]) -> int:
    """In place of the command, where what it stands on cannot be imported. The exit code."""
    if arguments[:1] == ["doctor"]:
        return examine(as_json="--json" in arguments, start_ray=False)
    sys.stderr.write(f"equiran cannot start: {error}; `equiran doctor` says what is missing\n")
    return TROUBLE


def _as_json(rows: list[Row]) -> str:
    told = {"checks": [row._asdict() for row in rows]}
    return json.dumps({**told, "notes": _count(rows, "note"), "troubles": _count(rows, "trouble")})


def _as_text(rows: list[Row]) -> str:
    width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))
    notes, troubles = _count(rows, "note"), _count(rows, "trouble")
    end = f"{len(rows)} checks: {_number(troubles, 'trouble')}, {_number(notes, 'note')}"
    return "\n".join([*(_lines(row, width) for row in rows), end])


def _lines(row: Row, width: int) -> str:
    """standing, name and what was found; below it what to do."""
    indent = " " * (19 if width >= _WIDE else 8)
    found = _filled(f"{row.standing:8}{row.name:11}{row.found}", width, indent)
    advice = _filled(f"{indent}-> {row.advice}", width, f"{indent}   ")
    return f"{found}\n{advice}" if row.advice else found


def _filled(text: str, width: int, indent: str) -> str:
    """Commands and paths stay whole."""
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _count(rows: list[Row], standing: str) -> int:
    return sum(row.standing == standing for row in rows)


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
