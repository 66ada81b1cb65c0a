"""Nothing of ours forks: gRPC and torch do not survive it. Processes are started afresh."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORKING = {"fork", "forkpty", "ProcessPoolExecutor", "Process", "Pool", "DataLoader", "set_start_method"}
ALLOWED = {"Process": "psutil"}
"""What bears the name and only looks at a process."""


def used(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What is called or imported under a name that may fork, and contexts of multiprocessing other than `spawn`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = getattr(getattr(node.func, "value", None), "id", "")
            said = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if name in FORKING and ALLOWED.get(name) != owner and owner != "_SPAWN":
                yield node.lineno, name
            if name == "get_context" and said != ["spawn"]:
                yield node.lineno, f"get_context{said}"


@pytest.mark.parametrize("package", ["protos", "edge_server", "user_client", "sim"])
def test_no_process_is_forked(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = [f"{file}:{line}: {name}" for file in files for line, name in used(ast.parse(file.read_text("utf-8")))]
    assert not found


def test_a_fork_would_be_found() -> None:
    text = "os.fork()\nmultiprocessing.get_context('fork')\nmultiprocessing.Pool(2)\npsutil.Process(1)\n"
    assert [line for line, _ in used(ast.parse(text))] == [1, 2, 3]
