"""Recorded gains from a file."""

import zlib
from pathlib import Path
from zipfile import BadZipFile, is_zipfile

import numpy as np

from edge_server.radio.gains import Trace


def read_trace(path: Path, rounds: int, slots: int, users: int) -> Trace:
    """Array `gain` [>= T, m, K] of an .npz file. Raises ValueError, naming the array and the index at fault."""
    if path.exists() and not is_zipfile(path):
        raise ValueError(f"{path}: is not an .npz file")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = arrays["gain"]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except KeyError:
        raise ValueError(f"{path}: has no array `gain`") from None
    except (OSError, ValueError, EOFError, TypeError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read as .npz: {error}") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise ValueError(f"{path}: `gain` must hold real numbers, |h|^2, not {getattr(found, 'dtype', 'raw bytes')}")
    gain = found.astype(np.float64)
    if gain.ndim != 3 or gain.shape[1:] != (slots, users) or gain.shape[0] < rounds:
        need = f"[at least {rounds} rounds, {slots} slots, {users} users]"
        raise ValueError(f"{path}: `gain` is {list(gain.shape)}, the run needs {need}")
    if (bad := np.argwhere(~((gain > 0) & np.isfinite(gain)))).size:
        at = [int(i) for i in bad[0]]
        raise ValueError(f"{path}: `gain` at {at} (round, slot, user) is {gain[tuple(at)]:g}; gains are above 0")
    return Trace(gain[:rounds])
