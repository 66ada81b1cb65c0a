"""Features that came before their turn: of users whose front is frozen they ride with the feedback before them."""

from torch import Tensor

from edge_server.judge import Judge
from edge_server.messages import BadField, read_tensors
from edge_server.plan import RunPlan
from protos import edge_pb2 as pb


class Kept:
    """Of users k. Those that came alone are read as they come; those that ride are small, and are read together."""

    def __init__(self, plan: RunPlan, judge: Judge):
        self._plan, self._judge = plan, judge
        self._opened: dict[int, Tensor | BadField] = {}
        self._riding: dict[int, pb.Features] = {}

    def keep(self, k: int, message: pb.UserMessage) -> None:
        """The features in a message that counts, if it has any."""
        if message.HasField("features"):
            self._opened[k] = self._judge.open(k, message.features)
        elif message.HasField("ahead"):
            self._riding[k] = message.ahead

    def rides(self, k: int) -> bool:
        """User k's next features came with its feedback."""
        return k in self._riding

    def forget(self, k: int) -> None:
        """What user k sent is for nobody."""
        self._opened.pop(k, None)
        self._riding.pop(k, None)

    def open(self) -> None:
        """Reads those that ride: their turn has come."""
        riding, self._riding = dict(sorted(self._riding.items())), {}
        specs = [self._plan.users[k].features for k in riding]
        read = read_tensors([said.features for said in riding.values()], specs, "features")
        self._opened.update(zip(riding, read, strict=True))

    def take(self, k: int) -> Tensor | BadField:
        """User k's, which were opened."""
        return self._opened.pop(k)
