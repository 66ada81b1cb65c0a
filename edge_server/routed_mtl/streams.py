"""Random streams of the trainer: each has a name and comes from the run's seed alone."""

import zlib

import numpy as np
import torch


def numpy_stream(seed: int, *names: str) -> np.random.Generator:
    """The numpy generator of (seed, names)."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def torch_stream(seed: int, *names: str) -> torch.Generator:
    """The torch CPU generator of (seed, names)."""
    return torch.Generator().manual_seed(int(numpy_stream(seed, *names).integers(2**63)))
