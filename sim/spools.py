"""Float64 arrays that grow round by round on disk, and can be cut back to an earlier round."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_server.record import Floats


class SpoolDamaged(Exception):
    """A spool is shorter than the run that goes on from it; one line."""


class Spool:
    """One file of little-endian float64 numbers, `per_round` of them for every round.

    rounds: how many are kept of what is there. Raises SpoolDamaged when there are fewer.
    """

    def __init__(self, path: Path, per_round: int, rounds: int = 0):
        self._path, self._per_round = path, per_round
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("r+b" if rounds else "w+b")
        kept, there = 8 * per_round * rounds, self._file.seek(0, os.SEEK_END)
        if there < kept:
            self._file.close()
            raise SpoolDamaged(f"{path} has {there:,} bytes, {rounds} rounds need {kept:,}; run the scenario again")
        self._file.truncate(kept)
        self._file.seek(kept)

    def append(self, values: Floats) -> None:
        """One round's numbers, `per_round` of them in all."""
        self._file.write(np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes())

    def sync(self) -> None:
        """What was appended would survive a power cut."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def chunks(self) -> Iterator[bytes]:
        """All bytes, in order."""
        self._file.flush()
        self._file.seek(0)
        while chunk := self._file.read(1 << 20):
            yield chunk

    def array(self, shape: tuple[int, ...]) -> Floats:
        """All rounds [T, ...shape], mapped from the file."""
        self._file.flush()
        rounds = self._path.stat().st_size // (8 * self._per_round)
        if rounds == 0:
            return np.zeros((0, *shape))
        return np.memmap(self._path, np.dtype("<f8"), "r", shape=(rounds, *shape))

    def close(self) -> None:
        """Leaves the file as it is, for a run that may go on."""
        self._file.close()

    def remove(self) -> None:
        """The run is done: nobody goes on from here."""
        self._file.close()
        self._path.unlink(missing_ok=True)
