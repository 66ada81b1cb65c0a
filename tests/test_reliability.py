"""docs/reliability.md names a test for every fault, and the tests that it names are there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
ROWS = [line.split("|") for line in PAGE.splitlines() if re.match(r"\| (F\d|Byzantine)", line)]


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_fault_has_a_row() -> None:
    found: set[int] = set()
    for row in ROWS:
        numbers = [int(number) for number in re.findall(r"F(\d+)", row[1])]
        found |= set(range(numbers[0], numbers[-1] + 1)) if " to " in row[1] else set(numbers)
    assert found == set(range(1, 61))


def test_every_row_names_tests_that_are_there_or_says_what_is_missing() -> None:
    for row in ROWS:
        named = re.findall(r"`((?:\w+/)+test_\w+\.py)(?:::(\w+))?`", row[3])
        assert named or "documented" in row[3] or row[4].strip(), row[1]
        for path, function in named:
            file = ROOT / path
            assert file.is_file(), path
            assert not function or function in functions(file), f"{path}::{function}"
