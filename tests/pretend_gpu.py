"""A GPU that is not there: tensors that say they are elsewhere, computed by the CPU's own operations.

Inside `pretend_gpu`, `cuda` is torch's meta device, on which autograd runs; a tensor there carries its values along.
As on a real one, tensors of both sides do not meet in one operation, and none gets across but by a copy, which is
counted. Kernels, streams and the real pinned memory remain untried.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

Shape = tuple[int, ...]

META = torch.device("meta")
_TO, _ONTO = torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default
_NUMBER = torch.ops.aten._local_scalar_dense.default


@dataclass
class Crossings:
    """Shapes of what crossed, in order; a number that is read has shape (). unpinned: those of other memory."""

    up: list[Shape] = field(default_factory=list)
    down: list[Shape] = field(default_factory=list)
    unpinned: list[Shape] = field(default_factory=list)


class There(torch.Tensor):
    """A tensor on the pretended GPU; `held` is on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> "There":
        made = torch.Tensor._make_wrapper_subclass(
            cls, values.size(), strides=values.stride(), dtype=values.dtype, device=META
        )
        made.held = values
        return made

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function == torch.Tensor.data.__set__:
            args[0].held = args[1].held
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{function} outside pretend_gpu")


class _Names(TorchFunctionMode):
    """`cuda` is meta here, and memory is pinned by name alone."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        pinned = kwargs.pop("pin_memory", False)
        args, kwargs = tree_map(_renamed, (args, kwargs))
        made = function(*args, **kwargs)
        if pinned:
            made.pinned = True
        return made


def _renamed(value: Any) -> Any:
    return META if isinstance(value, str | torch.device) and str(value) == "cuda" else value


class _Held(TorchDispatchMode):
    """Operations on what the tensors hold."""

    def __init__(self, crossings: Crossings):
        super().__init__()
        self._crossings = crossings

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        there = any(isinstance(value, There) for value in tree_iter((args, kwargs)))
        if function == _ONTO:
            self._cross(args[1], args[0], isinstance(args[0], There))
            _held(args[0]).copy_(_held(args[1]))
            return args[0]
        goes = kwargs["device"] == META if kwargs.get("device") else there and function != _NUMBER
        if function == _TO:
            self._cross(args[0], None, goes)
        elif function == _NUMBER and there:
            self._crossings.down.append(())
        elif there:
            _refuse_both_sides(function, args)
        if goes and "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        made = function(*tree_map(_held, args), **tree_map(_held, kwargs))
        if there and made is _held(args[0]):
            return args[0]
        return tree_map(_there, made) if goes else made

    def _cross(self, source: torch.Tensor, onto: torch.Tensor | None, goes: bool) -> None:
        """Counts the copy where it begins on one side and ends on the other."""
        if goes == isinstance(source, There):
            return
        crossed, shape = self._crossings, tuple(source.shape)
        (crossed.up if goes else crossed.down).append(shape)
        if not getattr(source if goes else onto, "pinned", False):
            crossed.unpinned.append(shape)


def _refuse_both_sides(function: Any, args: Any) -> None:
    for value in tree_iter(args):
        if isinstance(value, torch.Tensor) and not isinstance(value, There) and value.ndim:
            raise RuntimeError(f"{function}: tensors on both sides, {list(value.shape)} on the CPU")


def _held(value: Any) -> Any:
    return value.held if isinstance(value, There) else value


def _there(value: Any) -> Any:
    return There(value) if isinstance(value, torch.Tensor) else value


@contextmanager
def pretend_gpu() -> Iterator[Crossings]:
    """torch sees one GPU while inside; what crossed to it and back. Afterwards kernels are chosen as before."""
    crossings, before = Crossings(), torch.are_deterministic_algorithms_enabled()
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        stack.callback(torch.use_deterministic_algorithms, before)
        stack.enter_context(_Held(crossings))
        stack.enter_context(_Names())
        yield crossings
