"""The scenario tree: one YAML file is one experiment, validated and frozen before anything starts."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import ConfigDict, Field

from edge_server.config import Edge
from edge_server.config_base import Config
from edge_server.radio_config import OfTheAir
from sim.check import Rules, problems
from sim.compression import Compression, Rounded
from sim.cross import EVERYTHING, Here, cross_problems
from sim.faults import Fault
from sim.overrides import USER_CAP, UnknownPath, expanded, is_crowd, name_of, override, renamed, setting
from sim.participation import Takes
from sim.security import Security
from sim.yaml_lines import Node, Problem, Unreadable, descendants, get, plain, read, where
from user_client.config import User

Count = Annotated[int, Field(ge=1, le=1_000_000)]
ThreadCount = Annotated[int, Field(ge=1, le=256)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$")]
Users = TypeVar("Users")
_TASKS = re.compile(r"edge(\.server_tasks(\..*)?)?$")
OnFailure = Literal["wait", "drop", "stale", "fail"]
SLOT_KEYS = frozenset(("users", "rounds", "slots"))


class Threads(Config):
    """Intra-op threads of the edge and of each user host; part of the numbers."""

    edge: ThreadCount = 1
    user: ThreadCount = 1


class Record(Config):
    """What a run writes beside its rounds and summary."""

    slots: bool = True
    parameters: bool = False
    streams: bool = False
    privacy: bool = False


class Checkpoints(Config):
    """When a run is saved: so many seconds after the last time, between rounds or after every so many slots of one."""

    seconds: Annotated[float, Field(ge=0)] = 10.0
    slots: Count = 1


class Comparison(Config):
    """One run beside the base run: its folder's name, and dotted overrides."""

    model_config = ConfigDict(extra="allow")

    name: Name


class Template(User):
    """One user to be repeated; `name` is what the users' names begin with."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,55}$")] = "user"


class Crowd(Config):
    """`count` users alike, named user_00, user_01, .."""

    count: Annotated[int, Field(ge=1, le=USER_CAP)]
    template: Template


def _by_deadline(tree: dict[str, Any]) -> OnFailure:
    return "wait" if tree.get("deadline") is None else "drop"


class _Tree(Config, Generic[Users]):
    schema_number: Literal[1] = Field(alias="schema")
    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    transport: Literal["memory", "grpc", "ray"] = "ray"
    rounds: Count
    slots: Count
    threads: Threads = Threads()
    hosts: Literal["auto", "per_user"] | Count = "auto"
    trunk: bool = False
    users: Users
    participation: Takes = "all"
    edge: Edge
    radio: OfTheAir | None = None
    compression: Literal["none"] | Rounded | Compression | None = None
    compare: tuple[Comparison, ...] = ()
    faults: tuple[Fault, ...] = ()
    deadline: Annotated[float, Field(gt=0)] | None = None
    patience: Annotated[float, Field(gt=0)] = 60.0
    on_user_failure: OnFailure = Field(default_factory=_by_deadline)
    min_users: Count = 1
    security: Security | None = None
    checkpoints: Checkpoints = Checkpoints()
    record: Record = Record()


class Written(_Tree[tuple[User, ...] | Crowd]):
    """A scenario as its file may say it: users as a list, or as a count and a template."""


class Scenario(_Tree[tuple[User, ...]]):
    """One experiment (contract.md, `schema: 1`): every user named, every path absolute."""


class ScenarioErrors(Exception):
    """Everything that is wrong with a scenario; `errors` holds one `file:line: path.to.key: message` each."""

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = [*errors]
        super().__init__("\n".join(self.errors))


@dataclass(frozen=True)
class Loaded:
    """A scenario, the file it came from, and the tree that knows its lines (users as written)."""

    scenario: Scenario
    path: Path
    tree: Node

    def where(self, path: tuple[str | int, ...]) -> str:
        """`file:line` (or the option) that gave the value at `path`, or its nearest known ancestor."""
        users = self.tree.value["users"] if isinstance(self.tree.value, dict) else self.tree
        if path[:1] == ("users",) and len(path) > 1 and is_crowd(users):
            path = ("users", "template", *path[2:])
        return where(self.tree, path)


RULES = Rules(
    reasons={
        ("alpha", "less_than_equal"): "beyond 10 it is max-min in all but name, and weights span (u_max/u_min)^alpha",
        ("alpha", "greater_than_equal"): "a negative alpha would reward inequality",
        ("count", "less_than_equal"): "more users than one machine can hold",
    },
    patterns={
        "name": "letters, digits, - and _ (dots for users), beginning with a letter, digit or _, at most 64",
        "kind": "package.module:Class",
        "problem": "p3, p3_min_max, p4 or package.module:Class",
        "device": "cpu, cuda or cuda:N",
        "env": "the name of an environment variable",
    },
)


def load(
    path: Path,
    sets: Sequence[str] = (),
    seed: int | None = None,
    transport: str | None = None,
    over: Sequence[str] = (),
    here: Here = EVERYTHING,
) -> Loaded:
    """The scenario in `path` with `--set a.b=c` overrides, then a sweep's, then `seed` and `transport`, applied.

    here: whose files must be on this machine.
    Raises ScenarioErrors with every error of the file, of its overrides and of its comparisons.
    """
    root, found = opened(path, sets, {"seed": seed, "transport": transport}, over)
    root = _absolute(root, path.absolute().parent)
    meant, inside = _as_meant(root, here)
    found += inside
    known = {(problem.path, problem.message) for problem in found}
    found += [problem for entry in _entries(meant) for problem in _entry_problems(meant, entry, known, here)]
    return _built(root, path, found)


def _as_meant(root: Node, here: Here) -> tuple[Node, list[Problem]]:
    """The tree with misspelt keys set right, and all that is wrong: with them, below them, and because of them."""
    found = _problems(root, here)
    while misspelt := [problem for problem in found if problem.meant and _there(root, problem.path)]:
        for problem in misspelt:
            root = renamed(root, problem.path, str(problem.meant))
        known = {(problem.path, problem.message) for problem in found}
        found += [problem for problem in _problems(root, here) if (problem.path, problem.message) not in known]
    return root, found


def opened(
    path: Path, sets: Sequence[str], options: Mapping[str, int | str | None], over: Sequence[str] = ()
) -> tuple[Node, list[Problem]]:
    """The tree in `path` with `--set` overrides, then `--over`, then the options that are not None, and what is wrong.

    Raises ScenarioErrors when the file cannot be read as YAML.
    """
    try:
        root, found = read(path)
    except Unreadable as error:
        raise ScenarioErrors([str(error)]) from None
    root = _overridden(_overridden(root, "--set", sets, found), "--over", over, found)
    for option, value in options.items():
        if value is not None:
            root = override(root, option, Node(value, f"--{option} {value}"))
    return root, found


def refuse(found: Sequence[Problem]) -> None:
    """Raises ScenarioErrors with these problems, each once, in the order of their lines; nothing without one."""
    if found:
        raise ScenarioErrors([str(problem) for problem in sorted(dict.fromkeys(found), key=_line)])


def _overridden(root: Node, flag: str, sets: Sequence[str], found: list[Problem]) -> Node:
    for text in sets:
        try:
            root = override(root, *setting(text, flag))
        except UnknownPath as error:
            found.append(Problem(f"{flag} {text}"[:120], "", str(error)))
        except Unreadable as error:
            found.append(error.problem)
    return root


def compared(loaded: Loaded) -> list[tuple[str, Loaded]]:
    """Each comparison's name and the scenario it makes, `compare` emptied. Errors were raised by `load`."""
    entries = _entries(loaded.tree)
    return [(str(name_of(entry)), _built(_applied(loaded.tree, entry), loaded.path, [])) for entry in entries]


def _entries(root: Node) -> list[Node]:
    compare = get(root, "compare")
    entries = compare.value if compare and isinstance(compare.value, list) else []
    return [entry for entry in entries if name_of(entry)]


def _applied(root: Node, entry: Node) -> Node:
    """The tree with one comparison's overrides. Raises UnknownPath.

    Server tasks change no slot, and training again would cost as much again: only an entry that names them has any, or
    one whose radio takes its power from them.
    """
    assert isinstance(entry.value, dict)
    root = override(root, "compare", Node([], entry.where))
    for dotted, value in entry.value.items():
        if dotted != "name":
            root = override(root, dotted, value)
    pace = get(root, "radio", "power", "steps_per_round")
    needed = (pace and pace.value is not None) or any(_TASKS.match(key) for key in entry.value)
    if get(root, "edge", "server_tasks") and not needed:
        root = override(root, "edge.server_tasks", Node([], entry.where))
    return root


def _entry_problems(root: Node, entry: Node, known: set[tuple[str, str]], here: Here) -> Iterator[Problem]:
    """What is wrong only once this comparison is applied, placed inside its entry."""
    name = f"compare.{name_of(entry)}"
    for key, value in entry.value.items() if isinstance(entry.value, dict) else ():
        if key.partition(".")[0] in ("compare", "schema"):
            yield Problem(value.where, f"{name}.{key}", "a comparison cannot change this")
    try:
        found = _problems(_applied(root, entry), here)
    except UnknownPath as error:
        found = [Problem(entry.where, "", str(error))]
    lines = {node.where for node in descendants(entry)}
    for problem in found:
        if (problem.path, problem.message) not in known:
            place = problem.where if problem.where in lines else entry.where
            yield Problem(place, f"{name}.{problem.path}".rstrip("."), problem.message)


def trains_alone(root: Node) -> bool:
    """Whether a tree is a power scenario: a server task, and nothing of users and slots."""
    keys = root.value.keys() if isinstance(root.value, dict) else ()
    return get(root, "edge", "server_tasks") is not None and SLOT_KEYS.isdisjoint(keys)


def _problems(root: Node, here: Here) -> list[Problem]:
    if not isinstance(root.value, dict):
        return [Problem(root.where, "", "a scenario is a mapping, beginning with `schema: 1`")]
    if trains_alone(root):
        return [Problem(root.where, "", "no slots, only a server task; give it to `equiran train-power`")]
    return [*problems(Written, root, "", RULES), *cross_problems(root, here)]


def _built(root: Node, path: Path, found: Sequence[Problem]) -> Loaded:
    refuse(found)
    tree, users = plain(root), get(root, "users")
    if users and is_crowd(users):
        tree["users"] = [plain(user) for user in expanded(users)]
    return Loaded(Scenario.model_validate(tree), path, root)


def _there(root: Node, dotted: str) -> bool:
    return get(root, *(int(step) if step.isdecimal() else step for step in dotted.split("."))) is not None


def _line(problem: Problem) -> int:
    """The line a problem is at; 0 for options, which come first."""
    line = problem.where.rpartition(":")[2]
    return int(line) if line.isdecimal() else 0


_FILE_KEYS = {"arrays": "path", "trace": "path", "routed_mtl": "policy", "token": "file", "mtls": "folder"}
_FILE = "task.path"
_DOTTED = (_FILE, "radio.path", "radio.power.policy", "security.file", "security.folder")
"""How the keys of overrides end that name a file."""


def _absolute(node: Node, folder: Path, key: str = "") -> Node:
    """The tree with its files' paths made absolute; they are relative to the scenario's folder."""
    if isinstance(node.value, list):
        return Node([_absolute(item, folder) for item in node.value], node.where)
    if isinstance(node.value, dict):
        children = {name: _absolute(child, folder, name) for name, child in node.value.items()}
        if (name := _file_key(node)) and (file := children.get(name)):
            children[name] = _absolute(file, folder, _FILE)
        return Node(children, node.where)
    if key.endswith(_DOTTED) and isinstance(node.value, str):
        return Node(os.path.abspath(folder / node.value), node.where)
    return node


def _file_key(node: Node) -> str | None:
    """The key that names a file in a part of this kind."""
    kind = get(node, "kind")
    return None if kind is None else _FILE_KEYS.get(str(kind.value))
