"""Trained networks as plain numpy functions: masks and task codes are folded into dense weights."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Arrays = dict[str, Array]

LAYERS = 7


class Function(Protocol):
    """Logits [B, N] of features [B, N], or with the payloads behind them [B, 2 N], for one task and one N."""

    def __call__(self, features: Array) -> Array:
        """The logits, in an array of their own."""
        ...


class Folded(Protocol):
    """A family of such functions, one per task."""

    architecture: ClassVar[str]
    any_users: ClassVar[bool]

    @property
    def payloads(self) -> bool:
        """Whether the users' payloads follow their gains in the inputs."""
        ...

    def function(self, task: int, users: int) -> Function:
        """The function of task number `task` for `users` users (at most the task's own N unless `any_users`)."""
        ...

    def arrays(self) -> Arrays:
        """What is saved, by name."""
        ...


@dataclass(frozen=True)
class FoldedTrunk:
    """weights[l] [K, in, out], biases[l] [K, out], float32. With fewer users than a task's N, the rest is left out."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    architecture: ClassVar[str] = "trunk"
    any_users: ClassVar[bool] = False

    @property
    def payloads(self) -> bool:
        """Whether it has two inputs per output."""
        return bool(self.weights[0].shape[1] == 2 * self.weights[-1].shape[2])

    def function(self, task: int, users: int) -> "DenseFunction":
        """The first `users` inputs (gains, and payloads) and outputs of this task's layers."""
        weights = [weight[task] for weight in self.weights]
        biases = [bias[task] for bias in self.biases]
        places = weights[-1].shape[1]
        starts = (0, places) if self.payloads else (0,)
        weights[0] = np.concatenate([weights[0][start : start + users] for start in starts])
        weights[-1], biases[-1] = weights[-1][:, :users], biases[-1][:users]
        return DenseFunction(tuple(np.ascontiguousarray(w) for w in weights), tuple(biases))

    def arrays(self) -> Arrays:
        """`weights.L`, `biases.L`."""
        named = {f"weights.{layer}": weight for layer, weight in enumerate(self.weights)}
        return named | {f"biases.{layer}": bias for layer, bias in enumerate(self.biases)}

    @classmethod
    def of(cls, arrays: Arrays) -> "FoldedTrunk":
        """From such arrays. Raises KeyError for a missing one, ValueError for layers that do not fit each other."""
        weights = tuple(arrays[f"weights.{layer}"] for layer in range(LAYERS))
        biases = tuple(arrays[f"biases.{layer}"] for layer in range(LAYERS))
        inputs = [weight.shape[1] for weight in weights[1:]]
        if any(w.ndim != 3 for w in weights) or [b.shape for b in biases] != [w.shape[::2] for w in weights]:
            raise ValueError("weights and biases do not fit")
        if weights[0].shape[1] not in (weights[-1].shape[2], 2 * weights[-1].shape[2]):
            raise ValueError("inputs and outputs do not fit")
        if inputs != [weight.shape[2] for weight in weights[:-1]]:
            raise ValueError("layers do not fit each other")
        return cls(weights, biases)


@dataclass(frozen=True)
class DenseFunction:
    """ReLU layers, x @ weight + bias; weights [in, out], biases [out]."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    def __call__(self, features: Array) -> Array:
        """[B, in] to [B, N]."""
        x = features
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = x @ weight
            x += bias
            np.maximum(x, 0, out=x)
        x = x @ self.weights[-1]
        x += self.biases[-1]
        return x


@dataclass(frozen=True)
class FoldedSet:
    """The deep set of `equivariant`: arrays by its parameters' names, and `problems` [K], each task's problem."""

    parameters: Arrays
    problems: NDArray[np.int64]

    architecture: ClassVar[str] = "deep_set"
    any_users: ClassVar[bool] = True

    @property
    def payloads(self) -> bool:
        """Whether its first layer takes two numbers of every user."""
        return self._features == 2

    @property
    def _features(self) -> int:
        """What is left of the first layer's inputs beside the problem's one-hot and ln(N / 10)."""
        return int(self.parameters["first"].shape[1] - self._problems - 1)

    @property
    def _problems(self) -> int:
        return int(self.problems.max()) + 1

    def function(self, task: int, users: int) -> "SetFunction":
        """For any number of users."""
        p = self.parameters
        each = self._features
        problem, number = each + int(self.problems[task]), each + self._problems
        told = p["first"][:, problem] + p["first"][:, number] * np.float32(np.log(users / 10))
        return SetFunction(p, (told + p["first_bias"]).astype(np.float32), each)

    def arrays(self) -> Arrays:
        """Its parameters and `problems`."""
        return self.parameters | {"problems": self.problems.astype(np.float32)}

    @classmethod
    def of(cls, arrays: Arrays) -> "FoldedSet":
        """From such arrays. Raises KeyError for a missing one, ValueError for shapes that do not fit."""
        names = ("first", "first_bias", "inner", "inner_bias", "last", "last_bias")
        parameters = {name: arrays[name] for name in names}
        width = parameters["first"].shape[0]
        if parameters["inner"].shape[1:] != (width, 3 * width) or parameters["last"].shape != (1, width):
            raise ValueError("layers do not fit each other")
        folded = cls(parameters, arrays["problems"].astype(np.int64))
        if folded._features not in (1, 2):
            raise ValueError("the first layer does not fit the number of problems")
        return folded


@dataclass(frozen=True)
class SetFunction:
    """The deep set for one task and N; told [WIDTH] is the first bias, features the numbers of every user."""

    parameters: Arrays
    told: Array
    features: int

    def __call__(self, features: Array) -> Array:
        """[B, f N] to [B, N]."""
        p = self.parameters
        width = self.told.shape[0]
        hidden = self.told
        for number, feature in enumerate(np.split(features, self.features, axis=1)):
            hidden = feature[..., None] * p["first"][:, number] + hidden
        hidden = np.maximum(hidden, 0)
        for weight, bias in zip(p["inner"], p["inner_bias"], strict=True):
            pooled = np.concatenate([hidden.mean(axis=1), hidden.max(axis=1)], axis=-1)
            common = pooled @ weight[:, width:].T + bias
            hidden = np.maximum(hidden @ weight[:, :width].T + common[:, None], 0)
        logits: Array = hidden @ p["last"][0] + p["last_bias"]
        return logits
