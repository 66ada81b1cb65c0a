"""Whether masks make inference cheaper: masked layers folded into dense weights, beside sparse ones."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.folded import DenseFunction
from edge_server.routed_mtl.masks import harden
from edge_server.routed_mtl.networks import HIDDEN
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.tasks import Tasks
from edge_server.routed_mtl.training import Trainer
from sim.bench.power_turns import Effort, medians

Array = NDArray[np.float32]

DENSITIES = (1.0, 0.7, 0.5, 0.25, 0.1, 0.05, 0.02)
BATCHES = (1, 1000)
PLACES = 20


def trained_density(tasks: Tasks, steps: int, instances: int) -> dict[str, float]:
    """The share of bits of hardened masks that are 1, by problem, after `steps` steps of stage 1."""
    trainer = Trainer(tasks, Design(stages=(steps, 1)), draw_samples(tasks, instances, 0))
    trainer.train(steps)
    masks = trainer.network.masks
    assert isinstance(masks, torch.Tensor)
    used = harden(masks).mean(1)
    return {problem.name: float(used[list(members)].mean()) for problem, members in tasks.groups}


def sparse_rows(effort: Effort) -> list[dict[str, Any]]:
    """Microseconds per batch of the bDNN with W_2..W_6 cut at random to a density; the rest of the weights are kept."""
    return [_row(density, batch, effort) for batch in BATCHES for density in DENSITIES]


def break_even(rows: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The highest density measured at which a sparse kind beats dense weights, by batch; None: at none of them."""
    found: dict[str, dict[str, float | None]] = {}
    for kind in ("scipy_us", "torch_us"):
        wins = {
            batch: [r["density"] for r in rows if r["batch"] == batch and r[kind] < r["dense_us"]] for batch in BATCHES
        }
        found[kind.removesuffix("_us")] = {str(batch): max(won, default=None) for batch, won in wins.items()}
    return found


@dataclass(frozen=True)
class Cut:
    """The same masked layers in three forms; calls take features [B, 20] and give logits [B, 20]."""

    dense: Callable[[Array], Array]
    scipy: Callable[[Array], Array]
    torch: Callable[[Array], Array]


def cut(density: float, seed: int) -> Cut:
    """The bDNN's layers, W_2..W_6 cut to `density`; biases 0.1."""
    rng = np.random.default_rng(seed)
    weights = [rng.normal(0, 0.3, pair).astype(np.float32) for pair in pairwise((PLACES, *HIDDEN, PLACES))]
    for weight in weights[1:-1]:
        weight *= rng.random(weight.shape) < density
    biases = [np.full(weight.shape[1], 0.1, dtype=np.float32) for weight in weights]
    return Cut(DenseFunction(tuple(weights), tuple(biases)), _scipy(weights, biases), _torch(weights, biases))


def _row(density: float, batch: int, effort: Effort) -> dict[str, Any]:
    layers = cut(density, 0)
    x = np.random.default_rng(1).random((batch, PLACES), dtype=np.float32)
    calls = {name: _bound(getattr(layers, name), x) for name in ("dense", "scipy", "torch")}
    times = medians(calls, effort)
    return {"density": density, "batch": batch} | {f"{name}_us": 1e6 * seconds for name, seconds in times.items()}


def _bound(function: Callable[[Array], Array], x: Array) -> Callable[[], object]:
    return lambda: function(x)


def _scipy(weights: list[Array], biases: list[Array]) -> Callable[[Array], Array]:
    """Columns are samples, so that the sparse matrix stands on the left."""
    first, *inner, last = [np.ascontiguousarray(weight.T) for weight in weights]
    columns = [bias[:, None] for bias in biases]
    layers: list[Any] = [first, *(sparse.csr_array(weight) for weight in inner), last]

    def run(features: Array) -> Array:
        x = features.T
        for layer, bias in zip(layers[:-1], columns[:-1], strict=True):
            x = layer @ x
            x += bias
            np.maximum(x, 0, out=x)
        logits: Array = (layers[-1] @ x + columns[-1]).T
        return logits

    return run


def _torch(weights: list[Array], biases: list[Array]) -> Callable[[Array], Array]:
    columns = [torch.from_numpy(bias[:, None]) for bias in biases]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)  # torch calls CSR a beta
        tensors = [torch.from_numpy(np.ascontiguousarray(weight.T)) for weight in weights]
        layers = [tensors[0], *(tensor.to_sparse_csr() for tensor in tensors[1:-1]), tensors[-1]]

    @torch.inference_mode()
    def run(features: Array) -> Array:
        x = torch.from_numpy(features).T
        for layer, bias in zip(layers[:-1], columns[:-1], strict=True):
            x = (layer @ x).add_(bias).relu_()
        logits: Array = (layers[-1] @ x + columns[-1]).T.numpy()
        return logits

    return run
