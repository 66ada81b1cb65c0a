"""Convex sets for models (Theta) and initialisations (X): none, a box, a ball; with exact projections."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Domain(Protocol):
    """A closed convex set around the origin of R^d."""

    def project(self, theta: Tensor) -> Tensor:
        """The nearest point of the set. theta [d], any floating type; returns the same type."""
        ...

    def diameter(self, size: int) -> float:
        """The largest Euclidean distance between two points of the set in R^size; inf when unbounded."""
        ...


@dataclass(frozen=True)
class Free:
    """All of R^d."""

    def project(self, theta: Tensor) -> Tensor:
        """theta [d] itself."""
        return theta

    def diameter(self, size: int) -> float:  # noqa: ARG002 - the protocol's argument
        """Infinite."""
        return math.inf


@dataclass(frozen=True)
class Box:
    """Every coordinate in [-half_width, half_width]."""

    half_width: float

    def __post_init__(self) -> None:
        _check_size("box", self.half_width)

    def project(self, theta: Tensor) -> Tensor:
        """theta [d] with every coordinate clipped."""
        return theta.clamp(-self.half_width, self.half_width)

    def diameter(self, size: int) -> float:
        """2 c sqrt(d)."""
        return 2 * self.half_width * math.sqrt(size)


@dataclass(frozen=True)
class Ball:
    """Euclidean norm at most radius."""

    radius: float

    def __post_init__(self) -> None:
        _check_size("ball", self.radius)

    def project(self, theta: Tensor) -> Tensor:
        """theta [d], scaled back to the sphere when it lies outside."""
        norm = float(torch.linalg.vector_norm(theta, dtype=torch.float64))
        return theta if norm <= self.radius else theta * (self.radius / norm)

    def diameter(self, size: int) -> float:  # noqa: ARG002 - the protocol's argument
        """2 r."""
        return 2 * self.radius


def _check_size(name: str, size: float) -> None:
    if not 0 < size < math.inf:
        raise ValueError(f"domain {name}: its size must be positive and finite, got {size}")
