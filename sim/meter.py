"""The referee's meter: what a curious edge could learn, held against the data that only the referee can see."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edge_server.record import Floats, Leaks
from edge_server.referee import Seen
from edge_server.state import Flat, OtherShape
from sim.leaks import direction_likeness, distance_correlation, label_auc, norm_likeness
from user_client.tasks.base import Task

_MEASURES = ("norm_auc", "direction_auc", "distance_correlation")
"""Of one slot; `label_error` is of a round."""


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
        self._begin()

    def _begin(self) -> None:
        """_found: the measures [3] of each user's slots. _labels: those solved for, and the true ones [2, B]."""
        self._found: list[list[Floats]] = [[] for _ in self._users]
        self._labels: list[list[Floats]] = [[] for _ in self._users]

    def slot(self, t: int, i: int, seen: Seen) -> None:
        """Slot i of round t, for everybody whose gradient the edge has."""
        for k, (user, z, f, g) in enumerate(zip(self._users, *seen, strict=True)):
            if z is not None and f is not None and g is not None:
                x, y = user.stream.job(t, i)
                trained = len(y) - user.held_out
                gradients, labels = _rows(g)[:trained], y.numpy()[:trained]
                aucs = (np.nan, np.nan)
                if user.stream.loss == "cross_entropy":
                    likenesses = norm_likeness(gradients), direction_likeness(gradients)
                    aucs = label_auc(likenesses[0], labels), label_auc(likenesses[1], labels)
                elif user.identity:
                    solved = _rows(f)[:trained] - gradients * trained / 2
                    self._labels[k].append(np.stack([solved[:, 0], labels.astype(np.float64)]))
                self._found[k].append(np.array([*aucs, distance_correlation(_rows(x), _rows(z))]))

    def take(self) -> Leaks:
        """The means over the round's slots; the error of the labels over all its samples."""
        found = np.array([_means(slots) for slots in self._found])
        label_error = np.array([_label_error(labels) for labels in self._labels])
        self._begin()
        return Leaks(**dict(zip(_MEASURES, found.T, strict=True)), label_error=label_error)

    def state(self) -> Flat:
        """Its notes of the round under way, by user: found [slots, 3], labels [2, samples]."""
        found = {f"{k}.found": np.reshape(slots, (-1, len(_MEASURES))) for k, slots in enumerate(self._found)}
        labels = {f"{k}.labels": np.concatenate([np.empty((2, 0)), *said], 1) for k, said in enumerate(self._labels)}
        return {name: torch.from_numpy(notes) for name, notes in {**found, **labels}.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state` gave. Raises OtherShape where it is of other users."""
        if state.keys() != self.state().keys():
            raise OtherShape(f"state of privacy meters: of {len(state) // 2} users, expected {len(self._users)}")
        users = range(len(self._users))
        self._found = [list(state[f"{k}.found"].numpy()) for k in users]
        self._labels = [[state[f"{k}.labels"].numpy()] for k in users]


def _rows(tensor: Tensor) -> Floats:
    """[B, ...] as [B, n] in float64."""
    return tensor.detach().flatten(1).double().numpy()


def _means(slots: Sequence[Floats]) -> list[float]:
    """Of every measure over the slots that have it."""
    by_measure = np.reshape(slots, (-1, len(_MEASURES))).T
    known = [values[~np.isnan(values)] for values in by_measure]
    return [float(values.mean()) if len(values) else np.nan for values in known]


def _label_error(found: Sequence[Floats]) -> float:
    """RMS of y' - y in units of the labels' standard deviation, for y' = f - g B / 2; 1: no better than their mean."""
    solved, labels = np.concatenate([np.empty((2, 0)), *found], axis=1)
    spread = float(labels.std()) if len(labels) else 0.0
    return float(np.sqrt(np.mean((solved - labels) ** 2))) / spread if spread > 0 else np.nan
