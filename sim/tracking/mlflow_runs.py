"""A run for MLflow: a run there, in the experiment that has the scenario's name."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import time
from typing import Any, TypeVar

from sim.tracking.about import About, Outcome
from sim.tracking.numbers import Told
from sim.tracking.tracker import TrackingFailed

_LONGEST = 500
_PARAMETERS, _METRICS = 100, 1000
"""What MLflow takes: characters of a value, and of each kind at once."""
_STATUS = {"done": "FINISHED", "failed": "FAILED"}
"""How MLflow calls an end; any other is KILLED."""
T = TypeVar("T")


class MlflowRun:
    """A new run at `uri` each time. Raises TrackingFailed, and nothing is said to anybody but `uri`."""

    def __init__(self, uri: str, about: About) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        self._uri, self._about = uri, about
        with self._told():
            from mlflow.entities import Param
            from mlflow.tracking import MlflowClient

            self._client = MlflowClient(uri)
            run = self._client.create_run(self._experiment(), run_name=about.name, tags=about.tags)
            self._run: str = run.info.run_id
            parameters = [Param(key, str(value)[:_LONGEST]) for key, value in about.settings.items()]
            for some in _parts(parameters, _PARAMETERS):
                self._client.log_batch(self._run, params=some)

    def tell(self, rounds: Sequence[Told]) -> None:
        """Metrics by round."""
        self._log((told.round, told.values) for told in rounds)

    def end(self, outcome: Outcome) -> None:
        """Totals as metrics, the digest as a tag, the scenario as an artifact."""
        self._log([(0, {f"summary/{name}": value for name, value in outcome.totals.items()})])
        with self._told():
            self._client.set_tag(self._run, "digest", str(outcome.digest))
            self._client.log_text(self._run, self._about.text, "scenario.yaml")
            self._client.set_terminated(self._run, _STATUS.get(outcome.status, "KILLED"))

    def _log(
        self, rounds: "Iterator[tuple[int, Mapping[str, float]]] | Sequence[tuple[int, Mapping[str, float]]]"
    ) -> None:
        with self._told():
            from mlflow.entities import Metric

            now = int(1000 * time())
            metrics = [Metric(name, value, now, step) for step, values in rounds for name, value in values.items()]
            for some in _parts(metrics, _METRICS):
                self._client.log_batch(self._run, metrics=some)

    def _experiment(self) -> str:
        name = self._about.tags["scenario"]
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong there, in one line."""
        try:
            yield
        except Exception as error:
            why = str(error).strip().splitlines() or [type(error).__name__]
            raise TrackingFailed(f"MLflow at {self._uri}: {why[0][:300]}") from error


def _parts(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]
