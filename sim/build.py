"""From a scenario to its parts: plan, users, and the edge's rounds. Every process builds its own from the same text."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from edge_server import config
from edge_server.absence import Absence, Log
from edge_server.aggregators import build_aggregator, require_fit
from edge_server.build import build_domain, build_outer, build_robust, require_outer
from edge_server.cell import Cell
from edge_server.compute import Compute
from edge_server.device import require_device
from edge_server.encoders import EncoderError, build_encoder, output_shape
from edge_server.parameter_free import Learner
from edge_server.plan import RunPlan, Sizes, UserPlan
from edge_server.radio.power import Routed
from edge_server.radio.radio import Radio
from edge_server.radio_config import Run
from edge_server.record import Event, RoundRecord
from edge_server.rounds import InnerStep, Rounds
from edge_server.routed_mtl.publishing import publish
from edge_server.scoring import Scorer
from edge_server.server_tasks.beside import BesideSlots
from edge_server.server_tasks.job import Job
from edge_server.server_tasks.news import TaskNews
from edge_server.server_tasks.pace import Paced, pace_of
from edge_server.server_tasks.rehearsal import rehearsed
from edge_server.shared_model import SharedModel
from edge_server.state import Flat
from sim.compression import codings
from sim.fault_schedule import Strike, Victim
from sim.faulty_user import FaultySession
from sim.hindsight import Hindsights, Told
from sim.keys import check as check_keys
from sim.meter import Meter, Observed
from sim.participation import draw, most
from sim.presence import away
from sim.room import require_room
from sim.scenario import Loaded, Scenario
from sim.seeds import stream_seed
from sim.step import Step
from user_client.models import build_head
from user_client.session import Session
from user_client.tasks.base import Place, Task, held_out
from user_client.user import User, build_stream, feature_shape, reported_factor


class PartError(Exception):
    """A part of the scenario that cannot be built: `path` is where the scenario says so."""

    def __init__(self, path: tuple[str | int, ...], message: str):
        super().__init__(message)
        self.path = path


class RunState(NamedTuple):
    """What a run goes on from. users: in scenario order. task: of a server task, as its process tells it."""

    edge: Flat
    users: Sequence[Flat]
    task: bytes | None = None


@dataclass(frozen=True)
class Blueprint:
    """What all processes must agree on: the scenario, and the run as the edge plans it.

    state: before round `plan.first`; None where that is round 0. spent: faults that have struck, and strike once.
    """

    scenario: Scenario
    plan: RunPlan
    state: RunState | None = None
    spent: frozenset[Strike] = frozenset()

    @property
    def whole(self) -> "Blueprint":
        """The same run from its first round to its last, whatever this one goes on from or ends before."""
        absence = replace(self.plan.absence, log=Log())
        plan = replace(self.plan, first=0, first_slot=0, last=None, struck=((), ()), absence=absence)
        return replace(self, plan=plan, state=None)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """One sample's outputs; the same for all users."""
        return self.plan.users[0].output_shape

    @cached_property
    def oracle(self) -> Hindsights:
        """The oracle of a simulated run: it sees every user's stream, and solves each round once."""
        scenario = self.scenario
        fairness = build_aggregator(scenario.edge.aggregator).fairness
        l_max = np.array([user.l_max for user in self.plan.users])
        told = [
            Told(
                build=partial(build_stream, user, place(scenario, k)),
                held_out=held_out(user.task),
                factor=reported_factor(user),
            )
            for k, user in enumerate(scenario.users)
        ]
        domain = build_domain(scenario.edge.primal.domain)
        return Hindsights(fairness, l_max, domain, told, self.plan.in_slots)


def place(scenario: Scenario, k: int) -> Place:
    """Where user k stands, with its random streams."""
    name = scenario.users[k].name
    return Place(
        name=name,
        index=k,
        users=len(scenario.users),
        rounds=scenario.rounds,
        slots=scenario.slots,
        seed=stream_seed(scenario.seed, "user", name),
        shared_seed=stream_seed(scenario.seed, "users"),
        folder=Path.cwd(),
    )


def blueprint(scenario: Scenario, run: str) -> Blueprint:
    """Plan the run `run` of a scenario. Raises PartError where its parts do not fit.

    A GPU is looked for where the edge will be, which with Ray need not be here.
    """
    streams = [_stream(scenario, k) for k in range(len(scenario.users))]
    design = planned(scenario, run, [_sizes(scenario, k, stream) for k, stream in enumerate(streams)])
    for k, stream in enumerate(streams):
        with _part("users", k, "head"):
            build_head(scenario.users[k].head, design.output_shape, stream.outputs, stream.dtype, seed=0)
    with _part("security"):
        check_keys(scenario.security, [user.name for user in scenario.users])
    return design


def sizes_of(scenario: Scenario, k: int) -> Sizes:
    """What user k will send, from its data. Raises PartError."""
    return _sizes(scenario, k, _stream(scenario, k))


def planned(scenario: Scenario, run: str, sizes: Sequence[Sizes]) -> Blueprint:
    """Plan a run from what users will send; nobody's data are looked at. Raises PartError where parts do not fit."""
    _same_everywhere(scenario, sizes)
    outputs = _output_shape(scenario, sizes[0].feature_shape, sizes[0].dtype)
    check_edge(scenario)
    users = tuple(
        user_plan(scenario, k, size, outputs, rounds)
        for k, (size, rounds) in enumerate(zip(sizes, away(scenario), strict=True))
    )
    return Blueprint(scenario, run_plan(scenario, run, users))


def check_edge(scenario: Scenario) -> None:
    """Raises PartError where the edge's parts, but for its encoder, cannot be built."""
    with _part("radio"):
        build_radio(scenario)
    with _part("edge", "aggregator"):
        require_fit(scenario.edge.aggregator, len(scenario.users))
    with _part("edge", "meta", "rule"):
        require_outer(scenario.edge.meta)
    here = scenario.transport != "ray"
    with _part("edge", "device"):
        require_device(scenario.edge.device if here else "cpu")
    for index, task in enumerate(scenario.edge.server_tasks):
        with _part("edge", "server_tasks", index):
            trainer = rehearsed(task if here else task.model_copy(update={"device": "cpu"}), scenario.seed)
        with _part("radio", "power"):
            if scenario.radio is not None:
                scenario.radio.check(publish(trainer), _heard(scenario))


def run_plan(scenario: Scenario, run: str, users: tuple[UserPlan, ...]) -> RunPlan:
    """The run `run` of a scenario for these users of it."""
    quarantine = scenario.edge.quarantine
    return RunPlan(
        run,
        scenario.rounds,
        scenario.slots,
        users,
        scenario.patience,
        scenario.trunk,
        draw=draw(scenario.participation, scenario.seed),
        absence=_absence(scenario),
        max_norm=scenario.edge.max_norm,
        strikes=quarantine.strikes if quarantine else None,
    )


def _absence(scenario: Scenario) -> Absence:
    """What happens to slots without a user; on the radio's clock, its deadline is not the edge's affair."""
    policy: Literal["wait", "drop", "fail"] = (
        scenario.on_user_failure if scenario.on_user_failure != "stale" else "drop"
    )
    deadline = None if scenario.radio else scenario.deadline
    return Absence(policy, deadline, scenario.min_users)


def check(loaded: Loaded) -> list[str]:
    """What cannot be built, as `file:line: path: message`; empty if all parts fit."""
    try:
        blueprint(loaded.scenario, "check")
    except PartError as error:
        path = ".".join(str(step) for step in error.path)
        return [f"{loaded.where(error.path)}: {path}: {error}"]
    return []


def on_cpu(design: Blueprint) -> Blueprint:
    """The same run with its encoder on the CPU."""
    edge = design.scenario.edge.model_copy(update={"device": "cpu"})
    return replace(design, scenario=design.scenario.model_copy(update={"edge": edge}))


def devices(scenario: Scenario) -> list[str]:
    """Where the edge computes: its encoder's device, then those of its server tasks."""
    return [scenario.edge.device, *(task.device for task in scenario.edge.server_tasks)]


def build_session(design: Blueprint, k: int) -> Session:
    """User k, ready to join."""
    plan = design.plan.users[k]
    victim = Victim(design.scenario, plan.name, design.spent)
    kind = partial(FaultySession, victim, design.scenario.transport == "ray") if victim else Session
    session = session_of(design.scenario, k, design.plan, plan, kind)
    if design.state:
        session.restore(design.state.users[k])
    return session


def session_of(
    scenario: Scenario, k: int, run: RunPlan, plan: UserPlan, kind: Callable[..., Session] = Session
) -> Session:
    """User k of the scenario, before its first round, in a run of which it knows `plan`."""
    user = User(scenario.users[k], place(scenario, k), plan.output_shape)
    codings, seed, ahead = plan.codings, plan.rounding_seed, not run.slot_by_slot
    return kind(user, plan.name, run.run, plan.output_shape, codings, seed, ahead=ahead)


def build_rounds(
    design: Blueprint,
    step: Step,
    cell: Cell,
    compute: Compute,
    on_round: Callable[[RoundRecord], None],
    on_event: Callable[[Event], None],
    tasks: BesideSlots | None = None,
) -> Rounds:
    """The edge's side of a run, before its first round. tasks: where the radio may take its power from one of them.

    Raises OtherShape where the state to go on from is that of another edge, ValueError where its machine is too small.
    """
    scenario, plan = design.scenario, design.plan
    edge, first = scenario.edge, plan.users[0]
    encoder = build_encoder(edge.encoder, first.feature_shape, first.dtype, stream_seed(scenario.seed, "encoder"))
    require_room(encoder)
    model = SharedModel(encoder, feature_gradients=plan.trains_fronts, device=edge.device)
    aggregator = build_aggregator(edge.aggregator, stream_seed(scenario.seed, "aggregator"))
    l_max = np.array([user.l_max for user in plan.users])
    outer = build_outer(edge.meta, model.theta, stream_seed(scenario.seed, "outer"))
    learned, anchored = edge.primal.step == "free", edge.meta.target == "oracle"
    radio = build_radio(scenario)
    rounds = Rounds(
        cell=cell,
        model=model,
        aggregator=aggregator,
        outer=outer,
        inner=InnerStep(step.eta, build_domain(edge.primal.domain), edge.primal.cap, step.guess, step.limit),
        target=edge.meta.target,
        scorer=Scorer(aggregator.fairness, l_max, step.bounding if _theorem_holds(edge) else None),
        compute=compute,
        on_round=on_round,
        on_event=on_event,
        robust=build_robust(edge.robust),
        oracle=design.oracle if wants_oracle(scenario) else None,
        learner=Learner.start(outer.x, first.dtype, edge.primal.curvature, anchored) if learned else None,
        trace=scenario.record.parameters,
        radio=radio,
        before_round=_paced(scenario, radio, tasks, cell, on_event),
        referee=_meter(scenario) if scenario.record.privacy else None,
    )
    if design.state:
        rounds.restore(design.state.edge)
    return rounds


def _meter(scenario: Scenario) -> Meter:
    """It knows every user's samples, as the oracle does: they are drawn again from the seed."""
    return Meter(
        [
            Observed(build_stream(user, place(scenario, k)), held_out(user.task), user.head.kind == "identity")
            for k, user in enumerate(scenario.users)
        ]
    )


def _paced(
    scenario: Scenario, radio: Radio | None, tasks: BesideSlots | None, cell: Cell, on_event: Callable[[Event], None]
) -> Callable[[int], Awaitable[bool]] | None:
    """What waits for the trainer whose policies the radio takes, if there is one. Raises ValueError without `tasks`."""
    steps = _steps_per_round(scenario)
    if steps is None or radio is None or not isinstance(radio.policy, Routed):
        return None
    if tasks is None:
        raise ValueError("radio.power.steps_per_round needs the run's server tasks, and nobody gave them")
    return Paced(radio.policy, steps, tasks, cell, on_event).before


def _steps_per_round(scenario: Scenario) -> int | None:
    return None if scenario.radio is None else scenario.radio.steps_per_round


def build_radio(scenario: Scenario) -> Radio | None:
    """The air of a run, if its scenario has one. Raises ValueError where lists, files or a policy do not fit."""
    if scenario.radio is None:
        return None
    seeds = [stream_seed(scenario.seed, "radio", user.name) for user in scenario.users]
    run = Run(seeds, _heard(scenario), scenario.rounds, scenario.slots, scenario.deadline, scenario.on_user_failure)
    return scenario.radio.built(run)


def _heard(scenario: Scenario) -> int:
    return most(scenario.participation, len(scenario.users))


def build_server_tasks(
    design: Blueprint, on_event: Callable[[Event], None], on_task: Callable[[TaskNews], None] | None
) -> BesideSlots:
    """The edge's server tasks, before they start; none where nobody hears of them, unless the radio needs one."""
    scenario = design.scenario
    steps = _steps_per_round(scenario)
    pace = None if steps is None else pace_of(steps, scenario.rounds)
    tasks = scenario.edge.server_tasks if on_task or pace else ()
    state = design.state and design.state.task
    jobs = [Job(task, scenario.seed, scenario.threads.edge, state, pace) for task in tasks]
    return BesideSlots(jobs, on_event, on_task or (lambda _news: None))


def _theorem_holds(edge: config.Edge) -> bool:
    """Theorem 1 is about these updates and no others."""
    rule = edge.aggregator
    by_theorem = isinstance(rule, config.OwoFmtl) and (rule.dual, rule.horizon, rule.index, rule.scale) == (
        "ogd",
        "round",
        "slot",
        "none",
    )
    return (
        by_theorem
        and edge.robust is None
        and (edge.meta.rule, edge.meta.target, edge.primal.cap) == ("running_mean", "oracle", None)
    )


def wants_oracle(scenario: Scenario) -> bool:
    """The run needs theta*_t: as its target, or for the theory's step."""
    return scenario.edge.meta.target == "oracle" or scenario.edge.primal.step == "theory"


@contextmanager
def _part(*path: str | int) -> Iterator[None]:
    """Errors of a part, placed where the scenario names it."""
    try:
        yield
    except (ValueError, OSError, EncoderError) as error:
        raise PartError(path, str(error)) from error
    except Exception as error:  # a class of the user's own may raise anything
        raise PartError(path, f"{type(error).__name__}: {error}") from error


def _stream(scenario: Scenario, k: int) -> Task:
    with _part("users", k, "task"):
        return build_stream(scenario.users[k], place(scenario, k))


def _sizes(scenario: Scenario, k: int, stream: Task) -> Sizes:
    with _part("users", k, "front"):
        shape = feature_shape(scenario.users[k], stream)
    return Sizes(stream.dtype, shape, stream.batch, stream.validation_batch)


def _same_everywhere(scenario: Scenario, sizes: Sequence[Sizes]) -> None:
    names, (dtype, shape, *_) = [user.name for user in scenario.users], sizes[0]
    for k, found in enumerate(sizes):
        if found.feature_shape != shape:
            said = f"features per sample are {list(found.feature_shape)}, but those of {names[0]!r} are {list(shape)}"
            raise PartError(("users", k), f"{said}; one encoder serves all users")
        if found.dtype != dtype:
            said = f"the data are {found.dtype}, but those of {names[0]!r} are {dtype}"
            raise PartError(("users", k, "task"), f"{said}; a run has one numeric type")


def _output_shape(scenario: Scenario, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[int, ...]:
    with _part("edge", "encoder"):
        encoder = build_encoder(scenario.edge.encoder, shape, dtype, seed=0)
        if scenario.transport != "ray":
            require_room(encoder)
        return output_shape(encoder, shape, dtype)


def user_plan(
    scenario: Scenario, k: int, sizes: Sizes, outputs: tuple[int, ...], away_in: tuple[int, ...] = ()
) -> UserPlan:
    """User k as agreed; outputs: of the encoder, one sample."""
    user = scenario.users[k]
    return UserPlan(
        name=user.name,
        l_max=scenario.edge.aggregator.u_max if user.l_max is None else user.l_max,
        dtype=sizes.dtype,
        feature_shape=sizes.feature_shape,
        output_shape=outputs,
        batch=sizes.batch,
        validation_batch=sizes.validation_batch,
        trainable_front=user.front != "none" and user.front.trainable,
        away=away_in,
        codings=codings(scenario.compression),
        rounding_seed=stream_seed(scenario.seed, "compression", user.name),
    )
