"""A bound on a round's regret that can be computed after the fact, for any weights in the dual box.

With w_i the weights applied in slot i and bars for means over the round, convexity of c gives
R <= mean_i |w_i|.(l_i(theta_i) - l_i(theta*))                  primal regret of the weighted losses
   + mean_i c(w_i) - w_bar.u_bar - f_ext(u_bar)                 dual gap, at least 0, known without an oracle
   + mean_i (w_bar - w_i).(u_i(theta_i) - u_i(theta*))          drift, 0 when the weights are constant.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from edge_server.fairness import AlphaFair

_ROUNDING = 1e-9
"""Relative distance by which a weight may lie outside the dual box."""


class Certificate(NamedTuple):
    """primal_regret, drift: NaN without theta*. Their sum with dual_gap is at least the round's regret."""

    dual_gap: float
    primal_regret: float
    drift: float


def certify(fairness: AlphaFair, w: Tensor, utilities: Tensor, best: Tensor | None) -> Certificate | None:
    """w [m, K] as applied. utilities [m, K] as served; best [m, K]: at theta*_t, where an oracle ran. All float64.

    None where a weight lies outside the dual box, or a utility is missing.
    """
    if bool(utilities.isnan().any()) or not _in_box(fairness, w):
        return None
    mean_w, mean_u = w.mean(0), utilities.mean(0)
    conjugate = float(fairness.conjugates(fairness.project(w)).sum(1).mean())
    gap = conjugate - float(mean_w @ mean_u) - fairness.extended(mean_u)
    if best is None:
        return Certificate(gap, torch.nan, torch.nan)
    lost = utilities - best
    return Certificate(gap, float((w * lost).sum(1).mean()), float(((mean_w - w) * lost).sum(1).mean()))


def _in_box(fairness: AlphaFair, w: Tensor) -> bool:
    return bool(((fairness.project(w) - w).abs() <= _ROUNDING * w.abs()).all())
