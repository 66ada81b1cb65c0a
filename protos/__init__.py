"""The contract: the only thing that the edge server and its users share.

Whatever speaks it imports it before gRPC, which reads its environment once. Here it is told to leave forks alone:
Ray's start forks, and starts a program right away; gRPC's care for forks would now and then crash parent or child. And
to print nothing: what goes wrong there goes wrong in our hands, too, and is told in one line.
"""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

PROTOCOL = 3
"""Version of the meaning of `edge.proto`; both sides must speak the same one."""

LIVE = "/equiran.v1.Edge/Live"
"""A bidirectional stream per user, of serialised UserMessage and EdgeMessage."""

TRUNK = "/equiran.v1.Edge/Trunk"
"""A bidirectional stream per host, of serialised Frame."""

RECEPTION = "/equiran.v1.Reception/Introduce"
"""A bidirectional stream per connection of users that stand alone, of serialised FromUsers and FromEdge."""

MOST_GUESTS, LARGEST_INTRODUCTION = 32, 8192
"""Users in one Introduction, and its bytes at most: no run's limit for messages is lower."""

AUTHORIZATION, BEARER = "authorization", "Bearer "
"""Where a token stands: this key of a stream's metadata, and what its value begins with."""

USER_URI = "equiran:user:"
"""How a URI begins by which a certificate names a user that it speaks for."""

KEEPALIVE = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
)
"""How either side learns that the other's machine, or the way to it, is gone without a word. A busy peer still answers:
gRPC's own threads do."""
