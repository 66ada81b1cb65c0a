"""What is fuzzed: each target takes any bytes and may raise nothing."""

from collections.abc import Callable

from fuzz import codec, edge, user

TARGETS: dict[str, Callable[[bytes], object]] = {
    "tensor": codec.tensor,
    "values": codec.values,
    "frame": codec.frame,
    "edge": edge.conversation,
    "user": user.talk,
}
