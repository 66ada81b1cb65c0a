"""CONTRIBUTING.md cannot rot: its example files are taken out, their tests run, and its commands run in memory."""

import importlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from page_commands import ROOT, commands, files
from sim.caller import Result, Watcher
from sim.runner import run as run_loaded
from sim.scenario import load

PAGE = ROOT / "CONTRIBUTING.md"
FILES = files(PAGE)
COMMANDS = [command.text for command in commands(PAGE)]
PARTS = ["noisy_line", "odd_mlp", "drift", "hedge"]


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with every file of the page, importable."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def run(folder: Path, command: str) -> Result:
    _, _, scenario, *options = shlex.split(command)
    assert options[::2] == ["--set"] * len(options[::2])
    loaded = load(folder / scenario, options[1::2])
    return run_loaded(loaded, folder / f"out-{abs(hash(command))}", None, Watcher())


def test_the_page_shows_what_it_promises() -> None:
    assert set(FILES) == {"tiny.yaml", *(f"{p}.py" for p in PARTS), *(f"test_{p}.py" for p in PARTS)}
    assert [part for part, command in zip(PARTS, COMMANDS, strict=True) if f"{part}:" in command] == PARTS


@pytest.mark.parametrize("part", PARTS)
def test_each_example_passes_its_own_test(examples: Path, part: str) -> None:
    module = importlib.import_module(f"test_{part}")
    assert Path(str(module.__file__)).parent == examples
    tests = [function for name, function in vars(module).items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


@pytest.mark.parametrize("command", COMMANDS, ids=PARTS)
def test_each_command_runs_and_its_part_matters(examples: Path, command: str) -> None:
    plain, changed = run(examples, "equiran run tiny.yaml"), run(examples, command)
    assert changed.status == plain.status == "done"
    assert changed.summary["applied"] == 2 * 2 * 6
    assert changed.digest != plain.digest
    for user in changed.summary["utility_mean"].values():
        assert 0 < user < 4


def test_a_part_that_cannot_be_built_is_named_with_its_line(examples: Path) -> None:
    command = COMMANDS[0].replace("slope: 2.0", "slop: 2.0")
    with pytest.raises(Exception, match=r"users\.0\.task: task noisy_line:NoisyLine: .*unexpected keyword.*'slop'"):
        run(examples, command)
