"""Where the edge's encoder is: beside the messages, or on a GPU, to which a slot goes in one block each way."""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

PerUser = list[Tensor | None]
"""One entry per user in scenario order; None for an absent user."""


class NoDevice(ValueError):
    """torch has no such device here; one line."""


def require_device(device: str) -> None:
    """Raises NoDevice unless `device` is `cpu`, or a GPU (`cuda`, `cuda:N`) that torch sees."""
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise NoDevice(f"device is {device!r}, but torch sees no GPU here; use 'cpu'")
    if (torch.device(device).index or 0) >= (seen := torch.cuda.device_count()):
        raise NoDevice(f"device is {device!r}, but torch sees {seen} of them here, counted from 0")


def repeat_on_gpu() -> None:
    """From now on this process uses the same kernels each time, with whole float32: equal inputs give equal bits.

    Before the first kernel: cuBLAS reads its setting once. An operation that has no such kernel raises RuntimeError.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # stubs lack it


class Staging:
    """The way from messages to the encoder and back; on the CPU there is none.

    To a GPU, blocks wait in pinned memory of torch's own cache, which takes it back when nobody reads it any more.
    """

    def __init__(self, device: str):
        """Raises NoDevice."""
        require_device(device)
        self._device = torch.device(device)
        self._here = device == "cpu"
        if not self._here:
            repeat_on_gpu()

    def up(self, blocks: Sequence[Tensor]) -> Tensor:
        """All rows [N, ...] of one or more blocks [B_k, ...], where the encoder is."""
        if self._here:
            return blocks[0] if len(blocks) == 1 else torch.cat([*blocks])
        rows, first = sum(len(block) for block in blocks), blocks[0]
        staged = torch.empty(rows, *first.shape[1:], dtype=first.dtype, pin_memory=True)
        torch.cat([*blocks], out=staged)
        return staged.to(self._device, non_blocking=True)

    def each(self, blocks: Sequence[Tensor | None]) -> PerUser:
        """Every block by itself, where the encoder is; they travel as one."""
        given = [block for block in blocks if block is not None]
        if self._here or not given:
            return [*blocks]
        moved = iter(self.up(given).split_with_sizes([len(block) for block in given]))
        return [None if block is None else next(moved) for block in blocks]

    def down(self, rows: Tensor) -> Tensor:
        """`rows` where messages are made of them; waits for them."""
        if self._here:
            return rows
        return torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True).copy_(rows)
