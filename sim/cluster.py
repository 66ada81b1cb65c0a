"""Runs on Ray: it places the edge and the user hosts, watches them and brings the records home.

The only ray file. No tensor of the slot loop goes through Ray; actors are given and give bytes and JSON.
"""

import atexit
import importlib
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import joblib
from safetensors.torch import load, save

from edge_server.judge import RunFailed
from edge_server.state import Flat
from sim import checkpoints
from sim.actors import EdgeActor, HostActor, News
from sim.build import Blueprint
from sim.checkpoints import joined, taken_apart
from sim.local import LOOPBACK, Hooks, Outcome
from sim.placement import shares
from sim.recipe import to_recipe
from sim.step import Step

_POLL = 0.2
"""Seconds between two looks at whether the caller wants to stop."""

_LAST_WORDS = 1.0
"""Seconds to wait for a host's own reason after the edge has lost a user."""


_CONNECT = 5.0
"""Seconds to wait for somebody to listen at a cluster's address."""


class ClusterError(Exception):
    """Ray could not be started or reached; one line."""


class Cluster:
    """A Ray that is up. `local`: started by us, on this machine alone."""

    def __init__(self, local: bool):
        self._local = local

    @classmethod
    @contextmanager
    def start(cls, address: str | None) -> Iterator["Cluster"]:
        """Start Ray here, or reach the one at `address` (or RAY_ADDRESS); on leaving, nothing of ours is left."""
        address = address or os.environ.get("RAY_ADDRESS")
        if address:
            _require_reachable(address)
        folder = None if address else Path(tempfile.mkdtemp(prefix="equiran-ray-", dir=_short_tmp()))
        _prepare_environment(own=address is None)
        ray = _ray()
        try:
            with _sigterm_as_it_is():
                _init(ray, address, folder)
            yield cls(local=address is None)
        finally:
            ray.shutdown()
            if folder:
                shutil.rmtree(folder, ignore_errors=True)

    def run(self, design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
        """All rounds of one run. Raises RunFailed, naming the user or the actor at fault."""
        return _Run(design, step, hooks, self._local).go()


class PlacedEdge(EdgeActor):
    """The edge on whatever node Ray gave it."""

    async def listen_here(self) -> bytes:
        """Start serving on this node's own address. The address for users."""
        address: str = _ray().util.get_node_ip_address()
        return await self.listen(address)


class _Run:
    def __init__(self, design: Blueprint, step: Step, hooks: Hooks, local: bool):
        ray = self._ray = _ray()
        self._hooks = hooks
        recipe = to_recipe(design, step)
        actor = {"num_cpus": 0, "max_restarts": 0, "max_concurrency": 4}
        edge, task, users = _states(design)
        pace = checkpoints.PAUSE, checkpoints.LEAST
        self._edge = ray.remote(PlacedEdge).options(**actor).remote(recipe, edge, task, pace)
        self._local = local
        placed = shares(len(design.plan.users), design.scenario.hosts, self._cores())
        host = ray.remote(HostActor).options(scheduling_strategy="SPREAD", **actor)
        self._hosts = {host.remote(recipe, share, users(share)): f"users {_range(design, share)}" for share in placed}
        self._users, self._patience = len(design.plan.users), design.plan.patience
        self._lives: dict[Any, str] = {}

    def _cores(self) -> int:
        """That this process may use, or that the cluster has."""
        return joblib.cpu_count() if self._local else int(self._ray.cluster_resources().get("CPU", 1))

    def go(self) -> Outcome:
        try:
            listening = self._edge.listen.remote(LOOPBACK) if self._local else self._edge.listen_here.remote()
            address = self._get(listening, "the edge")
            self._prepare()
            self._lives = {host.live.remote(address): name for host, name in self._hosts.items()}
            self._edge.run.remote()
            return self._watch()
        finally:
            for actor in (self._edge, *self._hosts):
                self._ray.kill(actor)

    def _prepare(self) -> None:
        """Wait until every host has built its users: only then does the edge's patience begin."""
        preparing = {host.prepare.remote(): name for host, name in self._hosts.items()}
        for reference, name in preparing.items():
            if failure := self._get(reference, f"the host of {name}"):
                raise RunFailed(failure.decode())

    def _watch(self) -> Outcome:
        """Bring home what the edge tells until it is done; a host that fails ends the run."""
        pending = self._edge.news.remote()
        stopping = False
        while True:
            if self._hooks.stop() and not stopping:
                stopping = True
                self._edge.stop.remote()
            ready, _ = self._ray.wait([pending, *self._lives], num_returns=1, timeout=_POLL)
            for reference in ready:
                if reference is not pending:
                    self._check_host(reference)
                    continue
                news = News.unpack(self._get(pending, "the edge"))
                self._tell(news)
                if news.outcome:
                    return news.outcome
                pending = self._edge.news.remote()

    def _tell(self, news: News) -> None:
        for event in news.events:
            self._hooks.on_event(event)
        for record in news.rounds:
            self._hooks.on_round(record)
        for task in news.tasks:
            if self._hooks.on_task:
                self._hooks.on_task(task)
        if news.boundary and self._hooks.saver:
            round_, edge = news.boundary
            self._hooks.saver.save(round_, lambda: edge, self._users_at(round_))
            self._edge.saved.remote()
        if news.failure:
            raise RunFailed(self._host_failure() or news.failure)

    def _users_at(self, round_: int) -> list[Flat]:
        """Every user's state before this round, in scenario order."""
        asked = {host.kept.remote(round_): name for host, name in self._hosts.items()}
        late = f"did not come to the end of round {round_ - 1} within patience ({self._patience:g} s)"
        self._ray.wait([*asked], num_returns=len(asked), timeout=self._patience + _LAST_WORDS)
        found: Flat = {}
        for reference, name in asked.items():
            if not self._ray.wait([reference], timeout=0)[0] or not (
                data := self._get(reference, f"the host of {name}")
            ):
                raise RunFailed(self._host_failure() or f"{name} {late}")
            found |= load(data)
        return taken_apart(found, self._users)

    def _check_host(self, life: Any) -> None:
        failure = self._get(life, f"the host of {self._lives.pop(life)}")
        if failure:
            raise RunFailed(failure.decode())

    def _host_failure(self) -> str | None:
        """Why a user left, where its host knows better than the edge, which only saw the stream break."""
        lives = [*self._lives]
        ended = self._ray.wait(lives, num_returns=len(lives), timeout=_LAST_WORDS)[0] if lives else []
        failures = [self._get(life, f"the host of {self._lives[life]}") for life in ended]
        return next((failure.decode() for failure in failures if failure), None)

    def _get(self, reference: Any, who: str) -> bytes:
        try:
            data: bytes = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise RunFailed(f"{who} failed: {str(error).strip().splitlines()[-1]}") from error
        except self._ray.exceptions.RayError as error:
            raise RunFailed(f"{who} died: {_in_one_line(error)}") from error
        return data


def _states(design: Blueprint) -> tuple[bytes, bytes, Callable[[list[int]], bytes]]:
    """What the edge, its server task, and the users of a host go on from; empty at the start of a run."""
    state = design.state
    if state is None:
        return b"", b"", lambda _share: b""
    return save(state.edge), state.task or b"", lambda share: save(joined({k: state.users[k] for k in share}))


def _in_one_line(error: Exception) -> str:
    """What Ray says, without its colours; the last line alone where a constructor raised it."""
    text = re.sub(r"\x1b\[\d+m", "", str(error)).strip()
    return text.splitlines()[-1] if "creation task" in text else " ".join(text.split())[:300]


def _ray() -> Any:
    """Ray, imported once its environment is ready: it reads it while it is imported."""
    return importlib.import_module("ray")


def _range(design: Blueprint, share: list[int]) -> str:
    first, last = design.plan.users[share[0]].name, design.plan.users[share[-1]].name
    return repr(first) if first == last else f"{first!r} to {last!r}"


def _init(ray: Any, address: str | None, folder: Path | None) -> None:
    here: dict[str, Any] = {"include_dashboard": False, "_temp_dir": str(folder), "num_cpus": joblib.cpu_count()}
    try:
        ray.init(
            address=address or "local",
            configure_logging=False,
            log_to_driver=False,
            **({} if address else here),
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        what = f"cannot reach Ray at {address}" if address else "cannot start Ray here"
        raise ClusterError(f"{what}: {reason}") from error


@contextmanager
def _sigterm_as_it_is() -> Iterator[None]:
    """Ray's start takes SIGTERM for itself, and would end this process with exit code 15: give it back."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _require_reachable(address: str) -> None:
    """Raises ClusterError where nobody listens on host:port: Ray itself would wait long and then end this process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"cannot reach Ray at {address}: {error}") from error


def _prepare_environment(own: bool) -> None:
    """Before ray is imported: no usage statistics; for a Ray of our own, workers as nice as we are, and a token."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # Ray prints on stdout, which belongs to --json
    if own:
        os.environ.setdefault("RAY_worker_niceness", "0")
        if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(_token_file())


@cache
def _token_file() -> Path:
    """A token for this process's own clusters, readable by this user alone, gone when the process ends."""
    from secrets import token_hex

    handle, name = tempfile.mkstemp(prefix="equiran-token-", dir=_short_tmp())
    with os.fdopen(handle, "w") as file:
        file.write(token_hex(32))
    atexit.register(Path(name).unlink, missing_ok=True)
    return Path(name)


def _short_tmp() -> str:
    """Ray's sockets live below its folder, and a socket's path has at most 107 characters."""
    return "/tmp" if Path("/tmp").is_dir() else tempfile.gettempdir()
