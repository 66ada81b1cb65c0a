"""From a scenario to the plan of a run, and whether its parts fit together. Every process plans from the same text."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch

from edge_server.absence import Absence
from edge_server.aggregators import require_fit
from edge_server.build import require_outer
from edge_server.device import require_device
from edge_server.encoders import EncoderError, build_encoder, output_shape
from edge_server.plan import RunPlan, Sizes, UserPlan
from edge_server.routed_mtl.publishing import publish
from edge_server.server_tasks.rehearsal import rehearsed
from sim.blueprint import Blueprint, place
from sim.build import build_radio, heard
from sim.caller import PartError
from sim.compression import codings
from sim.keys import check as check_keys
from sim.participation import draw
from sim.presence import away
from sim.room import require_room
from sim.scenario import Loaded, Scenario
from sim.seeds import stream_seed
from user_client.models import build_head
from user_client.tasks.base import Task
from user_client.user import build_stream, feature_shape


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
                scenario.radio.check(publish(trainer), heard(scenario))


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


def check(loaded: Loaded) -> list[str]:
    """What cannot be built, as `file:line: path: message`; empty if all parts fit."""
    try:
        blueprint(loaded.scenario, "check")
    except PartError as error:
        path = ".".join(str(step) for step in error.path)
        return [f"{loaded.where(error.path)}: {path}: {error}"]
    return []


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
