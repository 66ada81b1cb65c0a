"""Ray, brought up here or reached at an address: what its environment must say before, and what must not stay."""

import atexit
import importlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import joblib

from sim.litter import HELD, RAY, TOKEN, hold, short_tmp, sweep
from sim.reach import ClusterError, require_reachable

_SOON = {
    "RAY_raylet_client_connect_timeout_milliseconds": "50",
    "RAY_raylet_client_num_connect_attempts": "200",
}
"""Every other start a raylet looks for its object store a moment too early, and would look again after a second; ten
seconds in all, as before."""


@contextmanager
def ray_up(address: str | None) -> Iterator[None]:
    """While it is entered Ray is up, at `address` or on this machine alone. Raises ClusterError."""
    if address:
        require_reachable(address)
    _refuse_another()
    folder = None if address else _own_folder()
    _prepare_environment(own=address is None)
    ray = ray_itself()
    try:
        with _sigterm_as_it_is():
            _init(ray, address, folder and folder.path)
        yield
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder.path, ignore_errors=True)
            os.close(folder.held)


def ray_itself() -> Any:
    """Ray, imported once its environment is ready: it reads it while it is imported."""
    return importlib.import_module("ray")


class _Folder(NamedTuple):
    """Of a Ray of our own. held: says that it is in use."""

    path: Path
    held: int


def _refuse_another() -> None:
    """A notebook may have a Ray of its own, which leaving ours would shut down."""
    if "ray" in sys.modules and ray_itself().is_initialized():
        raise ClusterError("Ray is already up in this process: call ray.shutdown() before a run on Ray")


def _own_folder() -> _Folder:
    sweep(Path(short_tmp()))
    path = Path(tempfile.mkdtemp(prefix=RAY, suffix=HELD, dir=short_tmp()))
    return _Folder(path, hold(path))


def _prepare_environment(own: bool) -> None:
    """No usage statistics; for a Ray of our own, workers as nice as we are, and a token."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # Ray prints on stdout, which belongs to --json
    if own:
        os.environ.setdefault("RAY_worker_niceness", "0")
        for name, value in _SOON.items():
            os.environ.setdefault(name, value)
        if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(_token_file())
        if "ray" in sys.modules:
            _read_again()


def _read_again() -> None:
    """Ray was imported before its environment was ready, and goes by what it read then."""
    raylet = importlib.import_module("ray._raylet")
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


@cache
def _token_file() -> Path:
    """A token for this process's own clusters, readable by this user alone, gone when the process ends."""
    from secrets import token_hex

    handle, name = tempfile.mkstemp(prefix=TOKEN, suffix=HELD, dir=short_tmp())
    hold(Path(name))
    with os.fdopen(handle, "w") as file:
        file.write(token_hex(32))
    atexit.register(Path(name).unlink, missing_ok=True)
    return Path(name)


def _init(ray: Any, address: str | None, folder: Path | None) -> None:
    here: dict[str, Any] = {"include_dashboard": False, "_temp_dir": str(folder), "num_cpus": joblib.cpu_count()}
    try:
        ray.init(
            address=address or "local",
            configure_logging=False,
            log_to_driver=False,
            **({} if address else here),
        )
    except Exception as error:  # a bare one where its node takes too long
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
