"""One Ray for all tests of this folder that run in this process: a start costs seconds."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

import runs
import sim.runner
from sim.cluster import Cluster
from sim.recorder import Result

Run = Callable[..., Result]


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    with Cluster.start(None) as nodes:
        yield nodes


@pytest.fixture
def run_on_ray(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`runs.run`, with every transport at hand."""
    monkeypatch.setattr(sim.runner, "_cluster", lambda _address: nullcontext(cluster))

    def run(folder: Path, tree: runs.Tree, transport: str | None = None) -> Result:
        return runs.run(folder, tree, transport)

    return run
