"""A download that a later call takes up where the last one stopped."""

import http.client
import shutil
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

CONNECT_SECONDS = 5.0
_BLOCK = 1 << 16
_RANGE_NOT_SATISFIABLE = 416


class FetchError(RuntimeError):
    """A data set could not be fetched; the message says what was tried."""


def download(url: str, target: Path) -> None:
    """Fetches `url` into `target`, after the bytes that are already there.

    Raises OSError (with what came kept in `target`) when the server is silent for 5 s, refuses, or stops early.
    """
    have = target.stat().st_size if target.exists() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urlopen(request, timeout=CONNECT_SECONDS) as response:
            resumed = response.status == http.client.PARTIAL_CONTENT
            with target.open("ab" if resumed else "wb") as file:
                _copy(response, file, response.headers.get("Content-Length"))
    except HTTPError as error:
        error.close()
        if error.code != _RANGE_NOT_SATISFIABLE:
            raise OSError(f"HTTP {error.code} {error.reason}") from error
    except URLError as error:
        raise OSError(str(error.reason)) from error
    except http.client.HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _copy(source: IO[bytes], file: IO[bytes], expected: str | None) -> None:
    start = file.tell()
    shutil.copyfileobj(source, file, _BLOCK)
    came = file.tell() - start
    if expected is not None and came != int(expected):
        raise OSError(f"stopped after {came} of {expected} bytes; run the command again to go on")
