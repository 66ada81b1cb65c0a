"""One user's numerics: features up, outputs down, loss and output gradient up, then its own steps. No messages."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from protos.cut import along
from user_client import config as settings
from user_client.adversaries import attacks, inflation, with_adversaries
from user_client.losses import Slope, linear_slope, slope, squared_together
from user_client.models import build_front, build_head, front_shape
from user_client.outgoing import Moment, Outgoing
from user_client.tasks import build_task
from user_client.tasks.base import Place, Task, held_out

_DEFAULT_STEP = 0.1
_FRONT, _HEAD, _ADVERSARY, _OUTGOING = range(4)
_BEGUN = "begun"
_SPLIT = 32_768
"""Samples from which torch shares out one sum among threads, and rounds it otherwise than a row of a block."""


class Feedback(NamedTuple):
    """What goes up: a loss at the outputs received, and the gradient [B, *out] of the training batch's own loss.

    Held-out samples give the loss and have gradient 0; an inflated loss is that times its factor. Privacy and attacks
    have changed the gradient already.
    """

    loss: float
    gradient: Tensor


class Validation(NamedTuple):
    """Mean loss over the validation set, and accuracy in [0, 1] (None for regression)."""

    loss: float
    accuracy: float | None


class _Pending(NamedTuple):
    """What a slot leaves to be applied: gradients of the head, and the front's outputs with their graph."""

    head: Sequence[Tensor]
    front: Tensor | None


def feature_shape(config: settings.User, task: Task) -> tuple[int, ...]:
    """Shape of one sample as this user sends it up. Raises ValueError when the front does not fit the task."""
    return front_shape(config.front, task.input_shape, task.dtype)


def build_stream(config: settings.User, place: Place) -> Task:
    """The user's task with its adversaries around it. Raises ValueError or FileNotFoundError."""
    return with_adversaries(build_task(config.task, place), _adversaries(config), place, _seed(place, _ADVERSARY))


def reported_factor(config: settings.User) -> float:
    """What this user's losses are multiplied by before they go up."""
    return inflation(_adversaries(config))


def exact(config: settings.User) -> bool:
    """It reports its loss and its gradient as they are."""
    return reported_factor(config) == 1 and not attacks(_adversaries(config)) and config.privacy is None


def _adversaries(config: settings.User) -> tuple[settings.Adversary, ...]:
    return config.adversary if isinstance(config.adversary, tuple) else (config.adversary,)


class User:
    """One user: its data, front and head; rounds and slots are counted from 0.

    A slot is `features`, `feedback`, then `apply` or `drop`. With a frozen front (or none) the next slot's
    `features` may come before this slot's `apply`. labels [B]: of the samples whose features were made last.
    Raises ValueError or FileNotFoundError when data, front, encoder output and head do not fit.
    """

    def __init__(self, config: settings.User, place: Place, encoder_output_shape: tuple[int, ...]) -> None:
        task = self.task = build_stream(config, place)
        self.dtype, self.batch, self.validation_batch = task.dtype, task.batch, task.validation_batch
        self.feature_shape = feature_shape(config, task)
        self.trainable_front = config.front != "none" and config.front.trainable
        self._held_out = held_out(config.task)
        self._factor = reported_factor(config)
        self._outgoing = Outgoing(config.privacy, attacks(_adversaries(config)), _seed(place, _OUTGOING))
        self._steps = _steps(config)
        self._front = build_front(config.front, task.input_shape, task.dtype, _seed(place, _FRONT))
        self._head = build_head(config.head, encoder_output_shape, task.outputs, task.dtype, _seed(place, _HEAD))
        self._first_head = deepcopy(self._head) if _starts_fresh(config) else None
        self._outputs_shape = torch.Size(encoder_output_shape)
        self._at: Moment | None = None
        self._begun = -1
        self.labels = torch.empty(0)
        self._validation_labels = torch.empty(0)
        self._front_outputs: Tensor | None = None
        self._pending: _Pending | None = None

    @property
    def together(self) -> bool:
        """Its feedback has the same bits in one call with others' (`feedback_together`)."""
        alike = self._head is None and self.task.loss == "squared" and self.batch < _SPLIT
        return alike and not self._held_out and not self.trainable_front

    @property
    def head(self) -> nn.Module | None:
        """The user's own model behind the encoder; None for `identity`."""
        return self._head

    def features(self, round_: int, slot: int) -> Tensor:
        """What goes up in this slot: [B, *feature_shape], detached. Its first one of a round puts a fresh head back."""
        self._begin(round_)
        self._at = Moment(round_, slot)
        x, self.labels = self.task.job(round_, slot)
        if self._front is None:
            return x
        with torch.set_grad_enabled(self.trainable_front):
            z: Tensor = self._front(x)
        self._front_outputs = z if self.trainable_front else None
        return z.detach()

    def _begin(self, round_: int) -> None:
        if self._first_head is not None and round_ != self._begun:
            self._head, self._begun = deepcopy(self._first_head), round_

    def feedback(self, outputs: Tensor) -> Feedback:
        """Loss and gradient at the encoder's outputs [B, *out]; the head's own step waits for `apply`.

        Raises ValueError when the outputs' shape is not [B, *encoder_output_shape].
        """
        self._check_outputs(outputs, self.batch)
        if self._at is not None:
            self._begin(self._at.round)  # an earlier state may have been taken back since the features
        trained = self.batch - self._held_out
        feedback, head = self._differentiate(outputs[:trained], self.labels[:trained])
        self._pending = _Pending(head, self._front_outputs)
        feedback = self._reported(feedback)
        return self._with_held_out(feedback, outputs) if self._held_out else feedback

    def take(self, found: Slope) -> Feedback:
        """The feedback of a user that is `together`, from the loss and slope at its outputs."""
        self._pending = _Pending((), None)
        return self._reported(Feedback(*found))

    def apply(self, feature_gradient: Tensor | None) -> None:
        """One SGD step of the head, and of a trainable front, on this user's own unweighted loss.

        feature_gradient [B, *feature_shape]: d own loss / d features, needed by a trainable front alone.
        Raises ValueError when it is missing or misshapen, RuntimeError when no slot is pending.
        """
        if self._pending is None:
            raise RuntimeError("apply without feedback: this slot was applied or dropped before")
        front = self._front_gradients(self._pending.front, feature_gradient)
        _descend(self._head, self._pending.head, self._steps.head)
        _descend(self._front, front, self._steps.front)
        self._pending = None

    def drop(self) -> None:
        """Forgets the pending slot: its steps are not taken."""
        self._pending = None

    def validation_features(self, round_: int) -> Tensor:
        """The round's clean validation set behind the front: [V, *feature_shape]."""
        x, self._validation_labels = self.task.validation(round_)
        with torch.no_grad():
            z: Tensor = x if self._front is None else self._front(x)
        return z

    def validate(self, outputs: Tensor) -> Validation:
        """Loss and accuracy at the encoder's outputs [V, *out]. Raises ValueError on a wrong shape."""
        self._check_outputs(outputs, self.validation_batch)
        labels = self._validation_labels
        with torch.no_grad():
            predictions = self._predict(outputs)
            loss = slope(self.task.loss, predictions, labels).loss
        if self.task.loss == "squared":
            return Validation(loss, None)
        return Validation(loss, float((predictions.argmax(1) == labels).double().mean()))

    def state(self) -> dict[str, Tensor]:
        """A copy of all that it remembers from slot to slot: the parameters of front and head.

        Of a head that is fresh in every round, also which round it has begun, -1 for none.
        """
        begun = {} if self._first_head is None else {_BEGUN: torch.tensor(self._begun)}
        return begun | {name: parameter.detach().clone() for name, parameter in self._named().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from such a state. Raises ValueError when it is that of another front or head."""
        named = self._named()
        if self._first_head is not None and _BEGUN in state:
            self._begun = int(state[_BEGUN])
            state = {name: values for name, values in state.items() if name != _BEGUN}
        if {name: tensor.shape for name, tensor in state.items()} != {name: p.shape for name, p in named.items()}:
            raise ValueError(f"a state with {sorted(state)} is not that of this front and head, {sorted(named)}")
        with torch.no_grad():
            for name, parameter in named.items():
                parameter.copy_(state[name])

    def _named(self) -> dict[str, nn.Parameter]:
        modules = {"front": self._front, "head": self._head}
        return {
            f"{part}.{name}": parameter
            for part, module in modules.items()
            if module is not None
            for name, parameter in module.named_parameters()
        }

    def digest(self) -> bytes:
        """SHA-256 of the parameters: front, then head, each in its own order, little-endian."""
        hash_ = sha256()
        for parameter in (*_parameters(self._front), *_parameters(self._head)):
            values = parameter.detach().numpy()
            hash_.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
        return hash_.digest()

    def _predict(self, outputs: Tensor) -> Tensor:
        predictions: Tensor = outputs if self._head is None else self._head(outputs)
        return predictions

    def _reported(self, true: Feedback) -> Feedback:
        """What this user says of a slot whose features it has made."""
        assert self._at is not None
        return Feedback(true.loss * self._factor, self._outgoing(true.gradient, self._at))

    def _with_held_out(self, trained: Feedback, outputs: Tensor) -> Feedback:
        """The loss of the last samples as reported, and the gradient of the others with zeros for these."""
        unseen = outputs[-self._held_out :]
        with torch.no_grad():
            loss, _ = slope(self.task.loss, self._predict(unseen), self.labels[-self._held_out :])
        return Feedback(loss * self._factor, torch.cat([trained.gradient, torch.zeros_like(unseen)]))

    def _differentiate(self, outputs: Tensor, labels: Tensor) -> tuple[Feedback, Sequence[Tensor]]:
        """The batch's own loss and gradient, and the head's gradients; only a head of several layers takes a graph."""
        kind, head = self.task.loss, self._head
        if head is None:
            return Feedback(*slope(kind, outputs.detach(), labels)), ()
        if (layer := _only_layer(head)) is not None:
            feedback, parameters = linear_slope(kind, layer, outputs.detach(), labels)
            return Feedback(*feedback), parameters
        return self._through_layers(head, outputs.detach().requires_grad_(), labels)

    def _through_layers(self, head: nn.Module, outputs: Tensor, labels: Tensor) -> tuple[Feedback, Sequence[Tensor]]:
        with torch.enable_grad():
            predictions = head(outputs)
        loss, gradient = slope(self.task.loss, predictions.detach(), labels)
        gradient, *parameters = torch.autograd.grad(along(predictions, gradient), (outputs, *_parameters(head)))
        return Feedback(loss, gradient), parameters

    def _front_gradients(self, outputs: Tensor | None, gradient: Tensor | None) -> Sequence[Tensor]:
        if outputs is None:
            return ()
        if gradient is None or gradient.shape != outputs.shape:
            got = "none" if gradient is None else list(gradient.shape)
            raise ValueError(f"feature gradient: a trainable front needs {list(outputs.shape)}, got {got}")
        return torch.autograd.grad(along(outputs, gradient), _parameters(self._front))

    def _check_outputs(self, outputs: Tensor, batch: int) -> None:
        if outputs.shape[1:] != self._outputs_shape or outputs.shape[0] != batch:
            expected = [batch, *self._outputs_shape]
            raise ValueError(f"encoder outputs have shape {list(outputs.shape)}, expected {expected}")


def feedback_together(users: Sequence[User], outputs: Tensor) -> list[Feedback]:
    """`User.feedback` of N users with as many samples each, outputs [N, B, 1]; all of them are `together`."""
    slopes = squared_together(outputs, torch.stack([user.labels for user in users]))
    return [user.take(found) for user, found in zip(users, slopes, strict=True)]


def _only_layer(head: nn.Module) -> nn.Linear | None:
    """The layer of our own linear head, whose gradients need no graph."""
    only = head[0] if type(head) is nn.Sequential and len(head) == 1 else None
    return only if isinstance(only, nn.Linear) else None


def _starts_fresh(config: settings.User) -> bool:
    return not isinstance(config.head, settings.IdentityHead) and config.head.start == "fresh"


class _Steps(NamedTuple):
    head: float
    front: float


def _steps(config: settings.User) -> _Steps:
    """SGD steps; a front without its own takes the head's."""
    head = _DEFAULT_STEP if isinstance(config.head, settings.IdentityHead) else config.head.step
    front = None if config.front == "none" else config.front.step
    return _Steps(head, head if front is None else front)


def _seed(place: Place, role: int) -> int:
    """A seed of its own for each role; apart from the task's streams, which start from [seed, round]."""
    return int(np.random.SeedSequence(place.seed, spawn_key=(role,)).generate_state(1, np.uint64)[0])


def _parameters(module: nn.Module | None) -> list[nn.Parameter]:
    return [] if module is None else list(module.parameters())


def _descend(module: nn.Module | None, gradients: Sequence[Tensor], step: float) -> None:
    if not gradients:
        return
    with torch.no_grad():
        for parameter, gradient in zip(_parameters(module), gradients, strict=True):
            parameter.sub_(gradient, alpha=step)
