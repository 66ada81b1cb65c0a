"""What a scenario may say about the radio; each part builds what it describes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from edge_server.config_base import Args, Config, Count, Own, Positive
from edge_server.custom import build_custom
from edge_server.radio import gains
from edge_server.radio.clock import Computing
from edge_server.radio.own import OwnGains
from edge_server.radio.power import Downlink, PowerPolicy, SumCapacity, build_power
from edge_server.radio.power import Routed as RoutedPower
from edge_server.radio.power.sum_capacity import CAP
from edge_server.radio.radio import Late, Link, Radio, require_repeatable
from edge_server.radio.trace_file import read_trace
from edge_server.record import PHASES
from edge_server.routed_mtl import channels
from edge_server.routed_mtl.policy import Policy, PolicyError, load_policy

NotNegative = Annotated[float, Field(ge=0)]
LAW_SAMPLES = 4000
"""Slots drawn to find the price of power of `sum_capacity`."""


class Ring(Config):
    """Users anywhere in a ring around the edge, uniform over its area; the path loss is 1 at `reference_m`."""

    exponent: Positive = 3.0
    reference_m: Positive = 100.0
    nearest_m: Positive
    farthest_m: Positive

    def built(self) -> gains.Ring:
        """The geometry."""
        return gains.Ring(self.exponent, self.reference_m, self.nearest_m, self.farthest_m)

    @model_validator(mode="after")
    def _ordered(self) -> "Ring":
        if self.nearest_m >= self.farthest_m:
            raise ValueError(f"nearest_m ({self.nearest_m:g}) must be below farthest_m ({self.farthest_m:g})")
        return self


class Compute(Config):
    """Virtual seconds of a slot: every user's (or one number each), the edge's forward and backward pass."""

    user: NotNegative | tuple[NotNegative, ...] = 0.0
    forward: NotNegative = 0.0
    backward: NotNegative = 0.0

    def built(self, users: int) -> Computing:
        """For `users` users."""
        return Computing(np.broadcast_to(np.asarray(self.user, np.float64), users), self.forward, self.backward)


class Payloads(Config):
    """Bits of a message in place of the measured ones."""

    features: Count | None = None
    outputs: Count | None = None
    feedback: Count | None = None
    acknowledgement: Count | None = None

    def built(self) -> dict[int, int]:
        """By phase."""
        said = [getattr(self, phase) for phase in PHASES]
        return {phase: bits for phase, bits in enumerate(said) if bits is not None}


class Routed(Config):
    """A trained network. policy: the path, without the ending, of one that `equiran train-power` left.

    steps_per_round: in its place, the one that this run trains beside its slots: round t takes it as it is after t
    times so many steps. problem: what it minimises, the mean delay or the longest.
    """

    kind: Literal["routed_mtl"]
    policy: Annotated[str, Field(min_length=1)] | None = None
    steps_per_round: Count | None = None
    problem: Literal["p3_delay", "p3_min_max"] = "p3_delay"

    def built(self, downlink: Downlink, users: int) -> PowerPolicy:
        """The policy; one that is yet to be trained has no network. Raises PolicyError if it cannot serve `users`."""
        advice = "`equiran train-power` trains one, and leaves it at DIR/policy, to be named without an ending"
        with _advised(advice):
            policy = None if self.policy is None else load_policy(Path(self.policy))
            return self._serving(policy, downlink, users)

    def check(self, trained: Policy, downlink: Downlink, users: int) -> None:
        """Raises PolicyError unless the network that this run trains serves so many users."""
        task = f"{{problem: {_TASK_NAMES[self.problem]}, users: [{users}]}}"
        with _advised(f"steps_per_round takes what this run trains: give edge.server_tasks.0.tasks a group {task}"):
            self._serving(trained, downlink, users)

    def _serving(self, policy: Policy | None, downlink: Downlink, users: int) -> PowerPolicy:
        routed = RoutedPower(downlink, policy, self.problem)
        routed.require(users)
        return routed

    @model_validator(mode="after")
    def _one_network(self) -> "Routed":
        if (self.policy is None) == (self.steps_per_round is None):
            raise ValueError("give policy, the path of a trained network, or steps_per_round, to train one in this run")
        return self


_TASK_NAMES = {"p3_delay": "p3", "p3_min_max": "p3_min_max"}
"""What a server task calls the problems."""


@contextmanager
def _advised(advice: str) -> Iterator[None]:
    try:
        yield
    except PolicyError as error:
        raise PolicyError(f"{error}; {advice}") from error


class CustomPower(Config):
    """Your own policy, as `module:Class`; `args` go to its constructor, after the downlink."""

    kind: Own
    args: Args = {}  # noqa: RUF012 - pydantic copies it


Power = Literal["equal", "optimal", "min_max", "sum_capacity"] | Routed | CustomPower


class Run(NamedTuple):
    """What a radio must know of its run. seeds [K]: each user's own. heard: of them in a slot, at most."""

    seeds: Sequence[int]
    heard: int
    rounds: int
    slots: int
    deadline: float | None
    late: Late


class OnAir(Config):
    """What every radio says. rho_db: signal-to-noise ratio in dB that 1 W gives at gain 1, 1/(N0 W).

    bandwidth: Hz, of one user's band. p_tot: W, for all users that are spoken to. user_power: W, of every user, or one
    number each.
    """

    rho_db: Annotated[float, Field(ge=-300, le=300)] = 10.0
    bandwidth: Positive = 1e6
    p_tot: Positive = 10.0
    user_power: Positive | tuple[Positive, ...] = 0.2
    power: Power = "equal"
    compute: Literal["measured"] | Compute = Compute()
    bits: Literal["measured"] | Payloads = "measured"
    realtime: bool = False

    @property
    def link(self) -> Link:
        """Both ways of the air."""
        return Link(10 ** (self.rho_db / 10), self.bandwidth, self.p_tot, np.asarray(self.user_power, np.float64))

    def over(self, source: gains.Gains, law: Callable[[], gains.Floats], run: Run) -> Radio:
        """The radio over these gains; law() [instances, K]: samples of them, drawn where a policy asks for them."""
        self._fits(run)
        a = self.link.rho * source.round(0)
        if not ((a > 0) & np.isfinite(a)).all():
            raise ValueError("rho_db, places and shadowing give signal-to-noise ratios that no float64 holds")
        policy = self._policy(law, run.heard)
        surges = isinstance(policy, SumCapacity)
        returning = build_power("equal", self.downlink) if surges else policy
        computing = None if self.compute == "measured" else self.compute.built(len(run.seeds))
        bits = {} if self.bits == "measured" else self.bits.built()
        most = (CAP if surges else 1.0) * self.p_tot
        return Radio(source, self.link, policy, returning, computing, bits, run.deadline, run.late, self.realtime, most)

    def _policy(self, law: Callable[[], gains.Floats], users: int) -> PowerPolicy:
        if isinstance(self.power, Routed):
            return self.power.built(self.downlink, users)
        if isinstance(self.power, CustomPower):
            policy = build_power(self.power.kind, self.downlink, **self.power.args)
            require_repeatable(policy, self.downlink, users)
            return policy
        if self.power == "sum_capacity":
            return build_power(self.power, self.downlink, gains=self.link.rho * law())
        return build_power(self.power, self.downlink)

    @property
    def downlink(self) -> Downlink:
        """What a power policy shares out."""
        return Downlink(self.p_tot, self.bandwidth)

    @property
    def steps_per_round(self) -> int | None:
        """Steps of this run's own trainer between the power policies of two rounds; None where it trains none."""
        return self.power.steps_per_round if isinstance(self.power, Routed) else None

    def check(self, trained: Policy, users: int) -> None:
        """Raises PolicyError unless the network that this run trains serves so many users, where it is to."""
        if isinstance(self.power, Routed) and self.steps_per_round is not None:
            self.power.check(trained, self.downlink, users)

    def _fits(self, run: Run) -> None:
        users, deadline = len(run.seeds), run.deadline
        if isinstance(self.user_power, tuple) and len(self.user_power) != users:
            raise ValueError(f"user_power has {len(self.user_power)} entries for {users} users")
        if self.compute == "measured":
            return
        if isinstance(self.compute.user, tuple) and len(self.compute.user) != users:
            raise ValueError(f"compute.user has {len(self.compute.user)} entries for {users} users")
        own = self.compute.forward + self.compute.backward
        if deadline is not None and deadline <= own:
            raise ValueError(f"the edge's own passes take {own:g} s, the deadline is {deadline:g} s; raise deadline")


class Fading(OnAir, ABC):
    """Gains drawn from a law. ring: where users stand; loss_db: the loss of each user's place in dB instead.

    sigma_db: log-normal shadowing, drawn for every round.
    """

    ring: Ring | None = None
    loss_db: float | tuple[float, ...] = 0.0
    sigma_db: Annotated[float, Field(ge=0, le=100)] = 0.0

    @abstractmethod
    def law(self) -> channels.Channel:
        """Of the fading from slot to slot, with mean 1."""

    def built(self, run: Run) -> Radio:
        """The radio of a run. Raises ValueError where a list, a file or a policy does not fit."""
        loss = self.ring.built().loss(run.seeds) if self.ring else self._fixed(len(run.seeds))
        source = gains.Faded(self.law(), channels.Shadowing(self.sigma_db), loss, run.seeds, run.slots)
        return self.over(source, lambda: source.sample(LAW_SAMPLES), run)

    def _fixed(self, users: int) -> gains.Floats:
        if isinstance(self.loss_db, tuple) and len(self.loss_db) != users:
            raise ValueError(f"loss_db has {len(self.loss_db)} entries for {users} users")
        return np.broadcast_to(10 ** (-np.asarray(self.loss_db, np.float64) / 10), users)

    @model_validator(mode="after")
    def _one_place(self) -> "Fading":
        if self.ring and self.loss_db != 0.0:
            raise ValueError("give ring or loss_db, not both")
        return self


class Rayleigh(Fading):
    """No line of sight."""

    kind: Literal["rayleigh"]

    def law(self) -> channels.Channel:
        """|h|^2 exponential."""
        return channels.Rayleigh()


class Rician(Fading):
    """A line of sight with `k_factor` times the power of the scattered paths."""

    kind: Literal["rician"]
    k_factor: NotNegative

    def law(self) -> channels.Channel:
        """With its line of sight."""
        return channels.Rician(self.k_factor)


class Jakes(Fading):
    """Rayleigh fading of moving users. doppler: f_D times a slot's length; slots follow each other through rounds."""

    kind: Literal["jakes"]
    doppler: Positive

    def law(self) -> channels.Channel:
        """Correlated from slot to slot."""
        return channels.Jakes(self.doppler)


class Recorded(OnAir):
    """Gains from a file: array `gain` [T, m, K] of an .npz, users in scenario order."""

    kind: Literal["trace"]
    path: Annotated[str, Field(min_length=1)]

    def built(self, run: Run) -> Radio:
        """The radio of a run. Raises ValueError for a file that does not fit."""
        users = len(run.seeds)
        trace = read_trace(Path(self.path), run.rounds, run.slots, users)
        return self.over(trace, lambda: trace.gain.reshape(-1, users), run)


class CustomChannel(OnAir):
    """Your own source of gains, as `module:Class`; `args` go to its constructor, after its `Site`."""

    kind: Own
    args: Args = {}  # noqa: RUF012 - pydantic copies it

    def built(self, run: Run) -> Radio:
        """The radio of a run. Raises ValueError where the class cannot be built or does not keep to `Gains`."""
        site = gains.Site(run.seeds, run.rounds, run.slots)
        source = OwnGains(build_custom(self.kind, "channel", self.args, site), site, self.kind)
        return self.over(source, source.sample, run)


OfTheAir = Annotated[Rayleigh | Rician | Jakes | Recorded, Field(discriminator="kind")] | CustomChannel
