"""The output activations of published policies, in numpy: logits [B, N] to powers in W, all N places present."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """`softmax`: p_tot (floor / N + (1 - floor) softmax). `sigmoid`: p_tot sigmoid. p_tot in W."""

    activation: Literal["softmax", "sigmoid"]
    p_tot: float
    floor: float = 0.0

    def __call__(self, logits: Array) -> Array:
        """Powers [B, N] in W of logits [B, N], which it may overwrite."""
        if self.activation == "sigmoid":
            logits *= 0.5
            np.tanh(logits, out=logits)
            logits += 1
            logits *= 0.5 * self.p_tot
            return logits
        logits -= np.maximum.reduce(logits, axis=-1, keepdims=True)
        np.exp(logits, out=logits)
        logits *= (1 - self.floor) * self.p_tot / np.add.reduce(logits, axis=-1, keepdims=True)
        if self.floor:
            logits += self.floor * self.p_tot / logits.shape[-1]
        return logits
