"""`bench power --complexity`: Section III-C of routed MTL, measured row by row."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.networks import TaskNetwork, mask_bits
from edge_server.routed_mtl.publishing import fold
from edge_server.routed_mtl.samples import Samples, draw_samples
from edge_server.routed_mtl.tasks import Task, Tasks
from edge_server.routed_mtl.training import Trainer
from sim.bench.machine import machine
from sim.bench.power import ENDLESS, P3, P4, PAPER, routed
from sim.bench.power_reference import NO_CVXPY, conic
from sim.bench.power_scaling import SIZES, inference, policy_for, scaling
from sim.bench.power_sparse import break_even, sparse_rows, trained_density
from sim.bench.power_turns import Effort, medians, one_thread

KINDS = (Tasks.grid([P3, P4], (20,)), PAPER, Tasks.grid([P3, P4], range(1, 21)))
"""K = 2, 14 and 40 tasks."""

INSTANCES = 500
DENSITY_INSTANCES = 5000


class Counts(NamedTuple):
    """Multiplications of one forward pass: of the bDNN per sample, and of the rDNN per task."""

    bdnn: int
    rdnn: int


def report(effort: Effort, note: Callable[[str], None]) -> dict[str, Any]:
    """Every table; `note` is told before each."""
    with one_thread():
        note("training: one routed network beside K single ones")
        training = [training_row(tasks, effort) for tasks in KINDS]
        policy = policy_for(SIZES)
        note("scaling: solvers and networks for N = 5 to 64")
        growth = scaling(policy, effort)
        note("inference: N = 5, 20, 64 and B = 1 to 10,000")
        serving = inference(policy, effort)
        note(f"masks: {effort.steps} steps of stage 1, then dense beside sparse")
        density = trained_density(PAPER, effort.steps, DENSITY_INSTANCES)
        cuts = sparse_rows(effort)
    return {
        "training": training,
        "scaling": growth,
        "inference": serving,
        "sparse": {"trained_density": density, "rows": cuts, "break_even_density": break_even(cuts)},
        "memory": memory(PAPER),
        "note": NO_CVXPY if conic(2) is None else None,
        "machine": machine(),
    }


def training_row(tasks: Tasks, effort: Effort) -> dict[str, Any]:
    """Milliseconds per step of K tasks; `one_by_one` is K trainers of one network each, a step after the other.

    to_*: routed (stage 1) over these. counted: multiplications over those of K single networks, the rDNN once per task
    and step; counted_per_sample: once per sample, the constant T of Section III-C.
    """
    samples = draw_samples(tasks, INSTANCES, 0)
    times = medians(_trainings(tasks, samples), effort)
    counts, batch = counted(tasks), Design.batch
    return {
        "tasks": len(tasks),
        **{f"{name}_ms": 1e3 * seconds for name, seconds in times.items()},
        "to_one_by_one": times["routed"] / times["one_by_one"],
        "to_singles": times["routed"] / times["singles"],
        "counted": 1 + counts.rdnn / (batch * counts.bdnn),
        "counted_per_sample": 1 + counts.rdnn / counts.bdnn,
    }


def _trainings(tasks: Tasks, samples: Samples) -> dict[str, Callable[[], object]]:
    singles = Design(scheme="single", stages=(ENDLESS, 0))
    alone = [Trainer(one, singles, draw_samples(one, INSTANCES, 0)) for one in map(_only, tasks)]
    return {
        "routed": Trainer(tasks, routed(), samples).step,
        "routed_hard": Trainer(tasks, routed((0, ENDLESS)), samples).step,
        "singles": Trainer(tasks, singles, samples).step,
        "one_by_one": lambda: [trainer.step() for trainer in alone],
    }


def _only(task: Task) -> Tasks:
    return Tasks((task,))


def counted(tasks: Tasks) -> Counts:
    """Of a routed network. The rDNN's first layer is read off as a column, so it multiplies nothing."""
    network = _network(Trainer(tasks, routed(), draw_samples(tasks, 1, 0)))
    assert network.router is not None
    return Counts(sum(weight.numel() for weight in network.trunk.weights), network.router.last.numel())


def memory(tasks: Tasks) -> list[dict[str, Any]]:
    """Numbers and bytes of one routed network (in stage 1, then 2) and of K single ones, all tasks in one batch."""
    samples = draw_samples(tasks, INSTANCES, 0)
    designs = {
        "routed, stage 1": routed(),
        "routed, stage 2": routed((0, ENDLESS)),
        "singles": Design(scheme="single", stages=(ENDLESS, 0)),
    }
    return [_memory_row(what, Trainer(tasks, design, samples)) for what, design in designs.items()]


def _memory_row(what: str, trainer: Trainer) -> dict[str, Any]:
    trainer.step()
    network, tasks = _network(trainer), len(trainer.tasks)
    with saved_bytes() as saved:
        trainer.step()
    folded = sum(array.nbytes for array in fold(network, tasks).arrays().values())
    shared = _bytes(network.trunk)
    return {
        "what": what,
        "trained": sum(parameter.numel() for parameter in network.trainable()),
        "state_bytes": sum(value.nbytes for value in trainer.state_dict().values()),
        "saved_bytes": sum(saved.values()),
        "folded_bytes": folded,
        "packed_bytes": shared if network.router is None else shared + tasks * mask_bits(network.trunk) // 8,
    }


@contextmanager
def saved_bytes() -> Iterator[dict[int, int]]:
    """Bytes that autograd keeps of a forward pass for the backward pass, by storage, weights included."""
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield seen


def _network(trainer: Trainer) -> TaskNetwork:
    assert isinstance(trainer.network, TaskNetwork)
    return trainer.network


def _bytes(module: nn.Module) -> int:
    return int(np.sum([parameter.nbytes for parameter in module.parameters()]))
