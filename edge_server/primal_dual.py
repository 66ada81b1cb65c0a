"""The three updates of OWO-FMTL and their step sizes: primal (5), outer (7), dual (9), and Theorem 1's bound.

Pure functions. Rounds t and slots i are counted from 1 in this file, as in the formulas.
"""

import math

import torch
from torch import Tensor

from edge_server.domains import Domain
from edge_server.fairness import AlphaFair


def primal_step(theta: Tensor, gradient: Tensor, eta: float, domain: Domain) -> Tensor:
    """Eq. (5): Proj_Theta(theta - eta gradient).

    theta [d]. gradient [d] = sum_k |w_k| grad loss_k. As w_k = -|w_k|, this descent on the weighted loss is
    the paper's ascent theta + eta sum_k w_k grad loss_k on Psi. Returns a new theta [d] of the same type.
    """
    return domain.project(theta.sub(gradient, alpha=eta))


def cap_gradient(gradient: Tensor, cap: float) -> tuple[Tensor, bool]:
    """gradient [d] scaled down to Euclidean norm `cap` > 0 if it is longer; and whether it was."""
    norm = float(torch.linalg.vector_norm(gradient, dtype=torch.float64))
    return (gradient * (cap / norm), True) if norm > cap else (gradient, False)


def dual_step(w: Tensor, u: Tensor, i: int, fairness: AlphaFair) -> Tensor:
    """Eq. (9): clip_W(w - ((-w)^(-1/a) - u) / (mu i)) with step 1/(mu i), for alpha > 0.

    w [K] in W, u [K] the slot's utilities (not clipped), i >= 1 the step's index. Returns w [K], float64.
    """
    return fairness.project(w.sub(fairness.dual_gradient(w, u), alpha=1 / (dual_modulus(fairness) * i)))


def dual_modulus(fairness: AlphaFair) -> float:
    """Strong convexity mu = u_min^(1+a)/a of c on W (maths.md A2.1); inf at alpha = 0, where W is a point."""
    if fairness.alpha == 0:
        return math.inf
    return math.pow(fairness.u_min, 1 + fairness.alpha) / fairness.alpha


def outer_step(x: Tensor, theta_star: Tensor, t: int, domain: Domain) -> Tensor:
    """Eq. (7) with beta_t = eta/t: Proj_X(x + (theta_star - x)/t), the running mean of theta*_1..t.

    x, theta_star [d] float64, t >= 1.
    """
    return move_towards(x, theta_star, 1 / t, domain)


def move_towards(x: Tensor, theta_star: Tensor, step: float, domain: Domain) -> Tensor:
    """Proj_X(x + step (theta_star - x)); exactly theta_star when step is 1. x, theta_star [d] float64."""
    return domain.project(torch.lerp(x, theta_star, step))


def theory_step(d_star: float, gradient_bound: float, slots: int) -> float:
    """Theorem 1's eta = D* / (G sqrt m). d_star = D*, gradient_bound = G > 0, slots = m."""
    return d_star / (gradient_bound * math.sqrt(slots))


def regret_bound(
    d_star: float, diameter: float, gradient_bound: float, rounds: int, slots: int, users: int, fairness: AlphaFair
) -> float:
    """Theorem 1's bound on R_T without its residual (maths.md A1, A2.2).

    d_star = D* > 0, diameter = D of Theta, gradient_bound = G, rounds = T >= 1, slots = m >= 1, users = K.
    """
    primal = gradient_bound * (d_star + diameter**2 * (1 + math.log(rounds)) / (2 * d_star * rounds))
    spread = users * (fairness.u_max - fairness.u_min) ** 2
    dual = spread * (1 + math.log(slots)) / (2 * dual_modulus(fairness) * slots)
    return primal / math.sqrt(slots) + dual


def residual(w: Tensor, utilities: Tensor) -> float:
    """One round's residual of Theorem 1: mean_i (w_i - mean_i w_i).u_i(theta*).

    w [m, K]: the weights applied. utilities [m, K]: at theta*_t. Every user present in every slot.
    """
    return float(((w - w.mean(0)) * utilities).sum(1).mean())
