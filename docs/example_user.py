"""A user of EquiRAN that shares nothing with ours but the messages of protos/edge.proto: gRPC, numpy, one page.

It sends its inputs x as features, takes outputs as predictions, and keeps its labels y: squared loss, no front or head.
The data are those of `task: {kind: arrays}`. docs/protocol.md says what every message means.

    python docs/example_user.py 127.0.0.1:7700 RUN ann mine/ann.npz
"""

import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue

import grpc
import numpy as np
from numpy.typing import NDArray

from protos import edge_pb2 as pb

PROTOCOL = 3
Array = NDArray[np.float64]


class ExampleUser:
    """x [T, m, B, p], y [T, m, B]: a batch for every slot. x_val [T, V, p], y_val [T, V]: a validation set a round."""

    def __init__(self, run: str, name: str, data: dict[str, Array]) -> None:
        self._run, self._name, self._data = run, name, data
        self._slots = data["x"].shape[1]

    def join(self) -> pb.UserMessage:
        """What a stream begins with."""
        _, _, batch, features = self._data["x"].shape
        sizes = {"dtype": pb.FLOAT64, "feature_shape": [features], "batch": batch}
        join = pb.Join(protocol=PROTOCOL, run=self._run, user=self._name, **sizes)
        join.validation_batch = self._data["x_val"].shape[1]
        return pb.UserMessage(join=join)

    def answer(self, said: pb.EdgeMessage) -> pb.UserMessage | None:
        """The edge drives: each of its messages asks for one of ours, or for none."""
        if said.HasField("outputs"):
            return self._judge(said.outputs)
        if said.HasField("asked"):
            return self._do(said.asked)
        return self._do(getattr(said, said.WhichOneof("kind")).next)

    def _do(self, asked: pb.Next) -> pb.UserMessage | None:
        t, i = asked.key.round, asked.key.slot
        if asked.ask == pb.Next.WAIT:
            return None
        if asked.ask == pb.Next.LEAVE:
            own_parameters = b""
            return pb.UserMessage(leave=pb.Leave(parameters_sha256=sha256(own_parameters).digest()))
        x = self._data["x_val"][t] if asked.ask == pb.Next.VALIDATION else self._data["x"][t, i]
        return pb.UserMessage(features=pb.Features(key=asked.key, features=tensor(x)))

    def _judge(self, said: pb.Outputs) -> pb.UserMessage:
        """Mean squared loss at the outputs f [B, 1], and its gradient 2 (f - y) / B."""
        t, i = said.key.round, said.key.slot
        validation = i == self._slots
        y = self._data["y_val"][t] if validation else self._data["y"][t, i]
        error = np.frombuffer(said.outputs.data, "<f8") - y
        loss = float(np.mean(error**2))
        if validation:
            return pb.UserMessage(report=pb.Report(key=said.key, loss=loss))
        gradient = tensor(2 * error[:, None] / len(error))
        return pb.UserMessage(feedback=pb.Feedback(key=said.key, loss=loss, gradient=gradient))


def tensor(values: Array) -> pb.Tensor:
    """Shape, then numbers as little-endian bytes, row by row."""
    return pb.Tensor(dtype=pb.FLOAT64, shape=values.shape, data=values.astype("<f8").tobytes())


def live(address: str, user: ExampleUser) -> None:
    """One stream from Join to Goodbye. Raises grpc.RpcError with the edge's reason where it ends otherwise."""
    ours: SimpleQueue[pb.UserMessage | None] = SimpleQueue()
    ours.put(user.join())
    with grpc.insecure_channel(address) as channel:
        stream = channel.stream_stream(
            "/equiran.v1.Edge/Live", pb.UserMessage.SerializeToString, pb.EdgeMessage.FromString
        )
        theirs: Iterator[pb.EdgeMessage] = stream(iter(ours.get, None))
        for said in theirs:
            if said.HasField("goodbye"):
                ours.put(None)
            elif answer := user.answer(said):
                ours.put(answer)


if __name__ == "__main__":
    address, run, name, path = sys.argv[1:]
    live(address, ExampleUser(run, name, dict(np.load(Path(path)))))
