"""What a rule with a state must keep to, tried out before a run: equal bits in, equal bits out, all in the state."""

from collections.abc import Callable
from dataclasses import is_dataclass
from typing import TypeVar

from edge_server.state import Flat, OtherShape, flattened, require_all, restored

State = TypeVar("State")
Given = TypeVar("Given")

_NAME = "state"


def require_pure(step: Callable[[State, Given], State], state: State, first: Given, second: Given) -> None:
    """Takes three steps with what is given. Raises ValueError, one line, unless

    the state is a frozen dataclass that a checkpoint takes and gives back, `step` leaves the states that it was given
    as they were, and equal states and givens lead to equal bits whatever came between.
    """
    require_frozen(state)
    before = flattened(state, _NAME)
    once = step(state, first)
    after = flattened(once, _NAME)
    step(once, second)
    again = step(state, first)
    if not (_equal(before, flattened(state, _NAME)) and _equal(after, flattened(once, _NAME))):
        raise ValueError("a step changes the state that it was given; leave it, and return dataclasses.replace(..)")
    if not _equal(after, flattened(again, _NAME)):
        raise ValueError(
            "equal states and slots lead to different bits; all memory goes into the state, and random numbers come "
            "from generators made anew from its seed"
        )
    _require_resumable(state, after)


def require_frozen(state: object) -> None:
    """Raises ValueError, one line, unless it is a frozen dataclass."""
    if not is_dataclass(state) or isinstance(state, type) or not type(state).__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ValueError(f"its state is a {type(state).__name__}; it must be a frozen dataclass")


def _require_resumable(state: object, after: Flat) -> None:
    try:
        require_all(after, restored(state, after, _NAME), _NAME)
    except OtherShape as error:
        raise ValueError(f"a resumed run could not go on from its state: {error}") from error


def _equal(one: Flat, other: Flat) -> bool:
    """The same names, and the same bytes: NaN is NaN."""
    return one.keys() == other.keys() and all(
        (tensor.dtype, tensor.shape) == (other[name].dtype, other[name].shape)
        and tensor.numpy(force=True).tobytes() == other[name].numpy(force=True).tobytes()
        for name, tensor in one.items()
    )
