"""One value of a scenario replaced by its dotted path: what `--set`, `sweep --over` and `compare` do."""

from typing import get_args

from edge_server.config import BuiltIn
from sim.suggest import did_you_mean
from sim.yaml_lines import Node, parse_option

Steps = tuple[str, ...]

SCORING = ("alpha", "u_min", "u_max")
AGGREGATOR = ("edge", "aggregator")
USER_CAP = 100_000
_FIELDS = {
    kind: model.model_fields.keys()
    for model in get_args(BuiltIn)
    for kind in get_args(model.model_fields["kind"].annotation)
}


class UnknownPath(Exception):
    """A dotted path that the scenario does not have."""


def setting(text: str, flag: str = "--set") -> tuple[str, Node]:
    """The path and the value of `a.b=c`, given with this flag; the value is YAML. Raises UnknownPath, Unreadable."""
    option = f"{flag} {' '.join(text.split())}"[:120]
    dotted, equals, value = text.partition("=")
    if not equals or not all(dotted.split(".")):
        raise UnknownPath("expected a.b=value")
    return dotted, parse_option(value, option)


def override(root: Node, dotted: str, value: Node) -> Node:
    """The tree with `value` at `dotted`; everything else is shared with `root`.

    List items go by index or by user name, `users.*` means every user. A new `edge.aggregator` keeps alpha, u_min
    and u_max where it does not give its own. Raises UnknownPath for a list item that is not there.
    """
    return _put(root, (), tuple(dotted.split(".")), value)


def renamed(root: Node, dotted: str, key: str) -> Node:
    """The tree with the last key of `dotted` called `key`; list items go by index."""
    first, _, rest = dotted.partition(".")
    if isinstance(root.value, list):
        place = int(first)
        return Node([*root.value[:place], renamed(root.value[place], rest, key), *root.value[place + 1 :]], root.where)
    assert isinstance(root.value, dict)
    if not rest:
        return Node({key if name == first else name: child for name, child in root.value.items()}, root.where)
    return Node({**root.value, first: renamed(root.value[first], rest, key)}, root.where)


def _put(node: Node, done: Steps, rest: Steps, value: Node) -> Node:
    if not rest:
        return _carrying_scores(node, value) if done == AGGREGATOR else value
    if done == AGGREGATOR and rest == ("kind",):
        return _another_kind(node, value)
    if done == ("users",) and is_crowd(node) and rest[0] not in ("count", "template"):
        return _put_in_crowd(node, rest, value)
    if isinstance(node.value, list):
        return _put_in_list(node, done, rest, value)
    known = node.value if isinstance(node.value, dict) else {}
    child = known.get(rest[0], Node(None, value.where))
    place = node.where if known else value.where
    return Node({**known, rest[0]: _put(child, (*done, rest[0]), rest[1:], value)}, place)


def _put_in_crowd(node: Node, rest: Steps, value: Node) -> Node:
    if rest[0] == "*":
        return _put(node, ("users",), ("template", *rest[1:]), value)
    return _put_in_list(Node(expanded(node), node.where), ("users",), rest, value)


def _put_in_list(node: Node, done: Steps, rest: Steps, value: Node) -> Node:
    assert isinstance(node.value, list)
    if rest[0] == "*":
        return Node([_put(item, (*done, "*"), rest[1:], value) for item in node.value], node.where)
    index, used = _item(node.value, done, rest)
    items = list(node.value)
    items[index] = _put(items[index], (*done, rest[0]), rest[used:], value)
    return Node(items, node.where)


def _item(items: list[Node], done: Steps, rest: Steps) -> tuple[int, int]:
    """The item that `rest` begins with, and how many steps its name takes (a name may hold dots)."""
    names = [name_of(item) for item in items]
    for used in range(len(rest), 0, -1):
        name = ".".join(rest[:used])
        if name in names:
            return names.index(name), used
    if rest[0].isdecimal() and int(rest[0]) < len(items):
        return int(rest[0]), 1
    known = [name for name in names if name]
    raise UnknownPath(f"{'.'.join(done)} has no item {rest[0]!r} among its {len(items)}{did_you_mean(rest[0], known)}")


def name_of(user: Node) -> str | None:
    """The `name` of a list item, if it has one."""
    name = user.value.get("name") if isinstance(user.value, dict) else None
    return name.value if name and isinstance(name.value, str) else None


def _carrying_scores(old: Node, new: Node) -> Node:
    if not isinstance(old.value, dict) or not isinstance(new.value, dict):
        return new
    carried = {key: old.value[key] for key in SCORING if key in old.value}
    return Node({**carried, **new.value}, new.where)


def _another_kind(aggregator: Node, kind: Node) -> Node:
    """The aggregator with this kind, without what only its old kind knew."""
    known = aggregator.value if isinstance(aggregator.value, dict) else {}
    old = known.get("kind", kind).value
    dropped = set() if old == kind.value else {*_FIELDS.get(str(old), ())} - {*SCORING}
    return Node({**{k: v for k, v in known.items() if k not in dropped}, "kind": kind}, aggregator.where)


def is_crowd(users: Node) -> bool:
    """Whether `users` is a `{count, template}` that can be expanded."""
    if not isinstance(users.value, dict) or not {"count", "template"} <= users.value.keys():
        return False
    count, template = users.value["count"].value, users.value["template"].value
    return type(count) is int and 1 <= count <= USER_CAP and isinstance(template, dict)


def crowd_names(stem: str, count: int) -> list[str]:
    """What the users of a crowd are called."""
    digits = max(2, len(str(count - 1)))
    return [f"{stem}_{i:0{digits}d}" for i in range(count)]


def expanded(users: Node) -> list[Node]:
    """A crowd's users, named user_00, user_01, ..; `template.name` replaces `user`. They share the template."""
    assert isinstance(users.value, dict)
    count, template = users.value["count"].value, users.value["template"]
    assert isinstance(count, int)
    assert isinstance(template.value, dict)
    names = crowd_names(name_of(template) or "user", count)
    return [Node({**template.value, "name": Node(name, template.where)}, template.where) for name in names]
