"""What a scenario's faults must agree on with its users, its rounds and its transport."""

from collections.abc import Iterator

from sim.overrides import crowd_names, is_crowd, name_of
from sim.suggest import did_you_mean
from sim.yaml_lines import Node, Problem, get


def fault_problems(root: Node) -> Iterator[Problem]:
    """Every disagreement of `faults` with the rest of the tree, which may be wrong elsewhere."""
    faults = get(root, "faults")
    if faults is None or not isinstance(faults.value, list) or not faults.value:
        return
    names = _names(root)
    for number, fault in enumerate(faults.value):
        path = f"faults.{number}"
        yield from _user(path, fault, names)
        for key in ("round", "slot"):
            yield from _within(root, path, fault, key)
        yield from _possible(root, path, fault)


def _names(root: Node) -> list[str]:
    """Of the users; empty where the tree does not tell."""
    users = get(root, "users")
    if users and is_crowd(users):
        template, count = get(users, "template"), get(users, "count")
        many = count.value if count and isinstance(count.value, int) else 0
        return crowd_names((template and name_of(template)) or "user", many)
    listed = users.value if users and isinstance(users.value, list) else []
    return [name for user in listed if (name := name_of(user))]


def _user(path: str, fault: Node, names: list[str]) -> Iterator[Problem]:
    user = get(fault, "user")
    if user and isinstance(user.value, str) and names and user.value not in names:
        hint = did_you_mean(user.value, names)
        yield Problem(user.where, f"{path}.user", f"no user {user.value!r} in this scenario{hint}")


def _within(root: Node, path: str, fault: Node, key: str) -> Iterator[Problem]:
    place, many = get(fault, "at", key), get(root, f"{key}s")
    if place and many and type(place.value) is int and type(many.value) is int and place.value >= many.value >= 1:
        message = f"{key}s are counted from 0, and there are {many.value}: at most {many.value - 1}, got {place.value}"
        yield Problem(place.where, f"{path}.at.{key}", message)


def _possible(root: Node, path: str, fault: Node) -> Iterator[Problem]:
    kind, transport, trunk = get(fault, "kind"), get(root, "transport"), get(root, "trunk")
    where = transport.value if transport else "ray"
    if kind is None:
        return
    if kind.value == "edge_crash" and where != "ray":
        yield Problem(kind.where, f"{path}.kind", f"with {where} the edge has no process of its own to lose; use ray")
    if kind.value == "crash" and where == "memory":
        message = "in memory a user has neither a process nor a stream to lose; use grpc or ray"
        yield Problem(kind.where, f"{path}.kind", message)
    if kind.value == "crash" and where == "grpc" and trunk and trunk.value is True:
        message = "on a trunk over grpc a user has no stream of its own to lose; use ray, or no trunk"
        yield Problem(kind.where, f"{path}.kind", message)
