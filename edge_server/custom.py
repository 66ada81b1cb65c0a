"""Your own parts at the edge: `module:Class` in a scenario becomes an instance."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

ADVICE = "its folder must be the current one or on PYTHONPATH, on every machine where this part runs"


def class_of(kind: str, role: str) -> Any:
    """What `module:Class` names. role: what it is to be, for messages.

    Raises ValueError, one line, where the module cannot be imported here or has no such class.
    """
    module_name, class_name = kind.split(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ValueError(f"{role} {kind}: cannot import {module_name}: {one_line(error)}; {ADVICE}") from error
    found = getattr(module, class_name, None)
    if found is None:
        raise ValueError(f"{role} {kind}: {module_name} has no class {class_name!r}")
    return found


def build_custom(kind: str, role: str, args: Mapping[str, Any], *given: Any, seed: int | None = None) -> Any:
    """`module:Class(*given, **args)`; with `seed=seed`, too, where its constructor takes one that `args` does not say.

    Raises ValueError, one line, if there is no such class or its constructor fails.
    """
    found = class_of(kind, role)
    try:
        drawn = {"seed": seed} if seed is not None and "seed" in signature(found).parameters else {}
        return found(*given, **{**drawn, **args})
    except Exception as error:
        raise ValueError(f"{role} {kind}: {one_line(error)}") from error


@contextmanager
def named(role: str, kind: str) -> Iterator[None]:
    """What goes wrong inside is a ValueError, one line, that begins with the part's name."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{role} {kind}: {error}") from error
    except Exception as error:
        raise ValueError(f"{role} {kind}: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """The error's type and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}"
