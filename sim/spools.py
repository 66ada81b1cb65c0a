"""Float64 arrays that grow round by round on disk, and can be cut back to an earlier round."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np

from edge_server.record import Floats


class SpoolDamaged(Exception):
    """A spool is not what the run that goes on from it left; one line."""


class Spool:
    """One file of little-endian float64 numbers, `per_round` of them for every round.

    rounds: how many are kept of what is there. Raises SpoolDamaged when there are fewer.
    """

    def __init__(self, path: Path, per_round: int, rounds: int = 0):
        self._path, self._per_round = path, per_round
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = 8 * per_round * rounds
        if (there := path.stat().st_size if path.exists() else 0) < kept:
            raise SpoolDamaged(f"{path} has {there:,} bytes, {rounds} rounds need {kept:,}; run the scenario again")
        self._file = path.open("r+b" if rounds else "w+b")
        self._file.truncate(kept)
        self._hash = sha256()
        for chunk in self.chunks():
            self._hash.update(chunk)

    def append(self, values: Floats) -> None:
        """One round's numbers, `per_round` of them in all."""
        data = np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes()
        self._hash.update(data)
        self._file.write(data)

    @property
    def name(self) -> str:
        """Of its file."""
        return self._path.name

    def sha256(self) -> bytes:
        """Of all that was appended."""
        return self._hash.digest()

    def require(self, digest: bytes) -> None:
        """Raises SpoolDamaged unless what is there is what had this SHA-256."""
        if digest != self.sha256():
            raise SpoolDamaged(f"{self._path} is damaged: its SHA-256 is not the one it had; run the scenario again")

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
