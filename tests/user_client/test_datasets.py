import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from user_client import datasets


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_idx_reads_back(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    plain, compressed = tmp_path / "a-ubyte", tmp_path / "a-ubyte.gz"
    plain.write_bytes(idx(array))
    compressed.write_bytes(gzip.compress(idx(array)))
    assert np.array_equal(datasets.read_idx(plain), array)
    assert np.array_equal(datasets.read_idx(compressed), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file"),
        (b"\0\0\x0d\1\0\0\0\1" + b"\0" * 4, "is not an IDX file of unsigned bytes"),
        (b"\0\0\x08\3\0\0\0\1", "is not an IDX file"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], r"holds 5 bytes of data, its header says \[2, 3\]"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "holds 0 bytes of data"),
    ],
)
def test_idx_refusals(tmp_path, content, message):
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        datasets.read_idx(path)


def test_bundled_digits_are_scikit_learns():
    digits, reference = datasets.bundled(), load_digits()
    assert digits.images.shape == (1797, 28, 28)
    assert digits.images.dtype == np.uint8
    assert np.array_equal(digits.labels, reference.target)
    centres = (np.arange(28) + 0.5) * 8 / 28 - 0.5
    low = np.clip(np.floor(centres), 0, 7).astype(int)
    high, part = np.clip(low + 1, 0, 7), np.clip(centres, 0, 7) - low
    matrix = np.zeros((28, 8))
    matrix[np.arange(28), low] += 1 - part
    matrix[np.arange(28), high] += part
    exact = matrix @ (reference.images[:50] / 16) @ matrix.T
    np.testing.assert_allclose(digits.images[:50] / 255, exact, atol=0.5 / 255 + 1e-6)


def test_mnist_puts_training_before_test(tmp_path, monkeypatch):
    monkeypatch.setenv("EQUIRAN_DATA", str(tmp_path))
    folder = datasets.mnist_folder()
    folder.mkdir()
    for part, value, count in (("train", 1, 4), ("t10k", 2, 3)):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(np.full((count, 28, 28), value, np.uint8)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.full(count, value, np.uint8)))
    digits = datasets.mnist()
    assert digits.images[:, 0, 0].tolist() == digits.labels.tolist() == [1, 1, 1, 1, 2, 2, 2]
    assert datasets.mnist() is digits


def test_where_data_lives(monkeypatch):
    monkeypatch.setenv("EQUIRAN_DATA", "/somewhere")
    assert datasets.mnist_folder() == Path("/somewhere/mnist")
    monkeypatch.delenv("EQUIRAN_DATA")
    assert datasets.data_folder().name == "equiran"
