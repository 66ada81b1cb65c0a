"""Which users share a process, and which machine of a cluster carries it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

Hosts = Literal["auto", "per_user"] | int
"""As a scenario says it: about one host per core, one for every user, or so many."""


class Node(NamedTuple):
    """A machine of a cluster. address: by which the others know it. for_edge: it is meant for the edge."""

    id: str
    address: str
    cores: float
    gpus: float
    for_edge: bool


def shares(users: int, hosts: Hosts, cores: int) -> list[list[int]]:
    """The users of each host, by index: contiguous shares of about equal size, none empty."""
    count = users if hosts == "per_user" else min(users, cores if hosts == "auto" else hosts)
    return [share.tolist() for share in np.array_split(np.arange(users), count)]


def node_of_edge(nodes: Sequence[Node], driver: str) -> Node:
    """A node that is meant for the edge, else one with a GPU, else the driver's; the driver's own among equals."""
    return min(nodes, key=lambda node: (not node.for_edge, node.gpus == 0, node.id != driver, node.address))


def nodes_of_hosts(hosts: int, nodes: Sequence[Node], edge: Node) -> list[Node]:
    """One host after the other goes where fewest share a core, the edge's node last among equals.

    A node without cores takes none, unless none has any.
    """
    able = sorted((node for node in nodes if node.cores), key=lambda node: (node is edge, node.address)) or [edge]
    taken = [0] * len(able)
    chosen = []
    for _ in range(hosts):
        k = min(range(len(able)), key=lambda k: (taken[k] + 1) / (able[k].cores or 1))
        taken[k] += 1
        chosen.append(able[k])
    return chosen
