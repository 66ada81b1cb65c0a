"""Rules that TorchJD computes in closed form, or with a solver that says when it fails. Needs the extra `rivals`."""

from collections.abc import Callable

import numpy as np
import torch
from torchjd.aggregation import AlignedMTLWeighting, IMTLGWeighting, PCGradWeighting, UPGradWeighting
from torchjd.linalg import QuadprogProjector

from edge_server.aggregators.base import State
from edge_server.aggregators.simplex import Array

_RIDGE = 1e-9
"""UPGrad's regularisation, relative to the Gramian's trace."""


def _apply(weighting: Callable[[torch.Tensor], torch.Tensor], gramian: Array) -> Array:
    return np.asarray(weighting(torch.from_numpy(gramian)).numpy())


def imtl_g(gramian: Array, _: State) -> Array:
    """w ~ G^+ sqrt(diag G), sum 1: equal projections on all users' directions. Liu et al., ICLR 2021."""
    return _apply(IMTLGWeighting(), gramian)


def aligned_mtl(gramian: Array, _: State) -> Array:
    """sqrt(lambda_min) G^(-1/2) 1/P on G's range: Senushkin et al., CVPR 2023, Algorithm 1."""
    return _apply(AlignedMTLWeighting(), gramian)


def upgrad(gramian: Array, _: State) -> Array:
    """Mean over k of argmin v.G v, v >= e_k: Quinton and Rey, arXiv 2406.16232, Proposition 1."""
    return _apply(UPGradWeighting(projector=QuadprogProjector(reg_eps=_RIDGE)), gramian)


class PcGrad:
    """Every gradient projected off those it conflicts with, in a random order, and all added up.

    Yu et al., NeurIPS 2020, Algorithm 1. The order in slot i of round t comes from the stream (seed, t, i).
    """

    def __init__(self, seed: int):
        self._seed = seed

    def __call__(self, gramian: Array, state: State) -> Array:
        """Weights [P]. The global generator is left as it was."""
        stream = np.random.default_rng([self._seed, state.rounds, state.slot])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream.integers(2**63)))
            return _apply(PCGradWeighting(), gramian)
