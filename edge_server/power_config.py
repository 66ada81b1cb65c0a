"""What a scenario may say about the routed multi-task trainer; each part builds what it describes."""

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from edge_server.config_base import Args, Config, Count, Positive
from edge_server.custom import build_custom, named
from edge_server.routed_mtl import channels
from edge_server.routed_mtl.design import PAPER_USERS, Design, Dual, Index, Inputs, Schedule, Scheme, SecondStage

if TYPE_CHECKING:
    from edge_server.routed_mtl.p3_delay import P3Delay
    from edge_server.routed_mtl.problems import Problem
    from edge_server.routed_mtl.tasks import Tasks

Preset = Literal["default", "literal"]
NotNegative = Annotated[float, Field(ge=0)]
Steps = Annotated[int, Field(ge=0, le=100_000_000)]


class Rayleigh(Config):
    """No line of sight: |h|^2 is exponential, of mean `mean`."""

    kind: Literal["rayleigh"]
    mean: Positive = 1.0

    def built(self) -> channels.Channel:
        """The source of gains."""
        return channels.Rayleigh(self.mean)


class Rician(Config):
    """A line of sight with `k_factor` times the power of the scattered paths."""

    kind: Literal["rician"]
    k_factor: NotNegative
    mean: Positive = 1.0

    def built(self) -> channels.Channel:
        """The source of gains."""
        return channels.Rician(self.k_factor, self.mean)


class Jakes(Config):
    """Rayleigh block fading of a moving user; successive samples are successive blocks."""

    kind: Literal["jakes"]
    doppler: Positive
    mean: Positive = 1.0

    def built(self) -> channels.Channel:
        """The source of gains."""
        return channels.Jakes(self.doppler, self.mean)


class Cell(Config):
    """Users anywhere in a ring around the edge: path loss, log-normal shadowing, and Rayleigh fading of mean 1."""

    kind: Literal["cell"]
    exponent: Positive
    reference_db: float = 0.0
    reference_m: Positive = 1.0
    sigma_db: NotNegative = 0.0
    nearest_m: Positive
    farthest_m: Positive

    def built(self) -> channels.Channel:
        """The source of gains. Raises ValueError unless nearest_m < farthest_m."""
        path_loss = channels.PathLoss(self.exponent, self.reference_db, self.reference_m)
        shadowing = channels.Shadowing(self.sigma_db)
        return channels.Cell(channels.Rayleigh(), path_loss, shadowing, self.nearest_m, self.farthest_m)

    @model_validator(mode="after")
    def _possible(self) -> "Cell":
        self.built()
        return self


Channel = Annotated[Rayleigh | Rician | Jakes | Cell, Field(discriminator="kind")]


class P3(Config):
    """Problem P3, FDMA delay: a preset, and what differs from it."""

    preset: Preset = "default"
    p_tot: Positive | None = None
    bits: Positive | None = None
    bandwidth: Positive | None = None
    rho: Positive | None = None
    floor: Annotated[float, Field(ge=0, le=1)] | None = None
    payload_ratio: Annotated[float, Field(ge=1)] | None = None
    channel: Channel | None = None

    def built(self) -> "P3Delay":
        """The problem. Raises ValueError, one line, for an impossible one."""
        from edge_server.routed_mtl import p3_delay

        return replace(p3_delay.PRESETS[self.preset], **_given(self))

    @model_validator(mode="after")
    def _possible(self) -> "P3":
        self.built()
        return self


class P4(Config):
    """Problem P4, average sum capacity: a preset, and what differs from it."""

    preset: Preset = "default"
    p_tot: Positive | None = None
    p_av: Positive | None = None
    budget: Literal["each", "sum"] | None = None
    channel: Channel | None = None

    def built(self) -> "Problem":
        """The problem. Raises ValueError, one line, for an impossible one."""
        from edge_server.routed_mtl import p4_capacity

        return replace(p4_capacity.PRESETS[self.preset], **_given(self))

    @model_validator(mode="after")
    def _possible(self) -> "P4":
        self.built()
        return self


class Problems(Config):
    """What the problems' names mean in `tasks`; p3_min_max has the keys of p3."""

    p3: Preset | P3 = "default"
    p3_min_max: Preset | P3 = "default"
    p4: Preset | P4 = "default"

    def built(self) -> "dict[str, Problem]":
        """The problems, by name."""
        from edge_server.routed_mtl.p3_min_max import P3MinMax

        p4 = P4(preset=self.p4) if isinstance(self.p4, str) else self.p4
        min_max = P3MinMax.of(_p3(self.p3_min_max))
        return {"p3": _p3(self.p3), "p3_min_max": min_max, "p4": p4.built()}


class TaskGroup(Config):
    """One task per number of `users`. problem: p3, p3_min_max, p4, or your own `module:Class`, built from `args`."""

    problem: Annotated[str, Field(pattern=r"^(p3|p3_min_max|p4|[\w.]+:\w+)$")]
    args: Args = {}  # noqa: RUF012 - pydantic copies it
    users: tuple[Count, ...]

    @model_validator(mode="after")
    def _whole(self) -> "TaskGroup":
        if not self.users:
            raise ValueError("users must hold at least one number")
        if self.args and ":" not in self.problem:
            raise ValueError(f"args are for a problem of your own; {self.problem} takes its values from `problems`")
        return self


class SampleCounts(Config):
    """Instances per task. train: drawn once. test: fresh ones with labels. violation: fresh ones for mean power."""

    train: Count = 30_000
    test: Count = 10_000
    violation: Count = 400_000


class RoutedMtl(Config):
    """The trainer of the routed multi-task network or of a rival: its tasks, its samples and every option of `Design`.

    every: steps between two rows of progress.
    """

    kind: Literal["routed_mtl"]
    scheme: Scheme = Design.scheme
    problems: Problems = Problems()
    tasks: tuple[TaskGroup, ...] = tuple(TaskGroup(problem=name, users=PAPER_USERS) for name in ("p3", "p4"))
    samples: SampleCounts = SampleCounts()
    inputs: Inputs = Design.inputs
    index: Index = Design.index
    skip: bool = Design.skip
    straight_through: bool = Design.straight_through
    schedule: Schedule = Design.schedule
    stages: tuple[Steps, ...] = Design.stages
    second_stage: SecondStage = Design.second_stage
    dual: Dual = Design.dual
    w3: Positive = Design.w3
    rate: Positive = Design.rate
    dual_rate: Positive = Design.dual_rate
    batch: Count = Design.batch
    tasks_per_step: Count | None = Design.tasks_per_step
    places: Count = Design.places
    calibrate: bool = Design.calibrate
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = Design.device
    every: Count = 100

    def design(self, seed: int) -> Design:
        """The options as the trainer takes them."""
        named = {field.name: getattr(self, field.name) for field in fields(Design) if field.name != "seed"}
        return Design(**named, seed=seed)

    def built_tasks(self) -> "Tasks":
        """The tasks, group by group. Raises ValueError, one line, for a problem of your own that cannot be built."""
        from edge_server.routed_mtl.tasks import Tasks

        known = self.problems.built()
        pairs = []
        for group in self.tasks:
            problem = known.get(group.problem) or _custom(group)
            pairs += [(problem, users) for users in group.users]
        return Tasks.of(pairs)

    @model_validator(mode="after")
    def _possible(self) -> "RoutedMtl":
        if len(self.stages) != 2:
            raise ValueError(f"stages must be the steps [t1, t2] of both stages, got {len(self.stages)} numbers")
        self.design(0)
        named = [(group.problem, users) for group in self.tasks for users in group.users]
        if not named:
            raise ValueError("tasks must hold at least one task")
        for problem, users in named:
            if users > self.places:
                raise ValueError(f"task {problem}/{users} has more users than places ({self.places}); raise places")
            if named.count((problem, users)) > 1:
                raise ValueError(f"task {problem}/{users} is given more than once")
        return self


def _p3(said: Preset | P3) -> "P3Delay":
    return P3(preset=said).built() if isinstance(said, str) else said.built()


def _given(config: P3 | P4) -> dict[str, Any]:
    """What a problem's config says beside its preset."""
    said = {name: getattr(config, name) for name in type(config).model_fields if name != "preset"}
    given = {name: value for name, value in said.items() if value is not None}
    if config.channel is not None:
        given["channel"] = config.channel.built()
    return given


def _custom(group: TaskGroup) -> "Problem":
    from edge_server.routed_mtl.problem_checks import check_problem

    problem: Problem = build_custom(group.problem, "problem", group.args)
    with named("problem", group.problem):
        check_problem(problem, max(group.users))
    return problem
