"""Where the model is cut: a backward pass goes on, on either side, from the slopes that the other side has said."""

import torch
from torch import Tensor


def along(outputs: Tensor, slopes: Tensor) -> Tensor:
    """A number whose gradient at the outputs [B, ...] is these slopes [B, ...], to the bit.

    Given slopes themselves, autograd first imports what it has for symbolic shapes: .3 s of the first slot.
    """
    with torch.enable_grad():
        return torch.dot(outputs.flatten(), slopes.flatten())
