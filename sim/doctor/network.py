"""Checks of loopback, proxies, Ray and the data sets."""

import re
from collections.abc import Iterator

from sim.doctor.machine import Machine, RayAround, seen
from sim.doctor.row import Row

PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Where gRPC looks for a proxy."""
EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
_LOOPBACK = "127.0.0.1"


def loopback(machine: Machine) -> Row:
    """A gRPC call over 127.0.0.1, as a run's."""
    found = seen(machine.loopback)
    if found.failed:
        advice = "bring up the interface lo, and allow TCP on it (firewall, sandbox); --transport memory needs none"
        return Row("loopback", "trouble", found.failed, advice)
    if found.taken:
        advice = "give `equiran serve` another port with --listen, or end who has it"
        return Row("loopback", "note", f"a gRPC call came back; somebody listens on {found.taken}", advice)
    return Row("loopback", "ok", "a gRPC call over 127.0.0.1 came back")


def proxy(machine: Machine) -> Row:
    """gRPC goes by proxies even to this machine, unless told otherwise; ours is."""
    set_ = [name for name in PROXIES if machine.environment.get(name)]
    if not set_:
        return Row("proxy", "ok", "none is set")
    shown = ", ".join(f"{name}={_without_password(machine.environment[name])}" for name in set_)
    excepted = next((machine.environment[name] for name in EXCEPTIONS if machine.environment.get(name)), "")
    if {_LOOPBACK, "*"} & {part.strip() for part in excepted.split(",")}:
        return Row("proxy", "ok", f"{shown}, but not for {_LOOPBACK}")
    advice = f"export no_proxy={_LOOPBACK},localhost; our edge and users do not ask a proxy, other gRPC programs do"
    return Row("proxy", "note", f"{shown}, also for {_LOOPBACK}", advice)


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def ray(machine: Machine) -> Row:
    """What runs will meet: a cluster at RAY_ADDRESS, and what others left."""
    found = seen(machine.ray)
    if found.unreachable:
        return Row("ray", "trouble", found.unreachable, "unset RAY_ADDRESS to run here, or start that cluster")
    notes = [*_left(found)]
    if notes:
        return Row("ray", "note", "; ".join(said for said, _ in notes), "; ".join(advice for _, advice in notes))
    where = f"the cluster at {found.address} takes connections" if found.address else "a run starts its own"
    return Row("ray", "ok", where)


def _left(found: RayAround) -> Iterator[tuple[str, str]]:
    if found.stale:
        path, address = found.stale
        yield f"{path} names a cluster at {address} that is gone", f"rm {path}, or --address auto goes there"
    if found.litter:
        count = len(found.litter)
        yield f"{count} left by killed runs, such as {found.litter[0]}", "a run on Ray removes what is an hour old"
    if found.daemons:
        yield f"{found.daemons} raylets run here", "a run starts one more, unless --address says which"


def started(machine: Machine) -> Row:
    """Whether Ray came up."""
    found = seen(machine.started)
    assert found
    if found.failed:
        return Row("ray start", "trouble", found.failed, "see the other rows; --transport grpc does without Ray")
    return Row("ray start", "ok", f"up after {found.seconds:.1f} s")


def data(machine: Machine) -> Row:
    """What tasks can name."""
    sets = seen(machine.data)
    gone = [one for one in sets if not one.here]
    here = ", ".join(one.name for one in sets if one.here)
    if not gone:
        return Row("data sets", "ok", f"here: {here}")
    told = f"here: {here or 'none'}; not here: {', '.join(f'{one.name} ({one.path})' for one in gone)}"
    return Row("data sets", "note", told, "; ".join(one.how for one in gone))
