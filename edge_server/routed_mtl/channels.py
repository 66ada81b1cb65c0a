"""Where gains come from: fading, path loss and shadowing as frozen values. numpy, float64.

A gain is |h|^2, the factor between transmitted and received power: dimensionless, positive. Distances are in m,
decibels are 10 log10. Everything random comes from the generator passed in.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_server.routed_mtl.checks import at_least_one, positive

Array = NDArray[np.float64]

SMALLEST_DRAW = 1e-30
"""In place of the exact zeros that an exponential generator can return."""


class Channel(Protocol):
    """A source of gains, the same law for every user."""

    def gains(self, rng: np.random.Generator, instances: int, users: int) -> Array:
        """|h|^2 [instances, users]. Raises ValueError unless both are at least 1."""
        ...


@dataclass(frozen=True)
class Rayleigh:
    """No line of sight: h ~ CN(0, mean), |h|^2 ~ Exp of mean `mean`; independent over instances and users."""

    mean: float = 1.0

    def __post_init__(self) -> None:
        positive("rayleigh", mean=self.mean)

    def gains(self, rng: np.random.Generator, instances: int, users: int) -> Array:
        """|h|^2 [instances, users]."""
        at_least_one("channel", instances=instances, users=users)
        draws = rng.standard_exponential((instances, users))
        return self.mean * np.maximum(draws, SMALLEST_DRAW)


@dataclass(frozen=True)
class Rician:
    """A line of sight that carries `k_factor` times the power of the scattered paths; mean |h|^2 is `mean`.

    2 (1 + K) |h|^2 / mean is noncentral chi-square with 2 degrees of freedom and noncentrality 2 K. K = 0 is Rayleigh.
    """

    k_factor: float
    mean: float = 1.0

    def __post_init__(self) -> None:
        positive("rician", mean=self.mean)
        if not 0 <= self.k_factor < math.inf:
            raise ValueError(f"rician: k_factor must be finite and at least 0, got {self.k_factor}")

    def gains(self, rng: np.random.Generator, instances: int, users: int) -> Array:
        """|h|^2 [instances, users], independent."""
        at_least_one("channel", instances=instances, users=users)
        scattered = rng.standard_normal((2, instances, users)) * math.sqrt(0.5)
        in_phase = scattered[0] + math.sqrt(self.k_factor)
        return np.asarray(self.mean / (1 + self.k_factor) * (in_phase**2 + scattered[1] ** 2))


@dataclass(frozen=True)
class Jakes:
    """Rayleigh block fading of a moving user: successive instances are successive blocks, correlated by J0.

    doppler: f_D times the block length, dimensionless; E[h_s h_t*] = mean J0(2 pi doppler (s - t)) (Clarke, Jakes).
    paths: scattered waves per user; J0 holds to 1e-4 for each draw of the angles, up to a lag of paths / (9 doppler).
    """

    doppler: float
    mean: float = 1.0
    paths: int = 64

    def __post_init__(self) -> None:
        positive("jakes", mean=self.mean, doppler=self.doppler)
        at_least_one("jakes", paths=self.paths)

    def gains(self, rng: np.random.Generator, instances: int, users: int) -> Array:
        """|h|^2 [instances, users]: blocks 0, 1, .. of each user; each is Exp of mean `mean`, users are independent."""
        at_least_one("channel", instances=instances, users=users)
        return self.waves(rng, users).gains(np.arange(instances, dtype=np.float64))

    def waves(self, rng: np.random.Generator, users: int) -> "Waves":
        """The waves that reach `users` users, for gains at any block without the blocks before it."""
        at_least_one("jakes", users=users)
        offset = rng.uniform(size=(users, 1))
        angle = 2 * math.pi * (np.arange(self.paths) + offset) / self.paths
        scale = math.sqrt(self.mean / (2 * self.paths))
        parts = rng.standard_normal((2, users, self.paths)) * scale
        return Waves(2 * math.pi * self.doppler * np.cos(angle), parts[0] + 1j * parts[1])


@dataclass(frozen=True, eq=False)
class Waves:
    """h(t) = sum_p c_p exp(i omega_p t) for each user, t in blocks.

    omega [users, paths]: Doppler shifts in rad per block, of equally spaced angles of arrival with one random offset.
    c [users, paths]: complex normal, so that h(t) is exactly complex normal for any number of paths.
    """

    omega: Array
    c: NDArray[np.complex128]

    def amplitudes(self, blocks: Array) -> NDArray[np.complex128]:
        """h [T, users], complex, at the times blocks [T]."""
        h = np.zeros((blocks.size, self.c.shape[0]), dtype=np.complex128)
        for omega, c in zip(self.omega.T, self.c.T, strict=True):
            h += c * np.exp(1j * np.multiply.outer(blocks, omega))
        return h

    def gains(self, blocks: Array) -> Array:
        """|h|^2 [T, users] at the times blocks [T]."""
        h = self.amplitudes(blocks)
        return h.real**2 + h.imag**2


@dataclass(frozen=True)
class PathLoss:
    """Mean gain against distance: `reference_db` dB at `reference_m` m, falling by 10 `exponent` dB a decade."""

    exponent: float
    reference_db: float = 0.0
    reference_m: float = 1.0

    def __post_init__(self) -> None:
        positive("path loss", exponent=self.exponent, reference_m=self.reference_m)
        if not math.isfinite(self.reference_db):
            raise ValueError(f"path loss: reference_db must be finite, got {self.reference_db}")

    def gain(self, distance: Array) -> Array:
        """Gain [...], linear, at distance [...] in m. Raises ValueError unless every distance is positive."""
        if not (distance > 0).all():
            raise ValueError(f"path loss: distances must be positive, got {distance.min():g} m")
        return np.asarray(10 ** (self.reference_db / 10) * (distance / self.reference_m) ** -self.exponent)


@dataclass(frozen=True)
class Shadowing:
    """Log-normal shadowing: a factor of X dB with X ~ N(0, sigma_db^2); its median is 1, not its mean."""

    sigma_db: float

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_db < math.inf:
            raise ValueError(f"shadowing: sigma_db must be finite and at least 0, got {self.sigma_db}")

    @property
    def mean(self) -> float:
        """exp(s^2 / 2), s = sigma_db ln(10) / 10."""
        return math.exp((self.sigma_db * math.log(10) / 10) ** 2 / 2)

    def gain(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Independent factors, linear, of this shape."""
        return np.asarray(10 ** (self.sigma_db / 10 * rng.standard_normal(shape)))


@dataclass(frozen=True)
class Cell:
    """Users placed afresh in every instance, uniform over a ring `nearest_m` to `farthest_m` m around the edge.

    A gain is the product of path loss, shadowing and `fading`.
    """

    fading: Channel
    path_loss: PathLoss
    shadowing: Shadowing
    nearest_m: float
    farthest_m: float

    def __post_init__(self) -> None:
        positive("cell", nearest_m=self.nearest_m, farthest_m=self.farthest_m)
        if self.nearest_m >= self.farthest_m:
            raise ValueError(f"cell: nearest_m = {self.nearest_m} must be below farthest_m = {self.farthest_m}")

    def gains(self, rng: np.random.Generator, instances: int, users: int) -> Array:
        """|h|^2 [instances, users]."""
        fading = self.fading.gains(rng, instances, users)
        shadow = self.shadowing.gain(rng, fading.shape)
        return fading * shadow * self.path_loss.gain(self.distances(rng, fading.shape))

    def distances(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Distances in m: P(d <= r) = (r^2 - nearest^2) / (farthest^2 - nearest^2)."""
        near, far = self.nearest_m**2, self.farthest_m**2
        return np.sqrt(near + (far - near) * rng.uniform(size=shape))
