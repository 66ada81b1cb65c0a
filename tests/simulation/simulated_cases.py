"""The runs that are simulated: tiny scenarios of every kind, dealt from the case's number."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import runs
from edge_server.cell import Cell
from edge_server.compute import Compute, Inline
from edge_server.encoders import build_encoder
from edge_server.record import Event, RoundRecord
from edge_server.rounds import Rounds
from edge_server.shared_model import SharedModel
from sim.blueprint import Blueprint, place
from sim.build import build_rounds
from sim.planning import blueprint
from sim.seeds import stream_seed
from sim.step import Step
from user_client.losses import Slope
from user_client.session import Anew, Session
from user_client.user import Feedback, User, Validation

CASES = 64
RUN = "r"
_LARGE = 130
"""Samples whose features are too many bytes to ride with feedback."""

Place = tuple[int, int]
"""Round and slot."""


@dataclass(frozen=True)
class Case:
    """A run. bad: where the last user says something that is not finite. hosts: which users live together.

    trunks: whether each host has one stream for all of its users.
    """

    number: int
    design: Blueprint
    bad: frozenset[Place]
    hosts: tuple[tuple[int, ...], ...]
    trunks: tuple[bool, ...]

    @cached_property
    def names(self) -> list[str]:
        return [user.name for user in self.design.plan.users]

    def session(self, k: int, anew: Anew | None = None) -> "WatchedSession":
        """User k, as `sim.build.build_session` builds it, watched."""
        plan, shape, fresh = self.design.plan.users[k], self.design.output_shape, _fresh(self.number)[k]
        user = deepcopy(fresh, {id(fresh.task): fresh.task})
        ahead = not self.design.plan.slot_by_slot
        return WatchedSession(user, plan.name, RUN, shape, plan.codings, plan.rounding_seed, ahead=ahead, anew=anew)

    def rounds(
        self,
        cell: Cell,
        compute: Compute,
        on_round: Callable[[RoundRecord], None],
        on_event: Callable[[Event], None],
    ) -> Rounds:
        """As `sim.build.build_rounds` gives them; an encoder is built and checked but once."""
        encoder, rounds = _first(self.number)
        model = SharedModel(deepcopy(encoder), feature_gradients=self.design.plan.trains_fronts)
        scorer = deepcopy(rounds.scorer)
        return replace(
            rounds, cell=cell, model=model, scorer=scorer, compute=compute, on_round=on_round, on_event=on_event
        )


class WatchedUser(User):
    """Notes what it is asked to do. bad: where it says what is not finite."""

    bad: frozenset[Place] = frozenset()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.calls: list[tuple[str, int, int]] = []
        self._at: Place = (0, 0)
        self._answered: Place = (0, 0)

    def features(self, round_: int, slot: int) -> Tensor:
        self._note("features", round_, slot)
        self._at = round_, slot
        features = super().features(round_, slot)
        return features * torch.nan if (round_, slot) in self.bad and slot % 2 else features

    def feedback(self, outputs: Tensor) -> Feedback:
        self._answered = self._at
        self._note("feedback", *self._at)
        return self._spoilt(super().feedback(outputs))

    def take(self, found: Slope) -> Feedback:
        self._answered = self._at
        self._note("feedback", *self._at)
        return self._spoilt(super().take(found))

    def apply(self, feature_gradient: Tensor | None) -> None:
        self._note("apply", *self._answered)
        super().apply(feature_gradient)

    def drop(self) -> None:
        self._note("drop", *self._answered)
        super().drop()

    def validation_features(self, round_: int) -> Tensor:
        self._note("validation", round_, -1)
        return super().validation_features(round_)

    def validate(self, outputs: Tensor) -> Validation:
        self._note("validate", *self._at)
        return super().validate(outputs)

    def _spoilt(self, given: Feedback) -> Feedback:
        return given._replace(loss=float("nan")) if self._at in self.bad else given

    def _note(self, call: str, round_: int, slot: int) -> None:
        self.calls.append((call, round_, slot))


class WatchedSession(Session):
    """Notes what it should never hear."""

    user: WatchedUser
    surprises: tuple[str, ...] = ()

    def hear(self, data: bytes) -> Any:
        if self.done:
            self.surprises += (f"{self.name} was told something after goodbye",)
        return super().hear(data)


@cache
def case(number: int) -> Case:
    """The case of this number. In a crowd one user takes part in a round, and most hear of many rounds' ends."""
    random = Random(f"case {number}")
    rounds, slots = random.choice((1, 2, 2, 3, 6)), random.choice((1, 1, 2, 3, 4))
    many = random.choice((1, 2, 2, 3, 3, 4))
    if crowd := random.random() < 0.25:
        rounds, slots, many = random.choice((6, 9)), 1, random.choice((3, 4))
    spoilt = not crowd and many > 1 and random.random() < 0.4
    tree = runs.kernel(rounds=rounds, slots=slots, seed=number)
    tree["users"] = _users(random, many, rounds, slots)
    if crowd:
        tree["participation"] = {"users": 1, "per": "round"}
    elif not spoilt and random.random() < 0.5:
        tree["participation"] = {"users": random.randint(1, many), "per": random.choice(("round", "slot"))}
    if not spoilt and random.random() < 0.5:
        for user in tree["users"]:
            user["presence"] = {"churn": 0.5}
    if random.random() < 0.2:
        thin = {"kind": "top_k", "share": 0.4}
        tree["compression"] = {"features": "bfloat16", "outputs": "int8", "feedback": thin, "acknowledgement": thin}
    hosts = _hosts(random, many)
    trunks = tuple(random.random() < 0.5 for _ in hosts)
    tree["trunk"] = any(trunks)
    design = blueprint(runs.loaded(Path(_folder().name), tree).scenario, RUN)
    places = [(t, i) for t in range(rounds) for i in range(slots)]
    bad = frozenset(random.sample(places, random.randint(1, len(places)))) if spoilt else frozenset[Place]()
    return Case(number, replace(design, plan=replace(design.plan, patience=1000.0)), bad, hosts, trunks)


@cache
def _fresh(number: int) -> list[WatchedUser]:
    """A case's users before their first round; a task gives the same to everybody who asks."""
    chosen = case(number)
    scenario, shape = chosen.design.scenario, chosen.design.output_shape
    users = [WatchedUser(user, place(scenario, k), shape) for k, user in enumerate(scenario.users)]
    users[-1].bad = chosen.bad
    return users


@cache
def _first(number: int) -> tuple[nn.Module, Rounds]:
    """A case's encoder, and its rounds before the first one."""
    design = case(number).design
    user, seed = design.plan.users[0], stream_seed(design.scenario.seed, "encoder")
    encoder = build_encoder(design.scenario.edge.encoder, user.feature_shape, user.dtype, seed)
    cell = Cell(design.plan, print, lambda: False)
    return encoder, build_rounds(design, Step(0.05), cell, Inline(1), print, print)


def _users(random: Random, many: int, rounds: int, slots: int) -> list[runs.Tree]:
    batch = random.choice((1, 3, _LARGE))
    file = _arrays(random.randrange(2**32), rounds, slots, batch) if random.random() < 0.5 else None
    kernel = {"kind": "kernel_regression", "batch": batch}
    trained = random.random() < 0.4
    return [
        {
            "name": f"u{k}",
            "task": file if file and random.random() < 0.7 else kernel,
            "front": {"kind": "mlp", "width": 4} if trained and random.random() < 0.7 else "none",
            "head": _head(random.choice(("identity", "linear")), fresh=batch == 1),
        }
        for k in range(many)
    ]


def _head(kind: str, *, fresh: bool) -> runs.Tree:
    return {"kind": kind, "start": "fresh"} if fresh and kind == "linear" else {"kind": kind}


def _arrays(seed: int, rounds: int, slots: int, batch: int) -> runs.Tree:
    """A task with a validation set."""
    numbers, file = np.random.default_rng(seed), Path(_folder().name) / f"{seed}.npz"
    x, y = numbers.random((rounds, slots, batch, 4)), numbers.random((rounds, slots, batch))
    np.savez(file, x=x, y=y, x_val=numbers.random((rounds, 2, 4)), y_val=numbers.random((rounds, 2)))
    return {"kind": "arrays", "path": str(file), "loss": "squared"}


def _hosts(random: Random, many: int) -> tuple[tuple[int, ...], ...]:
    cuts = sorted(k for k in range(1, many) if random.random() < 0.5)
    return tuple(tuple(range(a, b)) for a, b in zip([0, *cuts], [*cuts, many], strict=True))


@cache
def _folder() -> "TemporaryDirectory[str]":
    """Gone when the tests are over."""
    return TemporaryDirectory(prefix="simulation-")
