"""Rules that bound what a few users can do to the shared encoder, whatever they send. They bound honest ones, too.

g_k [d] is user k's encoder gradient of its own loss, -w_k g_k its contribution; without a rule the encoder moves by the
sum of these. P users are heard in a slot. A gradient that is not finite, though what the user sent was, counts as the
largest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from edge_server.shared_model import SharedModel


class Combined(NamedTuple):
    """gradient [d]: where the encoder is. held_back: bool [K], whose contribution was cut or left out; None: no such.

    gradient is valid until the model's next `backward`.
    """

    gradient: Tensor
    held_back: Tensor | None


class Robust(Protocol):
    """A rule; called between `forward` and `backward`, in whose place it stands."""

    def __call__(self, model: SharedModel, gradients: Sequence[Tensor | None], w: Tensor) -> Combined:
        """gradients: dloss_k/doutput_k [B_k, ...], None for who is not heard. w [K]: as the aggregator gave it."""
        ...


@dataclass(frozen=True)
class NormClip:
    """sum_k -w_k g_k min(1, at / ||g_k||). The norms take one more pass, user by user, and O(d) memory."""

    at: float

    def __call__(self, model: SharedModel, gradients: Sequence[Tensor | None], w: Tensor) -> Combined:
        """As `Robust`."""
        shares = clip_shares(model.gradient_norms(gradients), self.at)
        return Combined(model.backward(gradients, w * shares), shares < 1)


@dataclass(frozen=True)
class MultiKrum:
    """The contributions of the P - f users whose g_k have the closest neighbours, times P / (P - f).

    Blanchard et al., NeurIPS 2017. With P < 2 f + 3 nobody is near enough to be trusted, and the encoder stays. Needs
    the Gramian.
    """

    byzantine: int

    def __call__(self, model: SharedModel, gradients: Sequence[Tensor | None], w: Tensor) -> Combined:
        """As `Robust`."""
        given = torch.tensor([g is not None for g in gradients])
        shares = krum_shares(model.gramian(gradients), given, self.byzantine)
        return Combined(model.backward(gradients, w * shares), given & (shares == 0))


@dataclass(frozen=True)
class TrimmedMean:
    """P times the mean of the contributions, by coordinate, without the `share` P smallest and as many largest.

    Yin et al., ICML 2018; share .5 is the median. Holds K d numbers, and takes two more passes.
    """

    share: float

    def __call__(self, model: SharedModel, gradients: Sequence[Tensor | None], w: Tensor) -> Combined:
        """As `Robust`."""
        own = model.user_gradients(gradients)
        plain = model.backward(gradients, w)
        given = torch.tensor([g is not None for g in gradients])
        if not given.any():
            return Combined(plain, None)
        contributions = own[given] * -w[given, None].to(own.dtype)
        return Combined(trimmed(contributions, self.share).to(plain), None)


def clip_shares(norms: Tensor, at: float) -> Tensor:
    """min(1, at / norm) [K] of norms [K]; 0 of one that is not finite."""
    return torch.where(norms.isfinite(), at / norms.clamp_min(at), 0.0)


def krum_shares(gramian: Tensor, given: Tensor, byzantine: int) -> Tensor:
    """What each user's weight is multiplied by [K]: P / (P - f) or 0. gramian [K, K], given [K]: who is heard."""
    count = int(given.sum())
    shares = torch.zeros(len(given), dtype=torch.float64)
    if count < 2 * byzantine + 3:
        return shares
    inner = gramian[given][:, given]
    squares = inner.diagonal()
    distances = (squares[:, None] + squares - 2 * inner).nan_to_num(nan=torch.inf).clamp_min(0.0)
    distances.fill_diagonal_(torch.inf)
    scores = distances.sort(dim=1).values[:, : count - byzantine - 2].sum(dim=1)
    chosen = scores.argsort(stable=True)[: count - byzantine]
    chosen = chosen[scores[chosen].isfinite()]
    shares[given.nonzero().flatten()[chosen]] = count / (count - byzantine)
    return shares


def trimmed(contributions: Tensor, share: float) -> Tensor:
    """P times the mean [d] of what is left of contributions [P, d]; at least the middle one or two of each coordinate.

    share P is rounded down.
    """
    count = len(contributions)
    cut = min(int(share * count), (count - 1) // 2)
    return contributions.sort(dim=0).values[cut : count - cut].mean(dim=0) * count
