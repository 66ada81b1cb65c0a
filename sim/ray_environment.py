"""What the environment says before Ray is imported, which reads it then."""

import atexit
import os
import tempfile
from functools import cache
from pathlib import Path


def prepare_environment(own: bool) -> None:
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

    handle, name = tempfile.mkstemp(prefix="equiran-token-", dir=short_tmp())
    with os.fdopen(handle, "w") as file:
        file.write(token_hex(32))
    atexit.register(Path(name).unlink, missing_ok=True)
    return Path(name)


def short_tmp() -> str:
    """Ray's sockets live below its folder, and a socket's path has at most 107 characters."""
    return "/tmp" if Path("/tmp").is_dir() else tempfile.gettempdir()
