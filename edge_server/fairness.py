"""The alpha-fair family of OWO-FMTL: F_alpha, its conjugate, the dual box and the extension outside it.

Everything is float64. K users in scenario order; weights are the paper's w, always negative.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class AlphaFair:
    """F_alpha on utilities meant to lie in [u_min, u_max], and its dual box W = [-u_min^-a, -u_max^-a].

    Utilities and weights are dimensionless. Raises ValueError where the family or the box is undefined.
    """

    alpha: float
    u_min: float
    u_max: float
    strongest: float = field(init=False, repr=False, compare=False)
    """The box's end -u_min^-alpha: the weight of a user at u_min."""
    weakest: float = field(init=False, repr=False, compare=False)
    """The box's end -u_max^-alpha: the weight of a user at u_max."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.alpha < math.inf):
            raise ValueError(f"alpha must be finite and at least 0, got {self.alpha}")
        if not (0.0 < self.u_min < self.u_max < math.inf):
            raise ValueError(f"need 0 < u_min < u_max, got u_min = {self.u_min}, u_max = {self.u_max}")
        try:
            ends = (-(self.u_min**-self.alpha), -(self.u_max**-self.alpha))
        except OverflowError:
            ends = (-math.inf, 0.0)
        if not math.isfinite(ends[0]) or ends[1] == 0.0:
            raise ValueError(
                f"the dual weights u^-alpha leave float64 for alpha = {self.alpha}, "
                f"u in [{self.u_min}, {self.u_max}]; use a smaller alpha or a narrower range"
            )
        object.__setattr__(self, "strongest", ends[0])
        object.__setattr__(self, "weakest", ends[1])

    def value(self, u: Tensor) -> float:
        """F_alpha(u), Eq. (1). u [K] > 0 (>= 0 for alpha < 1, any real for alpha = 0); else ValueError."""
        if self.alpha > 0 and not bool((u >= 0 if self.alpha < 1 else u > 0).all()):
            raise ValueError(f"F_alpha is undefined at utility {float(u.min()):g} for alpha = {self.alpha:g}")
        return float(self._terms(u).sum())

    def extended(self, u: Tensor) -> float:
        """f_ext(u) = min over W of Psi(w, u): F_alpha in the box, its C1 linear continuation outside. u [K]."""
        inside = self.clip(u)
        return float((self._terms(inside) + inside.pow(-self.alpha) * (u - inside)).sum())

    def extended_gradient(self, u: Tensor) -> Tensor:
        """Gradient of f_ext at u [K]: clip(u)^-alpha [K], positive."""
        return self.clip(u).pow(-self.alpha)

    def conjugate(self, w: Tensor) -> float:
        """c(w) below Eq. (3), w [K] in W; -1 per user at alpha = 1, -K at alpha = 0 (where w = -1)."""
        return float(self.conjugates(w).sum())

    def conjugates(self, w: Tensor) -> Tensor:
        """Each user's term of c(w), w [..., K] in W."""
        if self.alpha == 0:
            return -torch.ones_like(w)
        log_weight = (-w).log()
        if self.alpha == 1:
            return -log_weight - 1
        rest = 1 - self.alpha
        return self.alpha * torch.expm1(log_weight * (-rest / self.alpha)) / rest - 1

    def proxy(self, w: Tensor, u: Tensor) -> float:
        """Psi(w, u) = c(w) - w.u, Eq. (3). w [K] in W, u [K] any real."""
        return self.conjugate(w) - float(w @ u)

    def dual_gradient(self, w: Tensor, u: Tensor) -> Tensor:
        """dPsi/dw_k = (-w_k)^(-1/alpha) - u_k. w [K] in W, u [K]; ValueError at alpha = 0, where W is a point."""
        if self.alpha == 0:
            raise ValueError("alpha = 0 has no dual step: every weight is -1")
        return (-w).pow(-1 / self.alpha) - u

    def project(self, w: Tensor) -> Tensor:
        """w [K] clipped to the dual box W."""
        return w.clamp(self.strongest, self.weakest)

    def weights_at(self, u: Tensor) -> Tensor:
        """The minimiser of Psi(., u) over W, Eq. (4): -clip(u, u_min, u_max)^-alpha [K]."""
        return -self.extended_gradient(u)

    def out_of_range(self, u: Tensor) -> Tensor:
        """Bool [K]: utilities outside [u_min, u_max]. An absent user (NaN) is not out of range."""
        return (u < self.u_min) | (u > self.u_max)

    def clip(self, u: Tensor) -> Tensor:
        """u [K] clipped to [u_min, u_max]; NaN stays NaN."""
        return u.clamp(self.u_min, self.u_max)

    def _terms(self, u: Tensor) -> Tensor:
        if self.alpha == 0:
            return u - 1
        if self.alpha == 1:
            return u.log()
        return torch.expm1(u.log() * (1 - self.alpha)) / (1 - self.alpha)
