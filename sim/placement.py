"""Which users share a process."""

from typing import Literal

import numpy as np

Hosts = Literal["auto", "per_user"] | int
"""As a scenario says it: about one host per core, one for every user, or so many."""


def shares(users: int, hosts: Hosts, cores: int) -> list[list[int]]:
    """The users of each host, by index: contiguous shares of about equal size, none empty."""
    count = users if hosts == "per_user" else min(users, cores if hosts == "auto" else hosts)
    return [share.tolist() for share in np.array_split(np.arange(users), count)]
