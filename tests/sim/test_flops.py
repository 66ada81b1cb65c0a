"""Operations of the edge, counted by hand for the encoders of the papers."""

import torch

from edge_server.config import Lenet, Linear
from sim.flops import edge_flops

CONV_1, CONV_2 = 2 * 24 * 24 * 10 * 75, 2 * 8 * 8 * 20 * 250
DENSE = 2 * 320 * 50


def test_lenet_by_hand() -> None:
    forward = CONV_1 + CONV_2 + DENSE
    weights, through = forward, CONV_2 + DENSE
    lenet = Lenet(kind="lenet")
    assert edge_flops(lenet, (3, 28, 28), torch.float32, inputs=False) == forward + weights + through
    assert edge_flops(lenet, (3, 28, 28), torch.float32, inputs=True) == forward + weights + through + CONV_1


def test_a_linear_encoder_by_hand() -> None:
    assert edge_flops(Linear(kind="linear"), (4,), torch.float64, inputs=False) == 2 * 4 * 2
