"""Do the bits of a slot's arithmetic depend on where its tensors lie in memory?

python docs/decisions/measured/alignment.py
"""

import itertools
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy, linear

OFFSETS = range(0, 64, 4)
Work = Callable[[Tensor, Tensor], Tensor]


def _placed(values: Tensor, offset: int) -> Tensor:
    """A copy of `values` that starts `offset` bytes behind a 64-byte boundary."""
    size = values.itemsize
    room = torch.empty(values.numel() + 128 // size, dtype=values.dtype)
    first = (-room.data_ptr() // size) % (64 // size) + offset // size
    placed = room[first : first + values.numel()].view(values.shape)
    assert placed.data_ptr() % 64 == offset
    return placed.copy_(values)


def _differs(work: Work, a: Tensor, b: Tensor) -> int:
    """At how many pairs of offsets the result differs from that at (0, 0)."""
    steps = [offset for offset in OFFSETS if offset % a.itemsize == 0]
    expected = work(_placed(a, 0), _placed(b, 0))
    pairs = itertools.product(steps, steps)
    return sum(not torch.equal(work(_placed(a, i), _placed(b, j)), expected) for i, j in pairs)


def main() -> None:
    """One line per kind of work."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)

    def drawn(dtype: torch.dtype, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    cases: list[tuple[str, Work, tuple[int, ...], tuple[int, ...]]] = [
        ("mean of squares", lambda a, b: ((a - b) ** 2).mean(), (1009,), (1009,)),
        ("x @ theta", torch.matmul, (25, 4), (4, 1)),
        ("features @ W", torch.matmul, (50, 320), (320, 50)),
        ("long dot product", torch.dot, (50_001,), (50_001,)),
        ("odd sizes", torch.matmul, (33, 321), (321, 51)),
        ("linear layer", linear, (25, 50), (10, 50)),
        ("cross-entropy", cross_entropy, (25, 10), (25, 10)),
        ("convolution", conv2d, (8, 3, 28, 28), (10, 3, 5, 5)),
    ]
    for dtype in (torch.float32, torch.float64):
        for name, work, a, b in cases:
            found = _differs(work, drawn(dtype, *a), drawn(dtype, *b))
            pairs = (64 // dtype.itemsize) ** 2
            sys.stdout.write(f"{dtype} {name}: other bits at {found} of {pairs} placements\n")


if __name__ == "__main__":
    main()
