"""What a finished round is worth: fairness, regret, residual and Theorem 1's bound."""

from dataclasses import dataclass

import numpy as np
import torch

from edge_server.fairness import AlphaFair
from edge_server.outer import Hindsight
from edge_server.primal_dual import regret_bound, residual
from edge_server.record import Floats, RoundRecord, mean_over_slots


@dataclass(frozen=True)
class Theory:
    """Theorem 1's constants: D* of the theta*_t, D of Theta (finite), and G, the largest weighted gradient."""

    d_star: float
    diameter: float
    gradient_bound: float


class Scorer:
    """Scores rounds with the run's alpha-fair family; `theory` is None where the bound does not apply."""

    def __init__(self, fairness: AlphaFair, l_max: Floats, theory: Theory | None = None):
        self._fairness = fairness
        self._l_max = l_max
        self._theory = theory
        self._residuals: list[float] = []

    def score(self, record: RoundRecord, hindsight: Hindsight | None) -> None:
        """Fill in the round's scores. hindsight: utilities [m, K] at theta*_t, where an oracle ran."""
        record.fairness = self._extended(record.mean_utility)
        record.slot_fairness = self._extended(record.utility.ravel()) / len(record.utility)
        record.val_fairness = self._extended(self._l_max - record.val_loss)
        if hindsight is not None:
            self._regret(record, hindsight.utilities.numpy())

    def _extended(self, utility: Floats) -> float:
        return np.nan if np.isnan(utility).any() else self._fairness.extended(torch.from_numpy(utility))

    def _regret(self, record: RoundRecord, best: Floats) -> None:
        """R_T's term of this round, on the slots that were applied; the bound with T := t (maths.md A1)."""
        best = np.where(np.isnan(record.utility), np.nan, best)
        record.oracle_fairness = self._extended(mean_over_slots(best))
        record.regret = record.oracle_fairness - record.fairness
        record.residual = residual(torch.from_numpy(-record.weight), torch.from_numpy(best))
        self._residuals.append(record.residual)
        if self._theory is not None:
            slots, users = record.loss.shape
            constants = self._theory.d_star, self._theory.diameter, self._theory.gradient_bound
            bound = regret_bound(*constants, len(self._residuals), slots, users, self._fairness)
            record.bound = bound + float(np.mean(self._residuals))
