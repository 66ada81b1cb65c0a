import numpy as np
import torch

from edge_server.routed_mtl.problem_checks import check_problem
from sim.skeletons.problem import WeakestSignal

PROBLEM = WeakestSignal(p_tot=2.0)
GAINS = PROBLEM.sample(np.random.default_rng(1), instances=50, users=4)


def objective(power: np.ndarray) -> np.ndarray:
    everyone = torch.ones(power.shape, dtype=torch.bool)
    return PROBLEM.objective(torch.from_numpy(GAINS), torch.from_numpy(power), everyone).numpy()


def test_it_passes_the_checks_of_the_trainer() -> None:
    check_problem(PROBLEM, users=4)


def test_no_shares_are_better_than_the_optimum() -> None:
    best = PROBLEM.optimum(GAINS)
    np.testing.assert_allclose(best.sum(axis=1), 2.0)
    for seed in range(20):
        other = 2.0 * np.random.default_rng(seed).dirichlet(np.ones(4), size=50)
        assert (objective(best) <= objective(other)).all()
