"""What the edge expects of a run before it starts: who takes part, and how large every message may be."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from edge_server.absence import WAITING, Absence, Place
from edge_server.participation import Draw, Mask
from protos.codings import WHOLE, Codings
from protos.frames import largest_frame
from protos.sizes import RIDING
from protos.tensors import Spec, agreed

_ENVELOPE = 4096
"""Bytes allowed around the tensor of a message: keys, shapes, names, one line of reason."""


class Sizes(NamedTuple):
    """What a user is going to send: its numeric type, one sample's features [..], and samples of a slot and in a
    validation set (0: it has none)."""

    dtype: torch.dtype
    feature_shape: tuple[int, ...]
    batch: int
    validation_batch: int


@dataclass(frozen=True)
class UserPlan:
    """One user as agreed in the scenario; its Join must say the same.

    feature_shape, output_shape: one sample, without the batch. l_max: the loss that means utility 0.
    away: the rounds, from 1, in which it takes no part. Raises ValueError for round 0.
    codings: how its tensors travel. rounding_seed: of what is rounded at random on the way.
    """

    name: str
    l_max: float
    dtype: torch.dtype
    feature_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    batch: int
    validation_batch: int
    trainable_front: bool
    away: tuple[int, ...] = ()
    codings: Codings = WHOLE
    rounding_seed: int = 0

    def __post_init__(self) -> None:
        if 0 in self.away:
            raise ValueError(f"user {self.name!r} is away in round 0, when everybody joins")

    @cached_property
    def features(self) -> Spec:
        """What a slot's Features must carry: [B, ...feature_shape]."""
        return agreed(self.dtype, (self.batch, *self.feature_shape), self.codings.features)

    @cached_property
    def validation(self) -> Spec:
        """What a validation's Features must carry: [V, ...feature_shape]."""
        return agreed(self.dtype, (self.validation_batch, *self.feature_shape), self.codings.features)

    @cached_property
    def gradient(self) -> Spec:
        """What a Feedback message must carry: [B, ...output_shape]."""
        return agreed(self.dtype, (self.batch, *self.output_shape), self.codings.feedback)

    @cached_property
    def outputs(self) -> Spec:
        """What a slot's Outputs carry: [B, ...output_shape]."""
        return agreed(self.dtype, (self.batch, *self.output_shape), self.codings.outputs)

    @cached_property
    def feature_gradient(self) -> Spec:
        """What an Acknowledgement carries for a front that is trained: [B, ...feature_shape]."""
        return agreed(self.dtype, (self.batch, *self.feature_shape), self.codings.acknowledgement)

    @property
    def largest_message(self) -> int:
        """Bytes of the largest message either side may send for this user; features may ride with feedback."""
        samples = max(self.batch, self.validation_batch)
        values = max(math.prod(self.feature_shape), math.prod(self.output_shape))
        return samples * values * self.dtype.itemsize + RIDING + _ENVELOPE


@dataclass(frozen=True)
class RunPlan:
    """A run: T rounds of m slots for these users, in scenario order.

    trunk: users may come on a stream of their host's. first, first_slot: the slot it goes on with; slot m is
    the validation. last: it ends before this round, as if stopped; None: with the last one. draw: of who takes part;
    None: all who are there. max_norm: of a message's tensor. strikes: rejections after which a user is in quarantine.
    struck [2, K]: those of before round `first`, and of before slot `first_slot` of it; empty: none.
    """

    run: str
    rounds: int
    slots: int
    users: tuple[UserPlan, ...]
    patience: float
    trunk: bool = False
    first: int = 0
    first_slot: int = 0
    last: int | None = None
    draw: Draw | None = None
    absence: Absence = WAITING
    max_norm: float | None = None
    strikes: int | None = None
    struck: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    def present(self, round_: int) -> list[bool]:
        """[K]: who takes part in this round."""
        there = [round_ not in away for away in self._away]
        return there if self.draw is None else self.draw.of_round(np.array(there), round_).tolist()

    def in_slot(self, there: Mask, round_: int, slot: int) -> Mask:
        """[K]: who of those who are in this round takes part in this slot."""
        return there if self.draw is None else self.draw.of_slot(there, round_, slot)

    def in_slots(self, round_: int) -> Mask:
        """[m, K]: who takes part in each slot of this round."""
        there = np.array(self.present(round_))
        return np.stack([self.in_slot(there, round_, slot) for slot in range(self.slots)])

    def back_to(self, t: int, i: int) -> Mapping[int, Place]:
        """To which slot's state users go back before this one; before the first they have, in what they go on from."""
        return self.absence.log.back_to((t, i)) if (t, i) > (self.first, self.first_slot) else {}

    def wanted_back(self, k: int) -> list[Place]:
        """Slots whose states user k goes back to, in the rest of the run."""
        first = self.first, self.first_slot
        return sorted({back.of for back in self.absence.log.returns if back.k == k and back.at > first})

    @property
    def slot_by_slot(self) -> bool:
        """Users are drawn for every slot, so that none knows whether the next one is its own."""
        return self.draw is not None and self.draw.per == "slot"

    @cached_property
    def named(self) -> dict[str, UserPlan]:
        """The users by name."""
        return {user.name: user for user in self.users}

    @cached_property
    def trains_fronts(self) -> bool:
        """Somebody trains a front, and waits for feature gradients."""
        return any(user.trainable_front for user in self.users)

    @cached_property
    def narrows_outputs(self) -> bool:
        """Somebody's outputs travel as a type that holds less than their own."""
        return any(user.codings.outputs.kind != "full" for user in self.users)

    @cached_property
    def _away(self) -> list[frozenset[int]]:
        return [frozenset(user.away) for user in self.users]

    @cached_property
    def largest_message(self) -> int:
        """Bytes of the largest message of the run."""
        return max(user.largest_message for user in self.users)

    @property
    def largest_on_a_stream(self) -> int:
        """Bytes of the largest message or frame; the cap of the socket."""
        return largest_frame(self.largest_message) if self.trunk else self.largest_message
