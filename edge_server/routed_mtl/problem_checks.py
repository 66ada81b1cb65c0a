"""Whether a problem of somebody's own keeps to the protocol, tried out on a few channels before anything is trained."""

from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_server.routed_mtl.checks import positive, positive_array
from edge_server.routed_mtl.problems import Kind, Problem
from edge_server.routed_mtl.publishing import head_of

_INSTANCES = 3
_SLACK = 1 + 1e-4


def check_problem(problem: Problem, users: int) -> None:
    """Raises ValueError, one line, where it is not what `Problem`, and its `kind`, say of up to `users` users.

    That is: equal and hashable values, a known kind, equal samples of equal generators, an output activation that a
    policy knows, powers within the limit, one finite objective per instance, and optima or limits in their place.
    """
    if problem.kind not in get_args(Kind):
        raise ValueError(f"its kind is {problem.kind!r}; it must be one of {', '.join(get_args(Kind))}")
    _check_frozen(problem)
    positive("its p_tot", p_tot=problem.p_tot)
    gains = _sampled(problem, users)
    head_of(problem)
    _check_objective(problem, torch.from_numpy(gains))
    _check_kind(problem, gains)


def _check_frozen(problem: Problem) -> None:
    try:
        hash(problem)
    except TypeError as error:
        raise ValueError(f"tasks are grouped by problem: make it a frozen dataclass ({error})") from error


def _sampled(problem: Problem, users: int) -> NDArray[np.float64]:
    one, other = (problem.sample(np.random.default_rng(0), _INSTANCES, users) for _ in range(2))
    gains = positive_array("its sample of gains", one)
    if gains.shape != (_INSTANCES, users):
        raise ValueError(f"sample gives gains {list(gains.shape)}; asked for {[_INSTANCES, users]}")
    if not np.array_equal(one, other):
        raise ValueError("equal generators give different samples; draw from the generator that is given alone")
    return gains


def _check_objective(problem: Problem, gains: Tensor) -> None:
    """Also with a place in which there is no user: it must change nothing."""
    mask = torch.ones(gains.shape, dtype=torch.bool)
    power = problem.power(torch.zeros_like(gains), mask)
    value = problem.objective(gains, power, mask)
    if value.shape != gains.shape[:1] or not bool(value.isfinite().all()):
        raise ValueError(f"objective gives {value.tolist()}; expected a finite number for each of {len(gains)} rows")
    empty = torch.full((len(gains), 1), float("nan"), dtype=gains.dtype)
    padded, places = torch.cat([gains, empty], 1), torch.cat([mask, torch.zeros_like(mask[:, :1])], 1)
    power = problem.power(torch.zeros_like(padded), places)
    again = problem.objective(padded, power, places)
    if bool((power[:, -1] != 0).any()) or not torch.allclose(again, value):
        raise ValueError("what stands in a place without a user (mask False) changes powers or objective; mask it out")


def _check_kind(problem: Problem, gains: NDArray[np.float64]) -> None:
    if problem.kind == "unsupervised":
        limit = problem.mean_power(gains.shape[1])  # type: ignore[attr-defined]
        positive("its mean power", limit=limit)
        return
    best = np.asarray(problem.optimum(gains))  # type: ignore[attr-defined]
    if best.shape != gains.shape or not ((best >= 0) & (best <= _SLACK * problem.p_tot)).all():
        raise ValueError(f"optimum gives {best.tolist()}; expected powers {list(gains.shape)} from 0 to p_tot")
