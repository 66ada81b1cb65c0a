"""The parameter-free dual: answers predicted round means, and learns how far to trust earlier rounds."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from edge_server.aggregators.base import Cost, Slot, State
from edge_server.fairness import AlphaFair

STRENGTHS = torch.tensor([*(2.0**j for j in range(-1, 9)), 1e9], dtype=torch.float64)
"""[N]: how many slots the prior may be worth; the last one locks the dual for a round."""


@dataclass(frozen=True)
class Memory(State):
    """What the dual remembers beside the round's sums; K users, N strengths. All float64 but `seen`."""

    prior: Tensor
    """[K]: mean over past rounds of the user's round-mean utility."""
    seen: Tensor
    """[K] int64: rounds behind the prior."""
    strength: float
    """The prior counts as this many slots; 0 before the second round."""
    cost: Tensor
    """[N]: what each strength would have cost in past rounds."""
    conjugates: Tensor
    """[N, K]: this round's sum of c(w_k) for each strength."""
    weights: Tensor
    """[N, K]: this round's sum of |w_k| for each strength."""


@dataclass(frozen=True)
class ParameterFree:
    """w_k = -clip(h_k)^-alpha where h_k predicts user k's mean utility of the round.

    h_k = (n0 prior_k + sum of this round's utilities) / (n0 + their number). n0 follows the leader among `STRENGTHS`
    on what each would have paid, sum_k [mean_i c(w_ik) - mean_i w_ik . mean_i u_ik], from the second round on
    (docs/decisions/0010-parameter-free.md). A user nobody has heard of is taken to be at u_min.
    """

    cost: ClassVar[Cost] = "scalars"

    fairness: AlphaFair

    def start(self, users: int) -> Memory:
        """Nothing is known of anybody."""
        base = State.of(torch.full((users,), self.fairness.strongest, dtype=torch.float64))
        sums = torch.zeros(len(STRENGTHS), users, dtype=torch.float64)
        unseen = torch.zeros_like(base.applied)
        zero = torch.zeros_like(base.w)
        return Memory(
            **vars(base),
            prior=zero,
            seen=unseen,
            strength=0.0,
            cost=torch.zeros_like(STRENGTHS),
            conjugates=sums,
            weights=sums,
        )

    def begin_round(self, state: State) -> Memory:
        """Settles the last round: costs, strength, prior; then the first prediction from the prior alone."""
        memory = _memory(state)
        if memory.rounds:
            memory = self._settled(memory)
        sums = torch.zeros_like(memory.conjugates)
        fresh = replace(
            memory,
            utility_sum=torch.zeros_like(memory.w),
            applied=torch.zeros_like(memory.applied),
            slot=0,
            rounds=memory.rounds + 1,
            conjugates=sums,
            weights=sums,
        )
        return self._predicted(fresh)

    def weights(self, state: State, slot: Slot) -> Tensor:  # noqa: ARG002 - the protocol's argument
        """w [K], known before the slot."""
        return state.w

    def step(self, state: State, slot: Slot) -> Memory:
        """Adds the slot's utilities to the sums. An absent user's stay."""
        memory, present = _memory(state), slot.present
        tried = self._weights(memory, STRENGTHS[:, None])
        return self._predicted(
            replace(
                memory,
                utility_sum=memory.utility_sum + slot.utilities.nan_to_num(0.0),
                applied=memory.applied + present,
                slot=memory.slot + 1,
                conjugates=memory.conjugates + self.fairness.conjugates(tried) * present,
                weights=memory.weights - tried * present,
            )
        )

    def _settled(self, memory: Memory) -> Memory:
        """Costs count from the second round on: before it there is no prior to be strong."""
        heard = memory.applied > 0
        count = memory.applied.clamp(min=1)
        mean = memory.utility_sum / count
        paid = (memory.conjugates + memory.weights * mean) / count
        known = heard & (memory.seen > 0)
        cost = memory.cost + torch.where(known, paid, 0.0).sum(1)
        seen = memory.seen + heard
        prior = torch.where(heard, memory.prior + (mean - memory.prior) / seen.clamp(min=1), memory.prior)
        return replace(memory, cost=cost, seen=seen, prior=prior, strength=float(STRENGTHS[cost.argmin()]))

    def _predicted(self, memory: Memory) -> Memory:
        return replace(memory, w=self._weights(memory, torch.tensor(memory.strength, dtype=torch.float64)))

    def _weights(self, memory: Memory, strength: Tensor) -> Tensor:
        """w [..., K] with the prior worth `strength` [..., 1] slots."""
        trust = strength * (memory.seen > 0)
        slots = trust + memory.applied
        mean = (trust * memory.prior + memory.utility_sum) / slots
        return self.fairness.weights_at(torch.where(slots > 0, mean, self.fairness.u_min))


def _memory(state: State) -> Memory:
    if not isinstance(state, Memory):
        raise TypeError(f"parameter_free needs its own state, got {type(state).__name__}")
    return state
