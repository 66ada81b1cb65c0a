"""The referee's meter: what a curious edge could learn, held against the data that only the referee can see."""

from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np
from torch import Tensor

from edge_server.record import Floats, Leaks
from edge_server.referee import Seen
from sim.leaks import direction_likeness, distance_correlation, label_auc, norm_likeness
from user_client.tasks.base import Task

_MEASURES = tuple(field.name for field in fields(Leaks))


class Observed(NamedTuple):
    """A user's stream, rebuilt from its seed. held_out: samples at a batch's end without a gradient.

    identity: the edge's outputs are the user's predictions.
    """

    stream: Task
    held_out: int
    identity: bool


class Meter:
    """Leaks by round and user, from what passes the edge and every user's own samples; users in scenario order."""

    def __init__(self, users: Sequence[Observed]) -> None:
        self._users = users
        self._found: list[list[dict[str, float]]] = [[] for _ in users]
        self._labels: list[list[Floats]] = [[] for _ in users]

    def slot(self, t: int, i: int, seen: Seen) -> None:
        """Slot i of round t, for everybody whose gradient the edge has."""
        for k, (user, z, f, g) in enumerate(zip(self._users, *seen, strict=True)):
            if z is not None and f is not None and g is not None:
                x, y = user.stream.job(t, i)
                trained = len(y) - user.held_out
                gradients, labels = _rows(g)[:trained], y.numpy()[:trained]
                self._found[k].append({"distance_correlation": distance_correlation(_rows(x), _rows(z))})
                if user.stream.loss == "cross_entropy":
                    self._found[k][-1] |= {
                        "norm_auc": label_auc(norm_likeness(gradients), labels),
                        "direction_auc": label_auc(direction_likeness(gradients), labels),
                    }
                elif user.identity:
                    solved = _rows(f)[:trained] - gradients * trained / 2
                    self._labels[k].append(np.stack([solved[:, 0], labels.astype(np.float64)]))

    def take(self) -> Leaks:
        """The means over the round's slots; the error of the labels over all its samples."""
        found = {name: np.array([_mean(slots, name) for slots in self._found]) for name in _MEASURES}
        found["label_error"] = np.array([_label_error(labels) for labels in self._labels])
        self._found = [[] for _ in self._users]
        self._labels = [[] for _ in self._users]
        return Leaks(**found)


def _rows(tensor: Tensor) -> Floats:
    """[B, ...] as [B, n] in float64."""
    return tensor.detach().flatten(1).double().numpy()


def _mean(slots: Sequence[dict[str, float]], name: str) -> float:
    known = [slot[name] for slot in slots if not np.isnan(slot.get(name, np.nan))]
    return float(np.mean(known)) if known else np.nan


def _label_error(found: Sequence[Floats]) -> float:
    """RMS of y' - y in units of the labels' standard deviation, for y' = f - g B / 2; 1: no better than their mean."""
    if not found:
        return np.nan
    solved, labels = np.concatenate(found, axis=1)
    spread = float(labels.std())
    return float(np.sqrt(np.mean((solved - labels) ** 2))) / spread if spread > 0 else np.nan
