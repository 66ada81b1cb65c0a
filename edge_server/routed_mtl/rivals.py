"""The schemes, each built from one design: the routed network, and its rivals under the same trunk and budget."""

from collections.abc import Callable

import torch
from torch import Tensor

from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.equivariant import DeepSet, set_code
from edge_server.routed_mtl.masks import Router
from edge_server.routed_mtl.networks import TaskNetwork, Trunk, mask_bits
from edge_server.routed_mtl.streams import torch_stream
from edge_server.routed_mtl.tasks import Tasks

Network = TaskNetwork | DeepSet


def build_network(tasks: Tasks, design: Design) -> Network:
    """The network of `design.scheme` for these tasks, on the CPU, from `design.seed` alone.

    Raises ValueError when a task has more users than `design.places`.
    """
    if tasks.max_users > design.places:
        raise ValueError(f"design: {design.places} places, but a task has {tasks.max_users} users; raise places")
    return _BUILDERS[design.scheme](tasks, design)


def _routed(tasks: Tasks, design: Design) -> TaskNetwork:
    trunk = Trunk(_inputs(tasks, design), design.places, torch_stream(design.seed, "bdnn"))
    router = Router(len(tasks), mask_bits(trunk), torch_stream(design.seed, "rdnn"))
    return TaskNetwork(trunk, len(tasks), router, skip=design.skip, hard_forward=design.straight_through)


def _single(tasks: Tasks, design: Design) -> TaskNetwork:
    stream = torch_stream(design.seed, "bdnn")
    trunk = Trunk(_inputs(tasks, design), design.places, stream, copies=len(tasks))
    return TaskNetwork(trunk, len(tasks), skip=design.skip)


def _naive(tasks: Tasks, design: Design) -> TaskNetwork:
    return _told(tasks, design, _index(tasks, design))


def _zero_padding(tasks: Tasks, design: Design) -> TaskNetwork:
    present = tasks.presence(design.places).to(torch.float32)
    return _told(tasks, design, torch.cat([present, _index(tasks, design)], dim=1))


def _told(tasks: Tasks, design: Design, code: Tensor) -> TaskNetwork:
    inputs = _inputs(tasks, design) + code.shape[1]
    trunk = Trunk(inputs, design.places, torch_stream(design.seed, "bdnn"))
    return TaskNetwork(trunk, len(tasks), code=code, skip=design.skip)


def _inputs(tasks: Tasks, design: Design) -> int:
    return design.places * _per_user(tasks)


def _per_user(tasks: Tasks) -> int:
    return 2 if tasks.payloads else 1


def _index(tasks: Tasks, design: Design) -> Tensor:
    if design.index == "one_hot":
        return torch.eye(len(tasks))
    return torch.arange(len(tasks), dtype=torch.float32).unsqueeze(1)


def _equivariant(tasks: Tasks, design: Design) -> DeepSet:
    of_task = {task: number for number, (_, members) in enumerate(tasks.groups) for task in members}
    problems = [of_task[task] for task in range(len(tasks))]
    rows = [set_code(problems[i], len(tasks.groups), task.users) for i, task in enumerate(tasks)]
    stream = torch_stream(design.seed, "deep_set")
    return DeepSet(torch.tensor(rows), torch.tensor(problems), stream, design.skip, features=_per_user(tasks))


_BUILDERS: dict[str, Callable[[Tasks, Design], Network]] = {
    "routed": _routed,
    "single": _single,
    "naive": _naive,
    "zero_padding": _zero_padding,
    "equivariant": _equivariant,
}
