"""The data sets on this machine: where they live, and loaders that check what they read."""

import gzip
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_dir
from torch.nn.functional import interpolate

Bytes = NDArray[np.uint8]

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""The four files of MNIST, uncompressed."""


class Digits(NamedTuple):
    """images [N, 28, 28] uint8, labels [N] uint8 in 0..9."""

    images: Bytes
    labels: Bytes


def data_folder() -> Path:
    """Where data sets are kept: $EQUIRAN_DATA, or `equiran` in the user's cache."""
    return Path(os.environ.get("EQUIRAN_DATA") or user_cache_dir("equiran", appauthor=False))


def mnist_folder() -> Path:
    """Where the four files of MNIST belong."""
    return data_folder() / "mnist"


def mnist_is_here() -> bool:
    """Whether all four files are in `mnist_folder()`."""
    return all((mnist_folder() / name).is_file() for name in MNIST_SHA256)


def require_mnist() -> None:
    """Raises FileNotFoundError that names the command which fetches MNIST."""
    if not mnist_is_here():
        raise FileNotFoundError(f'MNIST is not here: run "equiran data fetch mnist" (looked in {mnist_folder()})')


def mnist() -> Digits:
    """All 70,000 digits: the 60,000 training images, then the 10,000 test images; read once per process.

    Raises FileNotFoundError when they are not here, ValueError when a file is damaged.
    """
    return _mnist(mnist_folder())


@cache
def _mnist(folder: Path) -> Digits:
    require_mnist()
    images = [read_idx(folder / f"{part}-images-idx3-ubyte") for part in ("train", "t10k")]
    labels = [read_idx(folder / f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")]
    return Digits(np.concatenate(images), np.concatenate(labels))


@cache
def bundled() -> Digits:
    """The 1,797 8x8 digits inside scikit-learn, bilinear to 28x28; read once per process.

    The file is read where scikit-learn keeps it: importing scikit-learn takes over a second.
    """
    rows = np.loadtxt(bundled_path(), delimiter=",", dtype=np.float32)
    small = torch.from_numpy(rows[:, :64]).reshape(-1, 1, 8, 8) / 16
    large = interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)[:, 0]
    return Digits((large * 255).round().to(torch.uint8).numpy(), rows[:, 64].astype(np.uint8))


def bundled_path() -> Path:
    """The digits file inside scikit-learn. Raises FileNotFoundError when it is not there."""
    spec = find_spec("sklearn")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0] if folders else "sklearn") / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise FileNotFoundError(f"scikit-learn's digits are not here: {path}; reinstall scikit-learn")
    return path


def read_idx(path: Path) -> Bytes:
    """An IDX file of unsigned bytes, plain or .gz, as an array of the shape its header states.

    Raises ValueError when the header or the length is wrong.
    """
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(data) < 4 or data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * data[3]:
        raise ValueError(f"{path} is not an IDX file of unsigned bytes")
    start = 4 + 4 * data[3]
    shape = [int(side) for side in np.frombuffer(data, ">u4", data[3], 4)]
    if len(data) - start != np.prod(shape, dtype=object):
        raise ValueError(f"{path} holds {len(data) - start} bytes of data, its header says {shape}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
