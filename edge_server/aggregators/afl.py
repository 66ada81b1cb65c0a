"""AFL: the mixture of users that is worst for the model, by projected ascent."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from edge_server.aggregators.base import Cost, Slot, State, equal_weights
from edge_server.fairness import AlphaFair


@dataclass(frozen=True)
class Afl:
    """min over theta, max over lambda in the simplex, of lambda.l: Mohri et al., ICML 2019, Stochastic-AFL.

    |w| = lambda, and lambda := Proj(lambda + step l) after every slot. lambda starts at 1/K and is carried from round
    to round, as AFL knows no rounds. An absent user's share is held; the present ones move within what is left.
    """

    cost: ClassVar[Cost] = "scalars"
    fairness: AlphaFair
    ascent: float = 0.1

    def start(self, users: int) -> State:
        """lambda = 1/K."""
        return State.of(equal_weights(users))

    def begin_round(self, state: State) -> State:
        """Counts the round."""
        return replace(state, slot=0, rounds=state.rounds + 1)

    def weights(self, state: State, slot: Slot) -> Tensor:  # noqa: ARG002 - the protocol's argument
        """-lambda [K], sum -1."""
        return state.w

    def step(self, state: State, slot: Slot) -> State:
        """One step of projected ascent on the losses of the users present."""
        here, w = slot.present, state.w.clone()
        if bool(here.any()):
            share = -w[here]
            w[here] = -project_simplex(share + self.ascent * slot.losses[here], float(share.sum()))
        return replace(state, w=w, slot=state.slot + 1)


def project_simplex(point: Tensor, total: float) -> Tensor:
    """The nearest point [K] with entries >= 0 that add up to `total` >= 0: max(point - t, 0). float64."""
    falling = point.sort(descending=True).values
    threshold = (falling.cumsum(0) - total) / torch.arange(1, len(point) + 1, dtype=point.dtype)
    last = int((falling >= threshold).nonzero()[-1])
    return (point - threshold[last]).clamp(min=0)
