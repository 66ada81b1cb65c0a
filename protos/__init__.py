"""The contract: the only thing that the edge server and its users share."""

PROTOCOL = 2
"""Version of the meaning of `edge.proto`; both sides must speak the same one."""

LIVE = "/equiran.v1.Edge/Live"
"""A bidirectional stream per user, of serialised UserMessage and EdgeMessage."""

TRUNK = "/equiran.v1.Edge/Trunk"
"""A bidirectional stream per host, of serialised Frame."""
