"""Numbers for JSON, and means of what is known."""

from typing import Any

import numpy as np

from sim.report.columns import Floats, Ints


def mean_of(sums: Floats, known: Ints) -> Floats:
    """sums / known, NaN where nothing is known."""
    mean: Floats = np.divide(sums, known, out=np.full(sums.shape, np.nan), where=known > 0)
    return mean


def known(value: float) -> float | None:
    """None for what is not there."""
    return float(value) if np.isfinite(value) else None


def plain(values: Floats) -> list[Any]:
    """Six digits, null for what is not there."""
    return [plain(row) for row in values] if values.ndim > 1 else [_short(value) for value in values.tolist()]


def _short(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def decibels(gain: Floats) -> Floats:
    """|h|^2 in dB; NaN where nothing comes through."""
    found: Floats = 10 * np.log10(np.where(gain > 0, gain, np.nan))
    return found
