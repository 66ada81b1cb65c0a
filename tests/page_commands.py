"""What the pages tell a reader to type, and the files that they tell to write."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import typer

from sim.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Command:
    """One command of a ```sh block. page: as the repository names it. line: where it begins. text: as written."""

    page: str
    line: int
    text: str

    @cached_property
    def words(self) -> list[str]:
        """As a shell has them, without the comment."""
        return shlex.split(self.text, comments=True)

    @property
    def plain(self) -> str:
        return " ".join(self.words)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.plain}"


def blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """Language, number of the first line, and content of every fenced block."""
    text = page.read_text(encoding="utf-8")
    for block in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield block[1], text.count("\n", 0, block.start(2)) + 1, block[2]


def commands(page: Path) -> list[Command]:
    """In the order of the page. A line that ends with a backslash goes on in the next one."""
    name = str(page.relative_to(ROOT))
    found = [
        Command(name, start + content.count("\n", 0, line.start()), line[0])
        for language, start, content in blocks(page)
        if language == "sh"
        for line in re.finditer(r"^(?:.*\\\n)*.*[^\\\n]$", content, re.MULTILINE)
    ]
    return [command for command in found if command.words]


def files(page: Path) -> dict[str, str]:
    """What the page says a file of that name has."""
    text = page.read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w.]+)`\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def chosen(words: list[str], group: Any = None) -> tuple[Any, list[str]]:
    """The command of `equiran`, or of a group of it, and the words that are left for it. Raises KeyError."""
    group = group or typer.main.get_command(app)
    command = group.get_command(None, words[0])
    if command is None:
        raise KeyError(words[0])
    return chosen(words[1:], command) if words[1:] and hasattr(command, "get_command") else (command, words[1:])


def parsed(words: list[str]) -> dict[str, Any]:
    """Arguments and options of an `equiran` command. Raises KeyError, or a UsageError of click, where it is none."""
    command, rest = chosen(words)
    return dict(command.make_context(command.name, rest).params)
