"""Every command of README, CONTRIBUTING and docs is typed as it is written, or stands below with a reason."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from clean_copy import CleanCopy

from page_commands import PAGES, ROOT, Command, blocks, chosen, commands, files, parsed
from sim.power_scenario import load_power
from sim.scenario import load

ELSEWHERE = {
    "make test": "it runs this",
    ".venv/bin/equiran reproduce * --seeds *": "hours; tests/sim/test_reproduce*.py have them in short",
    "export RAY_AUTH_MODE=token": "two machines: tests/contract/test_two_hosts.py",
    ".venv/bin/ray get-auth-token --generate": "two machines: tests/contract/test_two_hosts.py",
    ".venv/bin/ray start *": "two machines: tests/contract/test_two_hosts.py",
    ".venv/bin/equiran run scenarios/cluster/*": "two machines: tests/contract/test_two_hosts.py",
    """grep "placed" runs/cluster/events.jsonl""": "two machines: tests/contract/test_two_hosts.py",
    "ray job submit *": "installs Ray's dashboard; tests/contract/test_ray_job.py",
    "kubectl *": "Kubernetes",
    "ssh *": "another machine",
    "python -m pip install *": "installs; tests/test_release.py",
    "equiran track * --mlflow *": "a server of MLflow's; tests/tracking has its store",
    "tensorboard *": "TensorBoard's own",
    "equiran serve *": "three machines: tests/contract/test_apart_two_hosts.py",
    "equiran join *": "three machines: tests/contract/test_apart_two_hosts.py",
}
"""What cannot be run here, and why. `*`: anything."""
QUICK = ("docs/plugins.md", "docs/security.md", "docs/decisions/")
"""Pages of `make test`; the others are `make docs-test`'s."""

ALL = {str(page.relative_to(ROOT)): commands(page) for page in PAGES}


def reason(command: Command) -> str | None:
    return next((why for pattern, why in ELSEWHERE.items() if fnmatchcase(command.plain, pattern)), None)


def pages() -> list[object]:
    """Those on which something can be run."""
    run = [name for name, found in ALL.items() if not all(map(reason, found))]
    return [pytest.param(name, marks=() if name.startswith(QUICK) else pytest.mark.slow) for name in run]


@pytest.mark.docs
@pytest.mark.parametrize("page", pages())
def test_every_command_of_the_page_runs_in_its_order(page: str, tmp_path: Path) -> None:
    copy = CleanCopy(tmp_path, ROOT / page)
    try:
        for command in ALL[page]:
            if not reason(command):
                copy.run(command)
    finally:
        copy.end()


@pytest.mark.docs
@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = [(line, content) for language, line, content in blocks(ROOT / "README.md") if language == "python"]
    copy = CleanCopy(tmp_path, ROOT / "README.md")
    (copy.folder / "example.py").write_text(code[1], encoding="utf-8")
    try:
        copy.run(Command("README.md", code[0], "python example.py"))
    finally:
        copy.end()


SCENARIOS = [
    pytest.param(content, id=f"{page.name}:{line}")
    for page in PAGES
    for language, line, content in blocks(page)
    if language == "yaml" and content.startswith("schema:")
]


@pytest.mark.parametrize("content", SCENARIOS)
def test_scenarios_of_the_pages_are_right(content: str, tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(content, encoding="utf-8")
    for path in re.findall(r"path: ([\w/.]+)", content):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert (load if "users:\n" in content.partition("edge:")[0] else load_power)(file).scenario.name


NOT_RUN = [command for found in ALL.values() for command in found if reason(command)]


@pytest.mark.parametrize("command", NOT_RUN, ids=str)
def test_what_cannot_be_run_is_a_command(command: Command) -> None:
    words = command.words
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for place in (place for place, word in enumerate(words) if Path(word).name == "equiran" and place + 1 < len(words)):
        if words[place - 1] != "get":
            scenario = parsed(words[place + 1 :]).get("scenario")
            assert scenario is None or scenario.is_absolute() or named(command, str(scenario))
    for word in words:
        assert not word.startswith(("scenarios/", "docs/", "tests/")) or (ROOT / word).is_file(), word


def named(command: Command, scenario: str) -> bool:
    return (ROOT / scenario).is_file() or scenario in files(ROOT / command.page)


@pytest.mark.parametrize("pattern", ELSEWHERE)
def test_what_is_excused_is_on_a_page(pattern: str) -> None:
    assert any(fnmatchcase(command.plain, pattern) for command in NOT_RUN)


@pytest.mark.parametrize("page", PAGES, ids=ALL)
def test_commands_stand_in_blocks_that_are_run(page: Path) -> None:
    for language, line, content in blocks(page):
        assert language in ("", "sh", "yaml", "python", "dockerfile"), f"{page.name}:{line}"
        if language == "":
            assert not re.search(r"^ *(?:\$ |(?:\S*/)?(?:equiran|python|pip|make) )", content, re.MULTILINE), line
    assert not re.search(r"^[ >]+```", page.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=ALL)
def test_commands_within_the_text_have_the_options_that_they_name(page: Path) -> None:
    for line in re.findall(r"`(?:\.venv/bin/)?equiran ([a-z][^`]*)`", page.read_text(encoding="utf-8")):
        command, rest = chosen(line.split())
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, line
