"""YAML as a tree that knows the line of every value: scalars as in YAML 1.2, no anchors, no tags, no duplicates."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from sim.shipped import shipped_hint
from sim.suggest import did_you_mean

Place: TypeAlias = Callable[[int], str]
Scalar: TypeAlias = str | int | float | bool | None

SIZE_CAP = 1 << 20
DEPTH_CAP = 40
NODE_CAP = 100_000

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]{1,100}")
_BASED = re.compile(r"0o[0-7]{1,80}|0x[0-9a-fA-F]{1,80}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Node:
    """One value of a scenario and where it was written: `file:line`, or the option that set it."""

    value: "dict[str, Node] | list[Node] | Scalar"
    where: str


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it is written, its dotted path, and what to do. meant: what a misspelt key is."""

    where: str
    path: str
    message: str
    meant: str | None = None

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.path, self.message) if part)


class Unreadable(Exception):
    """The text is not YAML that a scenario may use; `problem` says where and why."""

    def __init__(self, where: str, message: str) -> None:
        self.problem = Problem(where, "", message)
        super().__init__(str(self.problem))


def scalar(text: str) -> Scalar:
    """What plain `text` means under YAML 1.2's core schema: `1e-3` is a number, `no` and `1:30` are text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text


def plain(node: Node) -> Any:
    """The tree as dicts, lists and scalars."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def get(node: Node, *path: str | int) -> Node | None:
    """The node at `path`, or None when the tree does not go there."""
    for step in path:
        child = _child(node, step)
        if child is None:
            return None
        node = child
    return node


def where(node: Node, path: tuple[str | int, ...]) -> str:
    """Where the nearest known ancestor of `path` is written."""
    for step in path:
        child = _child(node, step)
        if child is None:
            break
        node = child
    return node.where


def descendants(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    if isinstance(node.value, dict | list):
        for child in node.value.values() if isinstance(node.value, dict) else node.value:
            yield from descendants(child)


def _child(node: Node, step: str | int) -> Node | None:
    if isinstance(node.value, dict):
        return node.value.get(str(step))
    if isinstance(node.value, list) and isinstance(step, int) and 0 <= step < len(node.value):
        return node.value[step]
    return None


def read(path: Path) -> tuple[Node, list[Problem]]:
    """The file's tree, and its duplicate keys. Raises Unreadable: missing, too big, not UTF-8, not YAML."""
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_CAP + 1)
    except IsADirectoryError:
        raise Unreadable(str(path), "is a folder; give a scenario file") from None
    except OSError as error:
        near = did_you_mean(path.name, (other.name for other in path.parent.glob(f"*{path.suffix}")))
        raise Unreadable(str(path), f"cannot be read: {error.strerror}{near or shipped_hint(path)}") from None
    if len(data) > SIZE_CAP:
        raise Unreadable(str(path), f"is larger than {SIZE_CAP} bytes, the limit for a scenario")
    if data.startswith(b"\xef\xbb\xbf"):
        raise Unreadable(f"{path}:1", "starts with a byte order mark; save it as UTF-8 without one")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"{path}:{line}", f"byte {data[error.start]:#04x} is not UTF-8") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> tuple[Node, list[Problem]]:
    """The tree of `text`, each node placed at `name:line`, and its duplicate keys (the first one counts).

    Raises Unreadable: bad syntax, tags, anchors, aliases, more than DEPTH_CAP levels or NODE_CAP values.
    """
    return _parse(text, lambda line: f"{name}:{line}")


def parse_option(text: str, option: str) -> Node:
    """The tree of one option's value, every node placed at `option`. Raises Unreadable, also for duplicates."""
    node, problems = _parse(text, lambda _: option)
    if problems:
        raise Unreadable(option, problems[0].message)
    return node


def _parse(text: str, at: Place) -> tuple[Node, list[Problem]]:
    try:
        root = _Composer(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Unreadable(at(line), _reason(error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(at(line), f"character #x{error.character:04x} is not allowed in YAML") from None
    problems: list[Problem] = []
    return (_convert(root, at, (), problems) if root else Node(None, at(1))), problems


def _reason(error: yaml.MarkedYAMLError) -> str:
    reason = " ".join(part for part in (error.context, error.problem) if part)
    return f"{reason}; indent with spaces" if "\\t" in reason else reason


class _Composer(yaml.BaseLoader):
    """PyYAML's composer, held to what a scenario needs."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._nodes += 1
        if refusal := self._refusal(event):
            raise yaml.MarkedYAMLError(problem=refusal, problem_mark=event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def _refusal(self, event: yaml.Event) -> str | None:
        if getattr(event, "anchor", None) is not None:
            return "anchors and aliases are not allowed"
        if getattr(event, "tag", None) is not None:
            return f"tag {getattr(event, 'tag', '')} is not allowed"
        if self._depth >= DEPTH_CAP:
            return f"nested deeper than {DEPTH_CAP} levels"
        return f"more than {NODE_CAP} keys and values" if self._nodes > NODE_CAP else None


def _convert(raw: yaml.Node, at: Place, path: tuple[str, ...], problems: list[Problem]) -> Node:
    place = at(raw.start_mark.line + 1)
    if isinstance(raw, yaml.MappingNode):
        return Node(_mapping(raw, at, path, problems), place)
    if isinstance(raw, yaml.SequenceNode):
        items = [_convert(item, at, (*path, str(i)), problems) for i, item in enumerate(raw.value)]
        return Node(items, place)
    return Node(scalar(raw.value) if getattr(raw, "style", None) is None else raw.value, place)


def _mapping(raw: yaml.MappingNode, at: Place, path: tuple[str, ...], problems: list[Problem]) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for key, value in _pairs(raw, at):
        place, here = at(key.start_mark.line + 1), (*path, key.value)
        child = Node(_convert(value, at, here, problems).value, place)
        if key.value in found:
            first = found[key.value].where.rpartition(":")[2]
            problems.append(Problem(place, ".".join(here), f"duplicate key; first given in line {first}"))
        else:
            found[key.value] = child
    return found


def _pairs(raw: yaml.MappingNode, at: Place) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    for key, value in raw.value:
        if not isinstance(key, yaml.ScalarNode):
            raise Unreadable(at(key.start_mark.line + 1), "a key must be text")
        yield key, value
