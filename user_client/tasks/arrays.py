"""Your own data: one .npz file per user (contract.md)."""

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from user_client import config as settings
from user_client.tasks.base import Job, Loss, Place
from user_client.tasks.kernel_regression import polynomial3

Array = NDArray[Any]
Shape = tuple[int, ...]

_MAX_CLASSES = 65_536


class Arrays:
    """x [T, m, B, ...], y [T, m, B], and x_val [T, V, ...], y_val [T, V] if there are; the numeric type is x's.

    With `features: polynomial3`, x [T, m, B] is tau and the jobs hold mu(tau) [B, 4].
    Raises FileNotFoundError, or ValueError that names the array and the index.
    """

    dtype: torch.dtype

    def __init__(self, config: settings.Arrays, place: Place) -> None:
        self.loss: Loss = config.loss
        self._path = place.folder / config.path
        arrays = _load(self._path)
        self._check(arrays, config, place)
        self._x, self._y = self._tensors(arrays, config, "")
        self._validation = self._tensors(arrays, config, "_val") if "x_val" in arrays else None
        self.input_shape: Shape = tuple(self._x.shape[3:])
        self.dtype = self._x.dtype
        self.batch = int(self._x.shape[2])
        self.validation_batch = int(self._validation[0].shape[1]) if self._validation else 0
        self.outputs = 1 if config.loss == "squared" else self._classes()

    def job(self, round_: int, slot: int) -> Job:
        """x [B, ...], y [B] of this slot."""
        return Job(self._x[round_, slot], self._y[round_, slot])

    def validation(self, round_: int) -> Job:
        """x_val [V, ...], y_val [V] of this round. Raises ValueError when the file has none."""
        if self._validation is None:
            raise ValueError(f"{self._path} has no x_val (round {round_})")
        x, y = self._validation
        return Job(x[round_], y[round_])

    def _classes(self) -> int:
        labels = [self._y] + ([self._validation[1]] if self._validation else [])
        return max(int(y.max()) for y in labels) + 1

    def _tensors(self, arrays: dict[str, Array], config: settings.Arrays, suffix: str) -> tuple[Tensor, Tensor]:
        x, y = arrays[f"x{suffix}"], arrays[f"y{suffix}"]
        if config.features == "polynomial3":
            x = polynomial3(x)
        kind = x.dtype if config.loss == "squared" else np.dtype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y.astype(kind, order="C"))

    def _check(self, arrays: dict[str, Array], config: settings.Arrays, place: Place) -> None:
        for name in ("x", "y"):
            if name not in arrays:
                raise ValueError(f"{self._path} has no array {name}")
        if ("x_val" in arrays) != ("y_val" in arrays):
            raise ValueError(f"{self._path} must have both x_val and y_val, or neither")
        for suffix, rank in (("", 3), ("_val", 2)):
            if f"x{suffix}" in arrays:
                self._check_pair(arrays, config, suffix, rank)
        self._check_extent("x", "rounds", arrays["x"].shape[0], place.rounds)
        self._check_extent("x", "slots", arrays["x"].shape[1], place.slots)
        if "x_val" in arrays:
            self._check_extent("x_val", "rounds", arrays["x_val"].shape[0], place.rounds)
            self._check_alike(arrays["x"], arrays["x_val"])

    def _check_pair(self, arrays: dict[str, Array], config: settings.Arrays, suffix: str, rank: int) -> None:
        (x_name, x), (y_name, y) = ((f"{name}{suffix}", arrays[f"{name}{suffix}"]) for name in "xy")
        self._check_rank(x_name, x, rank, config.features)
        if y.shape != x.shape[:rank]:
            self._refuse(y_name, f"has shape {list(y.shape)}, {x_name} needs {list(x.shape[:rank])}")
        self._check_numbers(x_name, x)
        if config.loss == "squared":
            self._check_numbers(y_name, y)
        else:
            self._check_labels(y_name, y)

    def _check_rank(self, name: str, x: Array, rank: int, features: str) -> None:
        axes = "T, m, B" if rank == 3 else "T, V"
        if features == "polynomial3" and x.ndim != rank:
            self._refuse(name, f"has shape {list(x.shape)}, polynomial3 needs tau [{axes}]")
        if features == "none" and x.ndim <= rank:
            self._refuse(name, f"has shape {list(x.shape)}, needs [{axes}, ...] with at least one feature axis")
        if 0 in x.shape:
            self._refuse(name, f"is empty: shape {list(x.shape)}")

    def _check_numbers(self, name: str, values: Array) -> None:
        if values.dtype not in (np.float32, np.float64):
            self._refuse(name, f"has dtype {values.dtype}, needs float32 or float64")
        self._refuse_first(name, values, ~np.isfinite(values.astype(np.float64, copy=False)), "must be finite")

    def _check_labels(self, name: str, labels: Array) -> None:
        if labels.dtype.kind not in "iu":
            self._refuse(name, f"has dtype {labels.dtype}, cross_entropy needs integer classes")
        numbers = labels.astype(np.int64)
        outside = (numbers < 0) | (numbers >= _MAX_CLASSES)
        self._refuse_first(name, labels, outside, f"classes are 0 to {_MAX_CLASSES - 1}")

    def _refuse_first(self, name: str, values: Array, bad: NDArray[np.bool_], rule: str) -> None:
        if bad.any():
            index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
            self._refuse(f"{name}{list(index)}", f"is {values[index]}, {rule}")

    def _check_extent(self, name: str, what: str, has: int, needs: int) -> None:
        if has < needs:
            self._refuse(name, f"has {has} {what}, the scenario needs {needs}")

    def _check_alike(self, x: Array, x_val: Array) -> None:
        if x_val.dtype != x.dtype or x_val.shape[2:] != x.shape[3:]:
            shown = f"{x_val.dtype} samples {list(x_val.shape[2:])}, x has {x.dtype} {list(x.shape[3:])}"
            self._refuse("x_val", f"has {shown}")

    def _refuse(self, name: str, why: str) -> None:
        raise ValueError(f"{self._path}: {name} {why}")


def _load(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if not is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = [name for name in ("x", "y", "x_val", "y_val") if name in archive.files]
            return {name: archive[name] for name in names}
    except (BadZipFile, EOFError, OSError, ValueError, zlib.error) as error:
        raise ValueError(f"{path} is not an .npz file of plain arrays: {error}") from error
