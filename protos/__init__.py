"""The contract: the only thing that the edge server and its users share."""

PROTOCOL = 1
"""Version of the meaning of `edge.proto`; both sides must speak the same one."""

LIVE = "/equiran.v1.Edge/Live"
"""The one method: a bidirectional stream per user, of serialised UserMessage and EdgeMessage."""
