"""How split learning is done elsewhere: an encoder copy per user, and two unary calls per slot, each waited for.

Nobody waits for other users: calls are answered in turn as they come, on one thread as at the edge, and the copies are
averaged at the end of a round, off the clock. What is not that method's is as lean as ours: the same messages, heads
and data. Its hosts do not yield to it, as ours do to the edge: priorities are the system's.

Run as a module this is the server, or a host of some users.
"""

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, NamedTuple

import grpc
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_server.encoders import build_encoder
from protos import edge_pb2 as pb
from protos.tensors import Spec, pack, unpack
from sim.allocator import keep_buffers, keep_objects
from sim.bench.process import Worker, answer, listen
from sim.blueprint import Blueprint, place
from sim.local import LOOPBACK
from sim.recipe import from_recipe
from sim.seeds import stream_seed
from user_client.user import User

_SERVICE = "equiran.bench.Peer"
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
]


class _Copy:
    """One user's encoder: the outputs of a call wait for the gradient of the next."""

    def __init__(self, design: Blueprint, k: int, step: float):
        scenario, user = design.scenario, design.plan.users[k]
        seed = stream_seed(scenario.seed, "encoder")
        self.encoder = build_encoder(scenario.edge.encoder, user.feature_shape, user.dtype, seed)
        self._descent = torch.optim.SGD(self.encoder.parameters(), lr=step)
        self._features, self._gradient = user.features, user.gradient
        self._outputs = torch.empty(0)

    def forward(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        """Features for outputs."""
        said, told = pb.UserMessage.FromString(request).features, pb.EdgeMessage()
        self._outputs = self.encoder(unpack(said.features, self._features))
        told.outputs.key.CopyFrom(said.key)
        pack(self._outputs, told.outputs.outputs)
        return told.SerializeToString()

    def backward(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        """The outputs' gradient for an acknowledgement, when the step is taken."""
        said, told = pb.UserMessage.FromString(request).feedback, pb.EdgeMessage()
        self._descent.zero_grad()
        torch.autograd.backward(self._outputs, unpack(said.gradient, self._gradient))
        self._descent.step()
        told.acknowledgement.key.CopyFrom(said.key)
        return told.SerializeToString()


@torch.no_grad()
def _average(copies: list[_Copy]) -> None:
    for together in zip(*(copy.encoder.parameters() for copy in copies), strict=True):
        mean = torch.stack([*together]).mean(0)
        for parameter in together:
            parameter.copy_(mean)


def _serve(design: Blueprint, step: float) -> None:
    """One line is answered when a round is over, and its copies are averaged."""
    copies = [_Copy(design, k, step) for k in range(len(design.plan.users))]
    calls = {
        f"{name}{k}": grpc.unary_unary_rpc_method_handler(getattr(copy, name.lower()))
        for k, copy in enumerate(copies)
        for name in ("Forward", "Backward")
    }
    threads = design.scenario.threads.edge
    pool = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))
    server = grpc.server(pool, options=_OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, calls),))
    address = f"{LOOPBACK}:{server.add_insecure_port(f'{LOOPBACK}:0')}"
    server.start()
    keep_objects()
    answer({"address": address})
    while listen():
        _average(copies)
        answer("averaged")
    server.stop(1.0).wait()


class _Client:
    """One user that makes its calls one after the other."""

    def __init__(self, design: Blueprint, k: int, channel: grpc.Channel):
        self._user = User(design.scenario.users[k], place(design.scenario, k), design.output_shape)
        self._slots, self._outputs = design.plan.slots, design.plan.users[k].outputs
        call: Any = channel.unary_unary
        self._forward, self._backward = call(f"/{_SERVICE}/Forward{k}"), call(f"/{_SERVICE}/Backward{k}")

    def round(self, t: int) -> tuple[list[float], list[float]]:
        """When each of its slots was over, and their losses."""
        over, losses = [], []
        for i in range(self._slots):
            losses.append(self._slot(pb.Key(round=t, slot=i)))
            over.append(perf_counter())
        return over, losses

    def _slot(self, key: pb.Key) -> float:
        request = pb.UserMessage()
        request.features.key.CopyFrom(key)
        pack(self._user.features(key.round, key.slot), request.features.features)
        given = self._user.feedback(_outputs(self._forward(request.SerializeToString()), self._outputs))
        request = pb.UserMessage()
        request.feedback.key.CopyFrom(key)
        request.feedback.loss = given.loss
        pack(given.gradient, request.feedback.gradient)
        self._backward(request.SerializeToString())
        self._user.apply(None)
        return given.loss


def _outputs(said: bytes, spec: Spec) -> Tensor:
    return unpack(pb.EdgeMessage.FromString(said).outputs.outputs, spec)


def _host(design: Blueprint, users: list[int], address: str) -> None:
    """A round for each line that is told."""
    threads = design.scenario.threads.user
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        clients = [_Client(design, k, channel) for k in users]
        keep_objects()
        answer("ready")
        with ThreadPoolExecutor(len(users), initializer=torch.set_num_threads, initargs=(threads,)) as pool:
            for t in range(design.plan.rounds):
                listen()
                started = perf_counter()
                found = [*pool.map(_Client.round, clients, [t] * len(clients))]
                answer({"started": started, "over": [over for over, _ in found], "loss": [loss for _, loss in found]})


class Block(NamedTuple):
    """seconds [m]: from when all users had ended a slot to when all had ended the next. loss [m, K]."""

    seconds: NDArray[np.float64]
    loss: NDArray[np.float64]


class Peer:
    """The peer's processes as a benchmark sees them. recipe: of the run. hosts: the users of each."""

    def __init__(self, workers: list[Worker], recipe: str, hosts: list[list[int]]):
        """Its processes are added to `workers`."""

        def start(task: dict[str, Any]) -> Worker:
            workers.append(Worker("sim.bench.peer", {"recipe": recipe, **task}))
            return workers[-1]

        self._server = start({})
        address = self._server.hear()["address"]
        self._hosts = [start({"users": users, "address": address}) for users in hosts]
        for host in self._hosts:
            host.hear()

    def block(self) -> Block:
        """One round of everybody."""
        for host in self._hosts:
            host.tell("go")
        said = [host.hear() for host in self._hosts]
        self._server.ask("average")
        over = np.array([user for one in said for user in one["over"]]).max(axis=0)
        losses = np.array([user for one in said for user in one["loss"]])
        return Block(np.diff(over, prepend=min(one["started"] for one in said)), losses.T)

    def end(self) -> None:
        """Nobody calls any more."""
        self._server.tell(0)


def main() -> None:
    """The server or a host, as the first line says."""
    keep_buffers()
    task = listen()
    design, step = from_recipe(task["recipe"])
    if "users" in task:
        _host(design, task["users"], task["address"])
    else:
        _serve(design, step.eta)


if __name__ == "__main__":
    main()
