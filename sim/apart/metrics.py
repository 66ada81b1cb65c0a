"""What an edge that serves tells Prometheus: counts and gauges over HTTP, from the rounds and events of its run."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from edge_server.reception import Reception
from edge_server.record import STATUS, Event, Floats, RoundRecord
from sim.apart.common import Address
from sim.caller import RunError, Watcher

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Seconds that a slot may take, for the histogram."""
_BY_USER = ("user", "kind")


class Metrics(Collector):
    """Since this process began; gauges are of the last round. It is told by the run, and asked by another thread."""

    def __init__(self, users: Sequence[str]) -> None:
        self._users, self._lock = [*users], Lock()
        many = len(self._users)
        self._here: set[str] = set()
        self._waiting: Reception | None = None
        self._rounds, self._seconds = 0, 0.0
        self._slots = np.zeros(len(_BOUNDS) + 1, np.int64)
        self._ended = np.zeros((len(STATUS), many), np.int64)
        self._bytes = np.zeros((2, many), np.int64)
        self._events: Counter[tuple[str, str]] = Counter()
        self._fairness = np.nan
        self._utility, self._weight = np.full(many, np.nan), np.full(many, np.nan)

    def told_by(self, watcher: Watcher) -> Watcher:
        """The watcher of a run, which tells this as well."""

        def on_start(name: str, rounds: int) -> None:
            self._begin()
            watcher.on_start(name, rounds)

        def on_round(record: RoundRecord) -> None:
            self.add(record)
            watcher.on_round(record)

        return replace(watcher, on_start=on_start, on_round=on_round, on_event=self.event, on_wait=self.wait)

    def wait(self, reception: Reception) -> None:
        """Before a run, or when it is taken back, those are here who have introduced themselves."""
        with self._lock:
            self._waiting = reception

    def _begin(self) -> None:
        with self._lock:
            self._waiting = None
            self._here.clear()

    def add(self, record: RoundRecord) -> None:
        """One more round."""
        with self._lock:
            self._rounds += 1
            self._slots += np.bincount(np.searchsorted(_BOUNDS, record.t_slot), minlength=len(_BOUNDS) + 1)
            self._seconds += float(record.t_slot.sum())
            self._ended += np.stack([(record.status == code).sum(axis=0) for code in range(len(STATUS))])
            self._bytes += np.stack([record.bytes_up.sum(axis=0), record.bytes_down.sum(axis=0)])
            self._fairness, self._utility, self._weight = record.fairness, record.mean_utility, record.w_mean

    def event(self, event: Event) -> None:
        """Something happened, to a user as a rule."""
        kind, user = str(event["event"]), str(event.get("user", ""))
        with self._lock:
            self._events[user, kind] += 1
            if kind in ("join", "returned", "began_anew"):
                self._here.add(user)
            elif kind == "lost":
                self._here.discard(user)

    def collect(self) -> Iterator[Metric]:
        """As Prometheus reads it."""
        with self._lock:
            return iter([*self._of_the_run(), *self._of_users()])

    def _of_the_run(self) -> Iterator[Metric]:
        here = len(self._here if self._waiting is None else self._waiting.here)
        yield GaugeMetricFamily("equiran_users", "Users of the scenario.", len(self._users))
        yield GaugeMetricFamily("equiran_users_here", "Users whose stream is open; before the run, who came.", here)
        yield CounterMetricFamily("equiran_rounds", "Rounds that are over.", self._rounds)
        yield CounterMetricFamily("equiran_slots", "Slots of those rounds.", int(self._slots.sum()))
        seconds = HistogramMetricFamily("equiran_slot_seconds", "Seconds that a slot took.")
        bounds = [*map(str, _BOUNDS), "+Inf"]
        seconds.add_metric([], [*zip(bounds, np.cumsum(self._slots).tolist(), strict=True)], self._seconds)
        yield seconds
        if np.isfinite(self._fairness):
            yield GaugeMetricFamily("equiran_fairness", "Fairness of the last round.", float(self._fairness))

    def _of_users(self) -> Iterator[Metric]:
        yield self._gauge("equiran_utility", "Mean utility of a user in the last round.", self._utility)
        yield self._gauge("equiran_weight", "Mean weight of a user in the last round.", self._weight)
        ended = CounterMetricFamily("equiran_user_slots", "Slots by how they ended for a user.", labels=_BY_USER)
        self._count(ended, STATUS, self._ended)
        sent = CounterMetricFamily("equiran_bytes", "Bytes of a user's slot messages.", labels=_BY_USER)
        self._count(sent, ("up", "down"), self._bytes)
        events = CounterMetricFamily("equiran_events", "What happened, as in events.jsonl.", labels=_BY_USER)
        for (user, kind), many in self._events.items():
            events.add_metric([user, kind], many)
        yield from (ended, sent, events)

    def _gauge(self, name: str, about: str, values: Floats) -> Metric:
        family = GaugeMetricFamily(name, about, labels=("user",))
        for user, value in zip(self._users, values.tolist(), strict=True):
            if np.isfinite(value):
                family.add_metric([user], value)
        return family

    def _count(self, family: CounterMetricFamily, kinds: Sequence[str], counts: Any) -> None:
        """counts [kinds, K]."""
        for kind, row in zip(kinds, counts.tolist(), strict=True):
            for user, many in zip(self._users, row, strict=True):
                family.add_metric([user, kind], many)


@contextmanager
def published(metrics: Metrics, at: Address) -> Iterator[str]:
    """While inside, they are to be had at the address that it gives. Raises RunError."""
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(at.port, at.host.strip("[]"), registry)
    except OSError as error:
        raise RunError(f"--metrics {at}: {error.strerror}; give another address") from error
    try:
        yield f"http://{at.host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
