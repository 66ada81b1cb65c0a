"""What a sweep runs over: the values of every `--over`, and each combination of them."""

import re
from collections.abc import Sequence
from hashlib import sha256
from itertools import product
from math import prod
from typing import Any, NamedTuple

from sim.effective import inline
from sim.scenario import ScenarioErrors
from sim.yaml_lines import Unreadable, parse_option, plain

RUN_CAP = 10_000
_ELSEWHERE = {
    "seed": "give --seeds N, and --set seed=S for the first of them",
    "transport": "give --transport",
    "compare": "a sweep runs every point of its grid by itself",
    "schema": "it is the format, not a value",
}
_LABEL_CAP = 80
_AS_IT_IS = "seeds"
"""The one point of a sweep over seeds alone."""


class Axis(NamedTuple):
    """One `--over`: its dotted key and its values."""

    key: str
    values: tuple[Any, ...]


class Point(NamedTuple):
    """One combination. values: one per axis, in order. over: the same as `a.b=c`."""

    values: tuple[Any, ...]
    over: tuple[str, ...]

    @property
    def title(self) -> str:
        """For people: `a.b=1, c=2`."""
        return ", ".join(self.over) or _AS_IT_IS

    @property
    def label(self) -> str:
        """A folder's name: the title as far as files allow it, with a hash where it was cut or changed."""
        text = ",".join(self.over) or _AS_IT_IS
        safe = re.sub(r"[^A-Za-z0-9._=,+-]+", "_", text)
        return text if safe == text and len(text) <= _LABEL_CAP else f"{safe[:_LABEL_CAP]}-{_hash(text)}"


def axes(overs: Sequence[str]) -> list[Axis]:
    """The axes that these `a.b=1,2,3` stand for. Raises ScenarioErrors with everything that is wrong."""
    found, errors = [], list[str]()
    for text in overs:
        try:
            found.append(_axis(text))
        except ScenarioErrors as error:
            errors += error.errors
    keys = [axis.key for axis in found]
    errors += [f"--over {key}: is given twice" for key in dict.fromkeys(keys) if keys.count(key) > 1]
    if errors:
        raise ScenarioErrors(errors)
    return found


def points(along: Sequence[Axis], seeds: int) -> list[Point]:
    """Every combination, the last axis first. Raises ScenarioErrors when they are too many runs."""
    runs = seeds * prod(len(axis.values) for axis in along)
    if runs > RUN_CAP:
        raise ScenarioErrors([f"--over, --seeds: {runs} runs, at most {RUN_CAP}; take fewer values"])
    return [Point(values, _over(along, values)) for values in product(*(axis.values for axis in along))]


def _over(along: Sequence[Axis], values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(f"{axis.key}={inline(value)}" for axis, value in zip(along, values, strict=True))


def _axis(text: str) -> Axis:
    key, equals, values = text.partition("=")
    option = f"--over {' '.join(text.split())}"[:120]
    if not equals or not all(key.split(".")):
        raise ScenarioErrors([f"{option}: expected a.b=1,2,3"])
    if reason := _ELSEWHERE.get(key.partition(".")[0]):
        raise ScenarioErrors([f"{option}: {key}: cannot be swept; {reason}"])
    try:
        parsed = plain(parse_option(f"[{values}]", option))
    except Unreadable as error:
        raise ScenarioErrors([f"{error}; separate values by commas, quote text that holds one"]) from None
    return Axis(key, _distinct(parsed, option))


def _distinct(values: list[Any], option: str) -> tuple[Any, ...]:
    shown = [inline(value) for value in values]
    if not values:
        raise ScenarioErrors([f"{option}: has no values; expected a.b=1,2,3"])
    if twice := next((one for one in shown if shown.count(one) > 1), None):
        raise ScenarioErrors([f"{option}: {twice} is there twice"])
    return tuple(values)


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]
