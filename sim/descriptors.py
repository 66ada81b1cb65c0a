"""File descriptors for connections, before the first of them is opened."""

import resource

from edge_server.judge import RunFailed

_OTHERS = 128
"""What a process holds beside its connections."""


def needed(connections: int) -> int:
    """File descriptors of a process with so many connections."""
    return connections + _OTHERS


def allow_descriptors(connections: int) -> None:
    """Lets this process hold so many connections, or as many as it may: perhaps fewer will come."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed(connections) if hard == resource.RLIM_INFINITY else min(needed(connections), hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def provide_descriptors(connections: int) -> None:
    """Lets this process hold so many connections, as far as it may raise its own limit. Raises RunFailed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed(connections)
    if soft != resource.RLIM_INFINITY and soft < wanted and hard != resource.RLIM_INFINITY and hard < wanted:
        raise RunFailed(
            f"{connections} connections need {wanted} file descriptors in one process, but at most {hard} are allowed: "
            "raise `ulimit -n`, or let the users of a host share a certificate (`equiran certs --host`)"
        )
    allow_descriptors(connections)
