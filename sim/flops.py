"""How many floating-point operations a sample costs the edge."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from edge_server.config import Encoder
from edge_server.encoders import build_encoder


def edge_flops(encoder: Encoder, shape: tuple[int, ...], dtype: torch.dtype, *, inputs: bool) -> int:
    """Of one sample's forward and backward pass through the shared encoder, as torch counts matrix products.

    shape: of one sample's features. inputs: the backward pass goes on to the features.
    """
    model = build_encoder(encoder, shape, dtype, seed=0)
    x = torch.zeros((1, *shape), dtype=dtype, requires_grad=inputs)
    with FlopCounterMode(display=False) as counted, torch.enable_grad():
        model(x).sum().backward()
    return int(counted.get_total_flops())
