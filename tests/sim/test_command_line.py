"""Every command shows an example that it takes, suggests what was meant, and fits a narrow terminal."""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import runs
from sim.cli import app
from sim.console import say_table
from sim.power_scenario import load_power
from sim.scenario import load

ROOT = Path(__file__).parents[2]
GROUP: Any = get_command(app)


def commands(group: Any = GROUP, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it."""
    context = group.make_context("equiran", [], resilient_parsing=True)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_shows_an_example_that_the_command_takes(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (line,) = re.findall(r"^ *Example: equiran (.*)$", COMMANDS[words].help, re.MULTILINE)
    called = shlex.split(line.partition(" >")[0])
    assert tuple(called[: len(words)]) == words
    parsed = COMMANDS[words].make_context("equiran", called[len(words) :]).params
    for scenario in (Path(word) for word in called if word.startswith("scenarios/")):
        (load_power if words == ("train-power",) else load)(scenario, parsed.get("sets") or [])
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0
    assert "Example: equiran" in shown.stdout


def test_every_command_of_the_contract_that_is_made_is_there() -> None:
    assert {"run", "resume", "validate", "schema", "sweep", "report", "reproduce", "train-power", "serve", "join"} <= {
        words[0] for words in COMMANDS
    }
    assert {("doctor",), ("diff",), ("bench", "slot"), ("data", "fetch")} <= {*COMMANDS}


@pytest.mark.parametrize(
    ("called", "said"),
    [
        ("runn x.yaml", "Did you mean 'run'"),
        ("bench slott", "Did you mean 'slot'"),
        ("data lst", "Did you mean 'list'"),
        ("run scenarios/quickstart.yaml --sett rounds=2", "--set"),
        ("run scenarios/quickstat.yaml", 'did you mean "quickstart.yaml"?'),
        ("run scenarios/quickstart.yaml --transport memry", 'did you mean "memory"?'),
        ("run scenarios/quickstart.yaml --set slotz=2", 'did you mean "slots"?'),
        ("sweep scenarios/quickstart.yaml --over slots=2 --transport rey", "'memory', 'grpc', 'ray'"),
        ("reproduce fgi2", 'did you mean "fig2"?'),
        ("data fetch mnits", 'did you mean "mnist"?'),
        ("bench slot --encoder lenett", "'lenet', 'mlp', 'linear'"),
        ("bench slot --policy optimall", "'optimal'"),
        ("bench scale --aggregator mgdaa", 'did you mean "mgda"?'),
        ("doctor --rey", "--ray"),
        ("serve scenarios/quickstart.yaml --listen 7700", "such as 127.0.0.1:7700"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(called: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, shlex.split(called), env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in result.stderr


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_forty_columns(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "40"})
    assert shown.exit_code == 0
    assert max(len(line) for line in shown.stdout.splitlines()) <= 40


def on_a_terminal(columns: int, *command: str) -> str:
    """What a command writes on a terminal that wide, without what moves and colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    settings = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, env=settings, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65_536):
            written += part
    except OSError:
        pass  # Linux says so when the other end is closed
    finally:
        os.close(ours)
    assert child.wait(timeout=60) == 0, written.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())


def test_progress_and_table_of_a_run_at_forty_columns(tmp_path: Path) -> None:
    tree = runs.digits(name="a_run_with_a_name", rounds=3, compare=[{"name": "equal_same_sum", "slots": 3}])
    file, out = runs.write(tmp_path, tree), tmp_path / "out"
    shown = on_a_terminal(40, sys.executable, "-m", "sim", "run", str(file), "--out", str(out))
    lines = [line for line in re.split(r"[\r\n]+", shown) if line.strip() and str(out) not in line]
    assert "…" not in shown
    assert max(len(line) for line in lines if not line.startswith("note:")) <= 40
    assert any(re.search(r"a_run_with_a_name .*3/3", line) for line in lines)
    summary = runs.read_json(out / "summary.json")
    assert re.search(rf"fairness +{re.escape(format(summary['fairness_mean'], '.4g'))}\s", shown)
    assert summary["digest"][:8] in shown


def test_headings_give_way_before_names_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"run": name, "val. fairness": 0.5, "worst u": 1.25} for name in ("quickstart", "equal_same_sum")]
    monkeypatch.setenv("COLUMNS", "40")
    say_table(rows, "a title")
    _, headings, *_ = capsys.readouterr().out.splitlines()
    assert headings.split() == ["run", "val.", "fairness", "worst", "u"]
    monkeypatch.setenv("COLUMNS", "35")
    say_table(rows, "a title")
    _, above, headings, _, second = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert above.split() == ["val.", "worst"]
    assert headings.split() == ["run", "fairness", "u"]
    assert second.split() == ["equal_same_sum", "0.5", "1.25"]


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_no_value_of_a_table_is_cut(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    say_table([{"run": "one", **{f"number {k}": 0.12345 * k for k in range(9)}, "note": ""}], "a title")
    shown = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= columns
    assert "…" not in shown
    for k in range(9):
        assert f"{0.12345 * k:.4g}" in shown
