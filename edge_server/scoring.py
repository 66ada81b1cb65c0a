"""What a finished round is worth: fairness, regret, residual and Theorem 1's bound."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edge_server.certificate import certify
from edge_server.fairness import AlphaFair
from edge_server.outer import Hindsight
from edge_server.primal_dual import regret_bound, residual
from edge_server.record import ABSENT, Floats, RoundRecord, mean_over_slots


@dataclass(frozen=True)
class Theory:
    """Theorem 1's constants: D* of the theta*_t, D of Theta (finite), and G, the largest weighted gradient."""

    d_star: float
    diameter: float
    gradient_bound: float


class Scorer:
    """Scores rounds with the run's alpha-fair family; `theory` is None where the bound does not apply.

    Who is away for a whole round is not in its sums: F of a round with fewer users has fewer terms. Nor is who is away
    in a slot in that slot's: a mean utility is over the slots in which the user took part.
    """

    def __init__(self, fairness: AlphaFair, l_max: Floats, theory: Theory | None = None):
        self._fairness = fairness
        self._l_max = l_max
        self._theory = theory
        self.residuals: list[float] = []

    def score(self, record: RoundRecord, hindsight: Hindsight | None) -> None:
        """Fill in the round's scores, over the users that took part. hindsight: utilities [m, K] at theta*_t."""
        here = record.present
        record.fairness = self._extended(record.mean_utility[here])
        record.slot_fairness = self._extended(record.utility[record.status != ABSENT]) / len(record.utility)
        record.val_fairness = self._extended((self._l_max - record.val_loss)[here])
        if hindsight is not None:
            self._regret(record, hindsight.utilities.numpy(), here)
        self._certify(record, hindsight, here)

    def _certify(self, record: RoundRecord, hindsight: Hindsight | None, here: NDArray[np.bool_]) -> None:
        w, u = torch.from_numpy(-record.weight[:, here]), torch.from_numpy(record.utility[:, here])
        best = None if hindsight is None else hindsight.utilities[:, torch.from_numpy(here)]
        if found := certify(self._fairness, w, u, best):
            record.dual_gap, record.primal_regret, record.drift = found

    def _extended(self, utility: Floats) -> float:
        return np.nan if np.isnan(utility).any() else self._fairness.extended(torch.from_numpy(utility))

    def _regret(self, record: RoundRecord, best: Floats, here: NDArray[np.bool_]) -> None:
        """R_T's term of this round, on the slots that were applied; the bound with T := t (maths.md A1)."""
        best = np.where(np.isnan(record.utility), np.nan, best)
        record.oracle_fairness = self._extended(mean_over_slots(best)[here])
        record.regret = record.oracle_fairness - record.fairness
        record.residual = residual(torch.from_numpy(-record.weight[:, here]), torch.from_numpy(best[:, here]))
        if np.isnan(record.residual):
            return
        self.residuals.append(record.residual)
        if self._theory is not None:
            slots, users = record.loss.shape
            constants = self._theory.d_star, self._theory.diameter, self._theory.gradient_bound
            bound = regret_bound(*constants, len(self.residuals), slots, users, self._fairness)
            record.bound = bound + float(np.mean(self.residuals))
