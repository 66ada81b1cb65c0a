"""Who goes first where processes share cores: all users wait for the edge, so they yield to it."""

import os

_NICER = 10


def yield_to_edge() -> None:
    """This process's priority is lowered by 10, where the system has priorities; the numbers do not depend on it."""
    if hasattr(os, "nice"):
        os.nice(_NICER)
