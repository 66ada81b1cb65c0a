"""Your own parts: `module:Class` in a scenario becomes an instance."""

import importlib
from collections.abc import Callable
from typing import Any, Protocol

ADVICE = "its folder must be the current one or on PYTHONPATH, on every machine where this part runs"


class Own(Protocol):
    """What a scenario says of a part of your own."""

    @property
    def kind(self) -> str:
        """`module:Class`."""
        ...

    @property
    def args(self) -> Any:
        """By name, for its constructor."""
        ...


def build_custom(config: Own, role: str, *given: Any, check: Callable[[Any], None] = lambda _part: None) -> Any:
    """`module:Class(*given, **args)`, once `check` has raised nothing. role: what it is to be, for messages.

    Raises ValueError, one line, if there is no such class, its constructor fails, or `check` does.
    """
    found = _class_of(config.kind, role)
    try:
        part = found(*given, **config.args)
        check(part)
    except Exception as error:
        what = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{role} {config.kind}: {what}") from error
    return part


def _class_of(kind: str, role: str) -> Any:
    module_name, class_name = kind.split(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{role} {kind}: cannot import {module_name}: {reason}; {ADVICE}") from error
    found = getattr(module, class_name, None)
    if found is None:
        raise ValueError(f"{role} {kind}: {module_name} has no class {class_name!r}")
    return found
