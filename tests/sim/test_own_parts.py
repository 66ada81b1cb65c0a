"""Parts of one's own that break their protocol are refused before a run, each in one line that says where and what."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import runs
from edge_server.aggregators import Slot, State
from edge_server.fairness import AlphaFair
from edge_server.radio.gains import Site
from edge_server.radio.power import Downlink
from edge_server.routed_mtl.p4_capacity import P4Capacity
from sim.caller import BadScenario, RunError
from sim.skeletons.aggregator import WorstMore
from sim.skeletons.channel import Walking
from sim.skeletons.outer import HeavyBall
from sim.skeletons.policy import Fractional
from sim.skeletons.problem import WeakestSignal
from sim.skeletons.task import DriftingLine
from user_client.tasks.base import Job, Place, Task

COUNT = iter(range(10**9))
"""What changes from call to call."""


class Counting(WorstMore):
    def step(self, state: State, slot: Slot) -> State:
        after = super().step(state, slot)
        return replace(after, w=after.w / (1 + next(COUNT)))


class InPlace(WorstMore):
    def step(self, state: State, slot: Slot) -> State:
        state.w.mul_(0.5)
        return replace(state, slot=state.slot + 1)


class Half(WorstMore):
    def weights(self, state: State, slot: Slot) -> Tensor:
        return state.w[:1]


class Nan(WorstMore):
    def weights(self, state: State, slot: Slot) -> Tensor:
        return state.w * float("nan")


class Bare(WorstMore):
    def start(self, users: int) -> Any:
        return torch.zeros(users)


class Named(WorstMore):
    def start(self, users: int) -> Any:
        return replace(super().start(users), loss={"a", "b"})


class Growing(WorstMore):
    def step(self, state: State, slot: Slot) -> State:
        return replace(super().step(state, slot), utility_sum=torch.zeros(7))


class Dear(WorstMore):
    cost: ClassVar[Any] = "everything"


class Drawn(WorstMore):
    """Draws its weights as it should."""

    def __init__(self, fairness: AlphaFair, seed: int) -> None:
        super().__init__(fairness)
        object.__setattr__(self, "drawn", seed)

    def step(self, state: State, slot: Slot) -> State:
        rng = np.random.default_rng([self.drawn, state.rounds, state.slot])  # type: ignore[attr-defined]
        w = -torch.from_numpy(rng.uniform(0.1, 1.0, len(state.w)))
        return replace(super().step(state, slot), w=w)


@dataclass
class Thawed:
    x: Tensor

    def next(self, theta_star: Tensor) -> "Thawed":
        return Thawed(theta_star)


@dataclass(frozen=True)
class Elsewhere(HeavyBall):
    def __post_init__(self) -> None:
        object.__setattr__(self, "x", self.x + 1)


@dataclass(frozen=True)
class Restless(HeavyBall):
    def next(self, theta_star: Tensor) -> "HeavyBall":
        return replace(super().next(theta_star), x=self.x + next(COUNT))


@dataclass(frozen=True)
class Single(HeavyBall):
    def next(self, theta_star: Tensor) -> "HeavyBall":
        return replace(super().next(theta_star), x=theta_star.float())


@dataclass(frozen=True)
class Tired(HeavyBall):
    """Gives up in the second round."""

    rounds: int = 0

    def next(self, theta_star: Tensor) -> "HeavyBall":
        if self.rounds and len(theta_star) > 3:
            raise LookupError("enough")
        return replace(self, rounds=self.rounds + 1)


class Silent(Walking):
    def round(self, t: int) -> Any:
        return 0 * super().round(t)


class Flat(Walking):
    def round(self, t: int) -> Any:
        return super().round(t)[0]


class Fickle(Walking):
    def round(self, t: int) -> Any:
        return super().round(t) / (1 + next(COUNT))


class Fading:
    """Gone in the third round."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def round(self, t: int) -> Any:
        gains = np.ones((self.site.slots, len(self.site.seeds)))
        return gains * (np.nan if t == 1 else 1.0)


class Random(Fractional):
    def power(self, gain: Any, bits: Any) -> Any:
        return super().power(gain, bits) / (1 + next(COUNT))


class Lavish(Fractional):
    def power(self, gain: Any, bits: Any) -> Any:
        return 2 * super().power(gain, bits)


class Broken:
    def __init__(self, downlink: Downlink) -> None:
        raise RuntimeError("no power today")


class Unrepeatable(DriftingLine):
    def job(self, round_: int, slot: int) -> Job:
        x, y = super().job(round_, slot)
        return Job(x, y + next(COUNT))


class Wide(DriftingLine):
    def job(self, round_: int, slot: int) -> Job:
        x, y = super().job(round_, slot)
        return Job(torch.cat([x, x], 1), y)


class Classes(DriftingLine):
    loss: Any = "cross_entropy"


class Torn:
    """An adversary whose labels are not numbers."""

    def __init__(self, task: Task, place: Place, seed: int) -> None:
        vars(self).update({name: getattr(task, name) for name in Task.__annotations__})
        self._task = task

    def job(self, round_: int, slot: int) -> Job:
        x, y = self._task.job(round_, slot)
        return Job(x, y * float("nan"))


class Forgetful(nn.Sequential):
    """Front or head with a random part."""

    def __init__(self, shape: tuple[int, ...], *needed: int) -> None:
        super().__init__(nn.Linear(4 if not needed else 1, *(needed or (4,))), nn.Dropout(0.5))


class Mixing(nn.Module):
    def __init__(self, shape: tuple[int, ...], *needed: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * (x - x.mean(0))


class Idle(nn.Module):
    def __init__(self, shape: tuple[int, ...], *needed: int) -> None:
        super().__init__()
        self.layer, self.unused = nn.Linear(*shape, 1), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)  # type: ignore[no-any-return]


class Fixed(nn.Module):
    """No parameters: a front that is frozen may be like this."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()


class Narrow(nn.Linear):
    def __init__(self, shape: tuple[int, ...], needed: int) -> None:
        super().__init__(*shape, needed + 1)


@dataclass(frozen=True)
class Unseeded(WeakestSignal):
    def sample(self, rng: np.random.Generator, instances: int, users: int) -> Any:
        return super().sample(rng, instances, users) + next(COUNT)


@dataclass(frozen=True)
class Unmasked(WeakestSignal):
    def power(self, logits: Tensor, mask: Tensor) -> Tensor:
        return self.p_tot * logits.softmax(dim=-1)


@dataclass
class Mutable:
    kind: ClassVar[str] = "supervised"
    p_tot: float = 1.0


@dataclass(frozen=True)
class Boundless(P4Capacity):
    def mean_power(self, users: int) -> float:
        return 0.0


@dataclass(frozen=True)
class Kindless(WeakestSignal):
    kind: ClassVar[Any] = "guess"
    extra: dict[str, int] = field(default_factory=dict)


def own(name: str, **more: Any) -> dict[str, Any]:
    return {"kind": f"{__name__}:{name}", **more}


def aggregator(name: str) -> runs.Tree:
    return runs.changed(runs.kernel(), edge__aggregator=own(name, u_max=4.0))


def outer(name: str) -> runs.Tree:
    return runs.changed(runs.kernel(rounds=4), edge__meta__rule=own(name))


def channel(name: str) -> runs.Tree:
    return runs.kernel(radio=own(name))


def power(name: str) -> runs.Tree:
    return runs.kernel(radio={"kind": "rayleigh", "power": own(name)})


def task(name: str) -> runs.Tree:
    return runs.changed(runs.kernel(), users__template__task=own(name))


def adversary(name: str) -> runs.Tree:
    return runs.changed(runs.kernel(), users__template__adversary=own(name))


def front(name: str) -> runs.Tree:
    return runs.changed(runs.kernel(), users__template__front=own(name))


def head(name: str) -> runs.Tree:
    return runs.changed(runs.kernel(), users__template__head=own(name))


def problem(name: str) -> runs.Tree:
    tasks = [{"problem": f"{__name__}:{name}", "users": [2]}]
    return runs.changed(runs.kernel(), edge__server_tasks=[{"kind": "routed_mtl", "tasks": tasks}])


BAD: list[tuple[Callable[[str], runs.Tree], str, str, str]] = [
    (aggregator, "Counting", "edge.aggregator", "equal states and slots lead to different bits"),
    (aggregator, "InPlace", "edge.aggregator", "a step changes the state that it was given"),
    (aggregator, "Half", "edge.aggregator", r"weights gives \[1\] torch.float64; expected \[2\]"),
    (aggregator, "Nan", "edge.aggregator", r"weights gives \[nan, nan\] for utilities within"),
    (aggregator, "Bare", "edge.aggregator", "start gives a Tensor; it must be a State"),
    (aggregator, "Named", "edge.aggregator", "state 'state.loss': a set cannot be saved"),
    (aggregator, "Growing", "edge.aggregator", r"a resumed run could not go on from its state: .*'state.utility_sum'"),
    (aggregator, "Dear", "edge.aggregator", "its cost is 'everything'; it must be one of scalars, gramian"),
    (outer, "Thawed", "edge.meta.rule", "its state is a Thawed; it must be a frozen dataclass"),
    (outer, "Elsewhere", "edge.meta.rule", "its x is not the x_1 that it was given"),
    (outer, "Restless", "edge.meta.rule", "equal states and slots lead to different bits"),
    (outer, "Single", "edge.meta.rule", "expected .* torch.float64"),
    (channel, "Silent", "radio", "round 0 gives 0 for user 0 in slot 0; gains are positive and finite"),
    (channel, "Flat", "radio", r"round 0 gives \[2\] float64; expected \[slots, users\] = \[4, 2\] float64"),
    (channel, "Fickle", "radio", "round 0 has other gains when it is asked for again"),
    (power, "Random", "radio", "equal gains and payloads get other powers"),
    (power, "Lavish", "radio", "gave 20 W in all; the limit is 10 W"),
    (power, "Broken", "radio", "RuntimeError: no power today"),
    (task, "Unrepeatable", "users.0.task", r"job\(0, 0\) has other bits when it is asked for again"),
    (task, "Wide", "users.0.task", r"x of job\(0, 0\) is \[4, 4\] torch.float64; its attributes say \[4, 2\]"),
    (task, "Classes", "users.0.task", r"y of job\(0, 0\) is \[4\] torch.float64; its attributes say \[4\] torch.int64"),
    (adversary, "Torn", "users.0.task", r"job\(0, 0\) has numbers that are not finite"),
    (front, "Forgetful", "users.0.front", "equal inputs give different outputs"),
    (front, "Mixing", "users.0.front", "the outputs of one sample depend on the others of its batch"),
    (front, "Idle", "users.0.front", "parameter unused.weight has no part in the outputs"),
    (front, "Fixed", "users.0.front", "it has no parameters, so there is nothing to learn; of a front, say trainable"),
    (head, "Forgetful", "users.0.head", "equal inputs give different outputs"),
    (head, "Narrow", "users.0.head", r"gives \[2\] per sample, this task needs \[1\]"),
    (problem, "Unseeded", "edge.server_tasks.0", "equal generators give different samples"),
    (problem, "Unmasked", "edge.server_tasks.0", "what stands in a place without a user"),
    (problem, "Mutable", "edge.server_tasks.0", "make it a frozen dataclass"),
    (problem, "Boundless", "edge.server_tasks.0", "its mean power: limit must be positive and finite, got 0"),
    (problem, "Kindless", "edge.server_tasks.0", "its kind is 'guess'; it must be one of supervised, unsupervised"),
]


@pytest.mark.parametrize(("tree", "name", "path", "said"), BAD, ids=[f"{row[0].__name__}-{row[1]}" for row in BAD])
def test_it_is_refused_in_one_line(
    tmp_path: Path, tree: Callable[[str], runs.Tree], name: str, path: str, said: str
) -> None:
    with pytest.raises(BadScenario) as refused:
        runs.run(tmp_path, tree(name))
    line = str(refused.value)
    assert "\n" not in line
    assert re.search(rf"scenario\.yaml:\d+: {re.escape(path)}: ", line), line
    assert re.search(rf"{__name__}:{name}: .*{said}|power {name}: .*{said}", line), line


def test_what_draws_is_given_a_seed_of_the_run(tmp_path: Path) -> None:
    tree = aggregator("Drawn")
    one, same = (runs.run(tmp_path / name, tree) for name in "ab")
    other = runs.run(tmp_path / "c", {**tree, "seed": 4})
    given = runs.run(tmp_path / "d", runs.changed(tree, edge__aggregator__args={"seed": 1}))
    assert one.digest == same.digest
    assert len({one.digest, other.digest, given.digest}) == 3


def test_a_frozen_front_needs_no_parameters(tmp_path: Path) -> None:
    tree = runs.changed(runs.kernel(), users__template__front=own("Fixed", trainable=False))
    memory, grpc = (runs.run(tmp_path, tree, transport) for transport in ("memory", "grpc"))
    assert memory.digest == grpc.digest != runs.run(tmp_path, runs.kernel()).digest


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_what_goes_wrong_later_ends_the_run_in_one_line(tmp_path: Path, transport: str) -> None:
    with pytest.raises(RunError, match=r"^kernel: radio: channel .*Fading: round 1 gives nan for user 0 in slot 0"):
        runs.run(tmp_path / "channel", runs.kernel(rounds=3, radio=own("Fading")), transport)
    with pytest.raises(RunError, match=r"^kernel: edge.meta.rule failed after round 1: LookupError: enough$"):
        runs.run(tmp_path / "outer", outer("Tired"), transport)
