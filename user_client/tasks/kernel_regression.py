"""Sinusoidal regression on polynomial features (maths.md A3): x = mu(tau), y = f(tau) + noise."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from user_client import config as settings
from user_client.tasks.base import Job, Loss, Place, held_out

Array = NDArray[np.float64]
Stream = Callable[[Array, "_Round"], Array]


def polynomial3(tau: NDArray[np.floating]) -> NDArray[np.floating]:
    """mu(tau) = [1, tau, tau^2, tau^3]: tau [...] to [..., 4], in the same dtype."""
    return np.stack([np.ones_like(tau), tau, tau * tau, tau * tau * tau], axis=-1)


class KernelRegression:
    """One user's stream: x = mu(tau) [B, 4] with tau ~ U[0, 1], y [B]; float64, no validation set.

    A round is drawn at once from (seed, round); the current round is kept.
    """

    input_shape: tuple[int, ...] = (4,)
    dtype = torch.float64
    validation_batch = 0
    outputs = 1
    loss: Loss = "squared"

    def __init__(self, config: settings.KernelRegression, place: Place) -> None:
        self.batch = config.batch + held_out(config)
        self._config = config
        self._place = place
        self._stream = _STREAMS[config.stream]
        self._round = -1
        self._jobs: list[Job] = []

    def job(self, round_: int, slot: int) -> Job:
        """x [B, 4], y [B] of this slot."""
        if round_ != self._round:
            self._jobs = self._draw(round_)
            self._round = round_
        return self._jobs[slot]

    def validation(self, round_: int) -> Job:
        """Raises ValueError: this task has no validation set."""
        raise ValueError(f"kernel_regression has no validation set (round {round_})")

    def _draw(self, round_: int) -> list[Job]:
        own = default_rng([self._place.seed, round_])
        tau = own.uniform(size=(self._place.slots, self.batch))
        shared = default_rng([self._place.shared_seed, round_])
        y = self._stream(tau, _Round(self._place.index, self._config, own, shared))
        x = torch.from_numpy(polynomial3(tau)).unbind()
        return list(map(Job, x, torch.from_numpy(y).unbind()))


_SINE = ((1.0, 0.2), (1.0, 1.0), (np.pi / 3, 0.01))
_COSINE = ((0.6, 0.5), (0.75, 1.0), (np.pi / 4, 0.01))
"""Mean and standard deviation of A, omega, phi, drawn by each user once per round."""


class _Round(NamedTuple):
    """What a user draws a round from: its own generator, and one that all users share."""

    user: int
    config: settings.KernelRegression
    own: Generator
    shared: Generator

    def draw(self, rng: Generator, mean: float, deviation: float) -> float:
        """A parameter of the round, the less spread the more similar rounds are."""
        return float(rng.normal(mean, deviation * (1 - self.config.similarity)))

    def angle(self, tau: Array, omega: float, phi: float) -> Array:
        """[m, B]: omega tau + phi, whose phase moves by `drift` from the first slot to the last."""
        return omega * tau + phi + np.linspace(0, self.config.drift, len(tau))[:, None]


def _sinusoid(tau: Array, round_: _Round) -> Array:
    wave, laws = (np.sin, _SINE) if round_.user % 2 == 0 else (np.cos, _COSINE)
    amplitude, omega, phi = (round_.draw(round_.own, mean, deviation) for mean, deviation in laws)
    clean: Array = amplitude * wave(round_.angle(tau, omega, phi))
    return clean + round_.own.normal(0.05, 0.1, tau.shape)


def _conflict(tau: Array, round_: _Round) -> Array:
    omega, phi = round_.draw(round_.shared, 1.0, 0.3), round_.draw(round_.shared, np.pi / 3, 0.1)
    amplitude = 1.5 if round_.user == 0 else -0.75
    clean: Array = amplitude * np.sin(round_.angle(tau, omega, phi))
    return clean + round_.own.normal(0.0, 0.1, tau.shape)


def _half(tau: Array, round_: _Round) -> Array:
    odd = round_.user % 2
    amplitude = round_.draw(round_.shared, 1.0, 0.2) * (-0.5 if odd else 1.0)
    coins = round_.own.choice([-1.6, 1.6], tau.shape)
    second_half = 2 * np.arange(len(tau)) >= len(tau)
    noise: Array = coins * (second_half == odd)[:, None]
    clean: Array = amplitude * np.sin(round_.angle(tau, 1.2, np.pi / 3))
    return clean + noise


_STREAMS: dict[str, Stream] = {"sinusoid": _sinusoid, "conflict": _conflict, "half": _half}
