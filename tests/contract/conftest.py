"""One Ray for all tests of this folder that run in this process: a start costs seconds."""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

import runs
import sim.runner
from sim.caller import Result, Watcher
from sim.cluster import Cluster

Run = Callable[..., Result]


@pytest.fixture(scope="package")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder whose modules can be imported here, and on Ray, which takes our environment at its start."""
    folder = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        yield folder


@pytest.fixture(scope="package")
def cluster(parts: Path) -> Iterator[Cluster]:
    with Cluster.start(None) as nodes:
        yield nodes


@pytest.fixture
def run_on_ray(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`runs.run`, with every transport at hand."""
    monkeypatch.setattr(sim.runner, "_cluster", lambda _address: nullcontext(cluster))

    def run(folder: Path, tree: runs.Tree, transport: str | None = None, watcher: Watcher | None = None) -> Result:
        return runs.run(folder, tree, transport, watcher)

    return run
