"""Numbers below the smallest normal one cost no time, and count as zero everywhere."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import runs
from edge_server.compute import Inline, threads
from edge_server.config import Lenet
from edge_server.encoders import build_encoder


def tree(folder: Path, scale: float) -> runs.Tree:
    """The features of user u1 are `scale` times what they would be, its labels as they were."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 6, 2, 8, 3)).astype(np.float32), rng.normal(size=(2, 6, 2, 8)).astype(np.float32)
    x[:, :, 1] *= np.float32(scale)
    changes = {"edge__encoder": {"kind": "mlp", "hidden": [16], "width": 1}, "edge__primal": {"step": 0.05}}
    return runs.changed(runs.arrays(folder / "data", x, y), **changes)


def test_every_transport_gives_the_same_bits(tmp_path: Path, run_on_ray) -> None:
    found = [run_on_ray(tmp_path, tree(tmp_path, 1e-38), name).digest for name in ("memory", "grpc", "ray")]
    assert found[0] is not None
    assert len({*found}) == 1


@pytest.mark.parametrize("tiny", [1e-38, 1e-40])
def test_a_flood_of_them_takes_no_longer(tiny: float) -> None:
    """It took 40 times as long."""
    encoder = build_encoder(Lenet(kind="lenet", width=50), (1, 12, 12), torch.float32, seed=0)
    plain = torch.randn(50, 1, 12, 12, generator=torch.Generator().manual_seed(0))

    async def seconds(features: torch.Tensor) -> float:
        compute, taken = Inline(1), []
        for _ in range(5):
            started = time.perf_counter()
            outputs = await compute(encoder, features)
            await compute(torch.Tensor.backward, outputs.sum())
            taken.append(time.perf_counter() - started)
        return min(taken)

    assert asyncio.run(seconds(tiny * plain)) < 5 * asyncio.run(seconds(plain))


def test_they_are_flushed_while_something_is_computed_and_not_afterwards(tmp_path: Path) -> None:
    runs.run(tmp_path, runs.kernel(), "grpc")
    tiny = torch.tensor([1e-30])
    assert (tiny * 1e-10).item() > 0
    with threads(1):
        assert (tiny * 1e-10).item() == 0
        with threads(2):
            assert (tiny * 1e-10).item() == 0
        assert (tiny * 1e-10).item() == 0
    assert (tiny * 1e-10).item() > 0
