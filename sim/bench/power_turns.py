"""Contenders in one process and one thread take turns, so that a machine that drifts drifts for all of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Contenders = Mapping[str, Callable[[], object]]
Times = list[NDArray[np.float64]]
"""Seconds of each call, a block after the other."""


@dataclass(frozen=True)
class Effort:
    """blocks: turns that count, after one that warms up. seconds: of a contender's turn, or one call if it is longer.

    steps: of stage 1 for `--complexity`, before the masks are weighed.
    """

    blocks: int = 20
    seconds: float = 0.05
    steps: int = 5000


@contextmanager
def one_thread() -> Iterator[None]:
    """torch and the BLAS of numpy and scipy keep to one thread each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def take_turns(contenders: Contenders, effort: Effort) -> dict[str, Times]:
    """Seconds of every call that counts, per contender."""
    times: dict[str, Times] = {name: [] for name in contenders}
    for _ in range(effort.blocks + 1):
        for name, call in contenders.items():
            times[name].append(_turn(call, effort.seconds))
    return {name: blocks[1:] for name, blocks in times.items()}


def medians(contenders: Contenders, effort: Effort) -> dict[str, float]:
    """The median seconds of a call, per contender."""
    return {name: median(blocks) for name, blocks in take_turns(contenders, effort).items()}


def median(blocks: Times) -> float:
    """Seconds of a call, over all calls."""
    return float(np.median(np.concatenate(blocks)))


def ratio_quartiles(above: Times, below: Times) -> list[float]:
    """Between which a half of the blocks' ratios lies; each is one of medians."""
    ratios = [np.median(a) / np.median(b) for a, b in zip(above, below, strict=True)]
    return [float(quartile) for quartile in np.quantile(ratios, (0.25, 0.75))]


def _turn(call: Callable[[], object], seconds: float) -> NDArray[np.float64]:
    spent: list[float] = []
    end = perf_counter() + seconds
    while not spent or perf_counter() < end:
        began = perf_counter()
        call()
        spent.append(perf_counter() - began)
    return np.array(spent)
