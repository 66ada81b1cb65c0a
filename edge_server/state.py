"""What a party remembers, as named tensors: dataclasses and mappings are taken apart into their numbers, and put back.

Words, switches and what is None are not state: they come from the scenario, with the object that is restored.
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


class OtherShape(ValueError):
    """A state is not that of the object it is to be restored into; one line."""


def flattened(value: Any, name: str) -> Flat:
    """All numbers in `value`, a tensor, array or number, or a dataclass or mapping of those; copies."""
    if (parts := _parts(value)) is not None:
        named = [flattened(part, f"{name}.{key}") for key, part in parts.items()]
        return {key: tensor for part in named for key, tensor in part.items()}
    if isinstance(value, Tensor):
        return {name: value.detach().clone()}
    if isinstance(value, np.ndarray):
        return {name: torch.from_numpy(value.copy())}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {name: torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)}
    return {}


def restored(like: T, state: Mapping[str, Tensor], name: str) -> T:
    """`like` with the numbers of `state`. Raises OtherShape where they are not of the same kind and shape."""
    value: Any = like
    if (parts := _parts(value)) is not None:
        found = {key: restored(part, state, f"{name}.{key}") for key, part in parts.items()}
        return cast("T", found if isinstance(value, dict) else replace(value, **found))
    expected = flattened(value, name)
    return cast("T", _as(value, _checked(state, name, expected[name]))) if expected else like


def _parts(value: Any) -> dict[str, Any] | None:
    """By name; None of what has no parts."""
    if isinstance(value, dict):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return None


def _as(like: Any, found: Tensor) -> Any:
    if isinstance(like, Tensor):
        return found.clone()
    return found.numpy().copy() if isinstance(like, np.ndarray) else type(like)(found.item())


def _checked(state: Mapping[str, Tensor], name: str, expected: Tensor) -> Tensor:
    found = state.get(name)
    if found is None or found.shape != expected.shape or found.dtype != expected.dtype:
        said = "nothing" if found is None else f"{list(found.shape)} {found.dtype}"
        raise OtherShape(f"state {name!r}: expected {list(expected.shape)} {expected.dtype}, found {said}")
    return found
