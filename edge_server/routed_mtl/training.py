"""Algorithm 1 of routed MTL as a state object: primal-dual steps on all tasks at once, hardening in between."""

import math
import zlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from edge_server.device import NoDevice, require_device
from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.drawing import Drawer
from edge_server.routed_mtl.losses import Losses, dual_step, joint_loss
from edge_server.routed_mtl.networks import ArchitectureError, TaskNetwork
from edge_server.routed_mtl.optimiser import adam, adam_state, descend, drop_negligible, load_adam_state
from edge_server.routed_mtl.progress import Progress, Smoothed
from edge_server.routed_mtl.rivals import build_network
from edge_server.routed_mtl.samples import Samples
from edge_server.routed_mtl.streams import torch_stream
from edge_server.routed_mtl.tasks import Tasks

SNAPSHOT = 100

State = dict[str, Tensor]


class Diverged(RuntimeError):
    """A non-finite loss. `step` is where it was met, `restored` the step whose state the trainer now holds."""

    def __init__(self, step: int, loss: float, restored: int) -> None:
        super().__init__(
            f"routed_mtl: the loss is {loss} at step {step}; training stopped and holds the state of step {restored}; "
            "lower the rate or look at the gains"
        )
        self.step, self.restored = step, restored


class Advance(NamedTuple):
    """What a step brought: progress where it is due, and whether the masks have become hard."""

    progress: Progress | None
    hardened: bool


class Trainer:
    """Trains one design on its tasks; the same seed and samples give the same bits on a CPU.

    `taken` steps of `design.steps` are done. `dual` [K, places] >= 0 holds lambda, in bits per W.
    """

    def __init__(self, tasks: Tasks, design: Design, samples: Samples) -> None:
        """Raises ValueError when the samples do not fit the tasks and the design, or the device is not there."""
        _check(tasks, design, samples)
        self.tasks, self.design, self.taken = tasks, design, 0
        self.network = build_network(tasks, design).to(design.device)
        self.dual = torch.zeros(len(tasks), design.places, device=design.device)
        self.smoothed = Smoothed.start(len(tasks), design.device)
        self._drawer = Drawer(tasks, design, samples.to(design.device))
        self._optimiser = adam(self.network.trainable(), design.rate)
        self._good: State | None = None
        self._second_stage_when_due()

    @property
    def samples(self) -> Samples:
        """The training samples, on the design's device."""
        return self._drawer.samples

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.taken >= self.design.steps

    def step(self) -> float:
        """One minibatch of every task drawn: Eq. (17) and (18), in stage 2 Eq. (19) and (20). Returns the loss.

        Raises Diverged for a non-finite loss, ValueError when all steps are taken.
        """
        if self.done:
            raise ValueError(f"routed_mtl: all {self.design.steps} steps are taken")
        chosen, groups = self._drawer.choose()
        batch = self._drawer.batch(chosen)
        logits = self.network(batch.features, batch.log_gain, batch.presence, chosen)
        dual = self.dual if chosen is None else self.dual[chosen]
        losses = joint_loss(groups, logits, batch, dual, self.design.w3)
        loss = losses.total * self._beta(logits.shape[0])
        value = self._checked(float(loss.detach()))
        self._primal(loss)
        self._dual(dual, losses, chosen)
        self.smoothed.add(losses.objective, losses.excess, batch.presence.squeeze(1), chosen)
        self.taken += 1
        self._second_stage_when_due()
        return value

    def advance(self, every: int) -> Advance:
        """One step, with what is to be told of it; progress after every `every`-th step and the last."""
        stage, loss = self.stage, self.step()
        due = self.taken % every == 0 or self.done
        return Advance(self.progress(loss) if due else None, self.stage != stage)

    def train(
        self, steps: int | None = None, on_progress: Callable[[Progress], None] | None = None, every: int = 100
    ) -> None:
        """Up to `steps` more steps (None: to the end); `on_progress` after every `every`-th step and the last."""
        end = self.design.steps if steps is None else min(self.design.steps, self.taken + steps)
        while self.taken < end:
            loss = self.step()
            if on_progress is not None and (self.taken % every == 0 or self.taken == end):
                on_progress(self.progress(loss))

    def progress(self, loss: float) -> Progress:
        """Where the run is, with smoothed objectives and violations per task."""
        return Progress.of(self.taken, self.design.steps, self.stage, loss, self.smoothed, self.tasks)

    @property
    def stage(self) -> int:
        """1, or 2 once the masks are hard; a rival has one stage."""
        return 2 if self._hardened else 1

    def state_dict(self) -> State:
        """Copies of everything that steps change, as flat tensors: continuing from it gives the same bits."""
        state = {f"network.{name}": value.clone() for name, value in self.network.state_dict().items()}
        state |= {f"adam.{name}": value for name, value in adam_state(self._optimiser, self._names()).items()}
        state |= {f"smoothed.{name}": value for name, value in self.smoothed.state().items()}
        return state | {
            "dual": self.dual.clone(),
            "rng": self._drawer.generator.get_state(),
            "taken": torch.tensor(self.taken),
            "signature": torch.tensor(self._signature()),
        }

    def packed(self) -> bytes:
        """The same as safetensors; equal states give equal bytes."""
        return save({name: tensor.contiguous() for name, tensor in self.state_dict().items()})

    def load_state_dict(self, state: State) -> None:
        """Takes up such a state. Raises ArchitectureError when it comes from another design or other tasks."""
        if int(state.get("signature", -1)) != self._signature():
            raise ArchitectureError("routed_mtl: this state was saved for another design or other tasks; start anew")
        state = {name: value.clone() for name, value in state.items()}
        if isinstance(self.network, TaskNetwork):
            self.network.masks = state.get("network.masks")
        self.network.load_state_dict(_under("network.", state))
        self.network.to(self.design.device)
        self._optimiser = adam(self.network.trainable(), self.design.rate)
        load_adam_state(self._optimiser, self._names(), _under("adam.", state))
        self.smoothed = Smoothed(**_under("smoothed.", state)).to(self.design.device)
        self.dual = state["dual"].to(self.design.device)
        self._drawer.generator.set_state(state["rng"].cpu())
        self.taken = int(state["taken"])
        self._good = self.state_dict()

    @property
    def _hardened(self) -> bool:
        return isinstance(self.network, TaskNetwork) and self.network.masks is not None

    def _beta(self, tasks: int) -> float:
        return 1.0 if self.design.scheme == "single" else 1 / tasks

    def _checked(self, loss: float) -> float:
        if not math.isfinite(loss):
            if self._good is None:
                raise Diverged(self.taken, loss, self.taken)
            at = self.taken
            self.load_state_dict(self._good)
            raise Diverged(at, loss, self.taken)
        if self.taken % SNAPSHOT == 0:
            self._good = self.state_dict()
        return loss

    def _primal(self, loss: Tensor) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate()
        descend(self._optimiser, loss)
        if self.taken % SNAPSHOT == 0:
            drop_negligible(self._optimiser)

    def _rate(self) -> float:
        if self.design.schedule == "constant":
            return self.design.rate
        first, second = self.design.stages if self.design.scheme == "routed" else (self.design.steps, 0)
        taken, length = (self.taken, first) if self.taken < first else (self.taken - first, second)
        return self.design.rate * 0.5 * (1 + math.cos(math.pi * taken / length))

    def _dual(self, dual: Tensor, losses: Losses, chosen: Tensor | None) -> None:
        moved = dual_step(dual, losses.excess, self.design.dual_rate, self.design.dual)
        if chosen is None:
            self.dual = moved
        else:
            self.dual[chosen] = moved

    def _second_stage_when_due(self) -> None:
        routed = isinstance(self.network, TaskNetwork) and self.network.router is not None
        if not routed or self._hardened or self.taken != self.design.stages[0]:
            return
        assert isinstance(self.network, TaskNetwork)
        self.network.harden_masks()
        if self.design.second_stage == "reinit":
            self.network.reinitialise(torch_stream(self.design.seed, "bdnn", "second stage"))
        self._optimiser = adam(self.network.trainable(), self.design.rate)

    def _names(self) -> list[str]:
        trained = {id(parameter) for parameter in self.network.trainable()}
        return [name for name, parameter in self.network.named_parameters() if id(parameter) in trained]

    def _signature(self) -> int:
        return zlib.crc32(repr((self.tasks.items, self.design)).encode())


def _check(tasks: Tasks, design: Design, samples: Samples) -> None:
    try:
        require_device(design.device)
    except NoDevice as error:
        raise NoDevice(f"design: {error}") from error
    expected, found = (len(tasks), design.places), (samples.gains.shape[0], samples.gains.shape[2])
    if expected != found:
        raise ValueError(f"samples: [tasks, places] is {list(found)}, the tasks and the design need {list(expected)}")


def _under(prefix: str, state: State) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
