"""One kind of tensor of one user on its way, slot after slot: what a coding must remember, and its chance."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from protos import edge_pb2 as pb
from protos.codings import Coding
from protos.narrow import Floats, Narrow, narrowed, widened
from protos.tensors import WIRE, coded_dtype, pack


class Sender:
    """Packs tensors as `coding` says. seed: of the rounding, which depends on it, the round and the slot alone.

    With error feedback, what a slot leaves out is owed: it is added to the next tensor once the slot is settled.
    """

    def __init__(self, coding: Coding, seed: Sequence[int] = ()):
        self.owed: Floats | None = None
        self._coding, self._seed = coding, seed
        self._left_out: Floats | None = None

    def pack(self, tensor: Tensor, into: pb.Tensor, t: int, i: int) -> None:
        """Write the tensor of round t, slot i. Raises BadTensor for a dtype that cannot travel."""
        if self._coding.kind == "full":
            pack(tensor, into)
            return
        into.dtype = coded_dtype(self._coding, tensor.dtype)
        into.shape.extend([*tensor.shape])
        sent = self._narrowed(tensor.detach().numpy(), WIRE[tensor.dtype][1], t, i)
        into.data, into.scale, into.indices = sent

    def settle(self) -> None:
        """The last tensor was used: what it left out is owed from now on."""
        self.owed = self._left_out

    def _narrowed(self, values: Floats, layout: np.dtype[np.floating], t: int, i: int) -> Narrow:
        coding = self._coding
        if coding.kind != "top_k" or not coding.error_feedback:
            return narrowed(values, coding, np.random.default_rng((*self._seed, t, i)))
        due = values if self.owed is None else values + self.owed
        sent = narrowed(due, coding, np.random.default_rng(0))
        with np.errstate(invalid="ignore"):
            self._left_out = due - widened(sent, coding, layout, due.size).reshape(due.shape)
        return sent
