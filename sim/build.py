"""From a blueprint to its parts: users, and the edge's rounds. Every process builds its own from the same text."""

from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np

from edge_server import config
from edge_server.aggregators import build_aggregator
from edge_server.build import build_domain, build_outer, build_robust
from edge_server.cell import Cell
from edge_server.compute import Compute
from edge_server.encoders import build_encoder
from edge_server.parameter_free import Learner
from edge_server.plan import RunPlan, UserPlan
from edge_server.radio.power import Routed
from edge_server.radio.radio import Radio
from edge_server.radio_config import Run
from edge_server.record import Event, RoundRecord
from edge_server.rounds import InnerStep, Rounds
from edge_server.scoring import Scorer
from edge_server.server_tasks.beside import BesideSlots
from edge_server.server_tasks.job import Job
from edge_server.server_tasks.news import TaskNews
from edge_server.server_tasks.pace import Paced, pace_of
from edge_server.shared_model import SharedModel
from sim.blueprint import Blueprint, place
from sim.fault_schedule import Victim
from sim.faulty_user import FaultySession
from sim.meter import Meter, Observed
from sim.participation import most
from sim.room import require_room
from sim.scenario import Scenario
from sim.seeds import stream_seed
from sim.step import Step
from user_client.session import Anew, Session
from user_client.tasks.base import held_out
from user_client.user import User, build_stream


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
    scenario: Scenario,
    k: int,
    run: RunPlan,
    plan: UserPlan,
    kind: Callable[..., Session] = Session,
    anew: Anew | None = None,
) -> Session:
    """User k of the scenario, before its first round, in a run of which it knows `plan`; `anew`: as in Session."""
    user = User(scenario.users[k], place(scenario, k), plan.output_shape)
    codings, seed, ahead = plan.codings, plan.rounding_seed, not run.slot_by_slot
    return kind(user, plan.name, run.run, plan.output_shape, codings, seed, ahead=ahead, anew=anew)


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
    run = Run(seeds, heard(scenario), scenario.rounds, scenario.slots, scenario.deadline, scenario.on_user_failure)
    return scenario.radio.built(run)


def heard(scenario: Scenario) -> int:
    """How many users a slot has at most."""
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
