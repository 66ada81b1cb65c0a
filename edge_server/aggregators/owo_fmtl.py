"""OWO-FMTL's aggregator: dual weights that follow the users' utilities, Eq. (9) and its variants."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from edge_server.aggregators.base import Cost, Slot, State
from edge_server.fairness import AlphaFair
from edge_server.primal_dual import dual_step


@dataclass(frozen=True)
class OwoFmtl:
    """Dual weights by projected gradient (`ogd`) or in closed form from mean utilities (`follow_the_leader`).

    horizon: over which utilities fairness is meant (maths.md A2.13). `round` starts every round from
    -u_min^-alpha; `run` carries weights, means and the index over; `slot` answers this slot's own utilities.
    index: what divides the `ogd` step, the slot (A2.3) or the round, as printed in the paper.
    scale: weights as they are, the mean weight for everyone, or a given sum of |w| over all K users. It changes
    what is applied, never the dual state.
    """

    cost: ClassVar[Cost] = "scalars"
    fairness: AlphaFair
    dual: Literal["ogd", "follow_the_leader"] = "ogd"
    horizon: Literal["slot", "round", "run"] = "round"
    index: Literal["slot", "round"] = "slot"
    scale: Literal["none", "mean"] | float = "none"

    def start(self, users: int) -> State:
        """w = -u_min^-alpha for all `users`."""
        return State.of(torch.full((users,), self.fairness.strongest, dtype=torch.float64))

    def begin_round(self, state: State) -> State:
        """Fresh duals, except with horizon `run`."""
        kept = state if self.horizon == "run" else self.start(state.w.numel())
        return replace(kept, rounds=state.rounds + 1)

    def weights(self, state: State, slot: Slot) -> Tensor:
        """w [K] applied in this slot, scaled. Only horizon `slot` looks at the slot's utilities."""
        return self._scaled(self._answer(state, slot.utilities) if self.horizon == "slot" else state.w)

    def step(self, state: State, slot: Slot) -> State:
        """The dual step after a slot. Utilities are not clipped; the index advances for absent users too."""
        utilities = slot.utilities
        if self.horizon != "slot" and self.dual == "ogd":
            return self._descend(state, utilities)
        present = ~utilities.isnan()
        state = replace(
            state,
            utility_sum=state.utility_sum + utilities.nan_to_num(0.0),
            applied=state.applied + present,
            slot=state.slot + 1,
        )
        return replace(state, w=self._follow(state) if self.horizon != "slot" else self._answer(state, utilities))

    def _answer(self, state: State, utilities: Tensor) -> Tensor:
        return torch.where(utilities.isnan(), state.w, self.fairness.weights_at(utilities))

    def _follow(self, state: State) -> Tensor:
        mean = state.utility_sum / state.applied
        return torch.where(state.applied > 0, self.fairness.weights_at(mean), state.w)

    def _descend(self, state: State, utilities: Tensor) -> State:
        slot = state.slot + 1
        if self.fairness.alpha == 0:
            return replace(state, slot=slot)
        index = slot if self.index == "slot" else state.rounds
        moved = dual_step(state.w, utilities, index, self.fairness)
        return replace(state, w=torch.where(utilities.isnan(), state.w, moved), slot=slot)

    def _scaled(self, w: Tensor) -> Tensor:
        if self.scale == "none":
            return w
        if self.scale == "mean":
            return w.mean().expand_as(w)
        return w * (self.scale / -w.sum())
