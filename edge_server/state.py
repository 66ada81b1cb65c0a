"""What a party remembers, as named tensors: dataclasses, mappings and sequences are taken apart, and put together.

Words are not state: they come from the scenario, with the object that is restored.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

Flat = dict[str, Tensor]
"""Numbers by dotted name; scalars have shape []."""
T = TypeVar("T")

_NOTHING = torch.empty(0, 0, dtype=torch.bool)
"""Stands for None."""


class OtherShape(ValueError):
    """A state is not that of the object it is to be restored into; one line."""


def flattened(value: Any, name: str) -> Flat:
    """All numbers in `value`, a tensor, array, number or None, or a dataclass, mapping or sequence of those; copies.

    Raises OtherShape for anything else.
    """
    if (parts := _parts(value)) is not None:
        named = [flattened(part, f"{name}.{key}") for key, part in parts.items()]
        return {key: tensor for part in named for key, tensor in part.items()}
    if isinstance(value, Tensor):
        return {name: value.detach().clone()}
    if isinstance(value, np.ndarray):
        return {name: torch.from_numpy(value.copy())}
    if isinstance(value, bool | int | float | np.generic):
        return {name: torch.from_numpy(np.asarray(value).copy())}
    if value is None:
        return {name: _NOTHING.clone()}
    if isinstance(value, str):
        return {}
    raise OtherShape(f"state {name!r}: a {type(value).__name__} cannot be saved; keep numbers, tensors and arrays")


def restored(like: T, state: Mapping[str, Tensor], name: str) -> T:
    """`like` with the numbers of `state`. Raises OtherShape where they are not of the same kind and shape."""
    value: Any = like
    if (parts := _parts(value)) is not None:
        found = {key: restored(part, state, f"{name}.{key}") for key, part in parts.items()}
        return cast("T", _together(value, found))
    if isinstance(value, str):
        return like
    return cast("T", _as(value, _checked(state, name, value)))


def below(prefix: str, state: Mapping[str, Tensor]) -> Flat:
    """What `state` has behind this prefix, by the rest of its names."""
    return {name.removeprefix(prefix): values for name, values in state.items() if name.startswith(prefix)}


def require_all(state: Mapping[str, Tensor], whole: Any, name: str) -> None:
    """Raises OtherShape where `state` has a number below `name` that `whole`, restored from it, has not."""
    known = flattened(whole, name)
    for found in state:
        if found.startswith(f"{name}.") and found not in known:
            raise OtherShape(f"state {found!r} is not part of this run's state at its start, and would be lost")


def _parts(value: Any) -> dict[str, Any] | None:
    """By name; None of what has no parts."""
    if isinstance(value, dict):
        return {str(key): part for key, part in value.items()}
    if isinstance(value, tuple | list):
        return {str(number): part for number, part in enumerate(value)}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return None


def _together(like: Any, parts: dict[str, Any]) -> Any:
    """`like` with other parts."""
    if isinstance(like, dict):
        return dict(zip(like, parts.values(), strict=True))
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)(*parts.values())
    return type(like)(parts.values()) if isinstance(like, tuple | list) else replace(like, **parts)


def _as(like: Any, found: Tensor) -> Any:
    """The number, array or tensor that was saved; where there was nothing before, a tensor."""
    if found.shape == _NOTHING.shape and found.dtype == _NOTHING.dtype:
        return None
    if like is None or isinstance(like, Tensor):
        return found.clone()
    return found.numpy().copy() if isinstance(like, np.ndarray) else type(like)(found.item())


def _checked(state: Mapping[str, Tensor], name: str, like: Any) -> Tensor:
    """What was saved under this name; what may be nothing may be anything."""
    found, expected = state.get(name), flattened(like, name)[name]
    same = found is not None and (found.shape, found.dtype) == (expected.shape, expected.dtype)
    optional = found is not None and (like is None or found.shape == _NOTHING.shape)
    if found is None or not (same or optional):
        said = "nothing" if found is None else f"{list(found.shape)} {found.dtype}"
        raise OtherShape(f"state {name!r}: expected {list(expected.shape)} {expected.dtype}, found {said}")
    return found
