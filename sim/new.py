"""`equiran new`: a part of one's own to start from, with its test and a scenario that uses it."""

import importlib.util
import keyword
import re
import shlex
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from sim.caller import BadScenario
from sim.console import say, say_json
from sim.exits import errors
from sim.options import Json
from sim.suggest import did_you_mean

KINDS: Mapping[str, str] = {
    "task": "a stream of jobs: a line whose slope drifts",
    "adversary": "a task around a task: labels dealt out to the wrong samples",
    "front": "a user's model before the edge: a sensor's calibration",
    "head": "a user's model behind the edge: bounded predictions",
    "encoder": "the shared model: linear, with a small correction",
    "aggregator": "from losses to training weights: the worst user counts more",
    "outer": "where rounds start: momentum",
    "channel": "gains of the radio: log-normal shadowing that moves slowly",
    "policy": "who gets how much of the downlink's power: the weak get more",
    "problem": "what a power network learns: the weakest signal, strongest",
}
"""Every kind of part, and what its skeleton is. Each is a module of its own name in `sim.skeletons`."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NAMED = re.compile(r"(?m)^(name: |    name: ClassVar\[str\] = \")\w+(\"?)$")
"""A scenario's name, and that by which a problem's policy is found."""
_PACKAGE = "sim.skeletons"
_LISTED = "\n".join(f"{kind:11} {about}" for kind, about in KINDS.items())

HELP = f"""Write a part of your own to start from: its class, its test, and a scenario that uses it.

Example: equiran new aggregator worst_first --to parts

\b
Kinds, and what there is to change:
{_LISTED}
"""


class Skeleton(NamedTuple):
    """Files by name, and the class in the first of them."""

    files: Mapping[str, str]
    class_name: str


def skeleton(kind: str, name: str) -> Skeleton:
    """The files of a part of this kind for the module `name`: NAME.py, test_NAME.py, NAME.yaml.

    Raises BadScenario, one line, for an unknown kind, and for a name that is none or would hide something.
    """
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) or f"; there are {', '.join(KINDS)}"
        raise BadScenario(f"no kind {kind!r} of part{hint}")
    _check_name(name)
    scenario = _read(f"{kind}.yaml")
    module, theirs = f"{_PACKAGE}.{kind}", re.findall(rf"{_PACKAGE}\.{kind}:(\w+)", scenario)[0]
    ours = "".join(part.capitalize() for part in name.split("_"))
    texts = {f"{name}.py": _read(f"{kind}.py"), f"test_{name}.py": _read(f"test_{kind}.py"), f"{name}.yaml": scenario}
    if ours != theirs and any(re.search(rf"\b{ours}\b", text) for text in texts.values()):
        raise BadScenario(f"{name!r}: its class would be {ours}, a name that its files have a use for; take another")
    renamed = {file: re.sub(rf"\b{theirs}\b", ours, text).replace(module, name) for file, text in texts.items()}
    return Skeleton({file: _NAMED.sub(rf"\g<1>{name}\g<2>", text) for file, text in renamed.items()}, ours)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or name.startswith("test_"):
        rule = "a Python module's name in small letters, digits and _, such as worst_first, not beginning with test_"
        raise BadScenario(f"{name!r} is no name: give {rule}")


def _read(file: str) -> str:
    return files(_PACKAGE).joinpath(file).read_text(encoding="utf-8")


def write(made: Skeleton, folder: Path) -> list[Path]:
    """Writes the files into `folder`, which is made. Raises BadScenario where one of them, or its module, is there."""
    paths = [folder / name for name in made.files]
    for path in paths:
        if path.exists():
            raise BadScenario(f"{path} is there already, and nothing was written: take another NAME, or --to DIR")
    if (hidden := importlib.util.find_spec(paths[0].stem)) is not None:
        raise BadScenario(f"{paths[0].stem!r} would hide the module of that name, {hidden.origin}: take another NAME")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, made.files.values(), strict=True):
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadScenario(f"--to {folder}: {error.strerror}") from error
    return paths


def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=", ".join(KINDS))],
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the module, such as worst_first")],
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="where the files go; made if it is not there")
    ] = Path(),
    as_json: Json = False,
) -> None:
    """Write a part of your own to start from: its class, its test, and a scenario that uses it."""
    with errors():
        made = skeleton(kind, name)
        paths = write(made, to)
        command = "train-power" if kind == "problem" else "run"
        there = [f"cd {shlex.quote(str(to))}"] if to != Path() else []
        steps = [*there, f"python -m pytest test_{name}.py", f"equiran {command} {name}.yaml"]
        if as_json:
            say_json({"kind": kind, "class": f"{name}:{made.class_name}", "files": [*map(str, paths)], "next": steps})
            return
        for path in paths:
            say(str(path))
        say("next: " + " && ".join(steps))
