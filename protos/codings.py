"""How tensors may travel in fewer bytes than their own type takes; both sides know it before the run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["full", "float16", "bfloat16", "int8", "top_k"]

_BYTES = {"float16": 2, "bfloat16": 2, "int8": 1}
INDEX = 4
"""Bytes of the place of a value that is kept."""


@dataclass(frozen=True)
class Coding:
    """One kind of tensor. share, error_feedback: of `top_k`, which sends the largest values alone.

    error_feedback: what a slot leaves out is added to the next slot's tensor.
    """

    kind: Kind = "full"
    share: float = 1.0
    error_feedback: bool = True

    def kept(self, values: int) -> int:
        """How many of so many values are sent; at least one."""
        return max(1, round(self.share * values)) if self.kind == "top_k" else values

    def itemsize(self, own: int) -> int:
        """Bytes of one number, where a full one takes `own`."""
        return _BYTES.get(self.kind, own)

    def nbytes(self, values: int, own: int) -> int:
        """Bytes of a tensor of so many values, where a full one takes `own` each; places of values included."""
        places = INDEX * self.kept(values) if self.kind == "top_k" else 0
        return self.kept(values) * self.itemsize(own) + places


FULL = Coding()


@dataclass(frozen=True)
class Codings:
    """The four tensors of a slot, named as their messages; feedback and acknowledgement carry gradients."""

    features: Coding = FULL
    outputs: Coding = FULL
    feedback: Coding = FULL
    acknowledgement: Coding = FULL

    @classmethod
    def from_dict(cls, content: Mapping[str, Mapping[str, Any]]) -> "Codings":
        """What `asdict` gave."""
        return cls(**{name: Coding(**coding) for name, coding in content.items()})


WHOLE = Codings()
