"""What is released holds all that it needs: sdist and wheel, tried from an empty folder outside the repository."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import runs
from sim.caller import BadScenario
from sim.scenario import ScenarioErrors, load
from sim.scenario_files import write

ROOT = Path(__file__).parents[1]
PACKAGES = ("protos", "edge_server", "user_client", "sim")
SHORT: runs.Tree = {"transport": "memory", "rounds": 2, "slots": 5}
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "runs", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", ".ready*"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a clone has it."""
    folder = tmp_path_factory.mktemp("release") / "source"
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
    return folder


@pytest.fixture(scope="module")
def built(source: Path) -> Path:
    """An sdist of it, and a wheel made from the sdist."""
    before = files(source)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(source.parent / "dist"), str(source)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert "absent from the `packages`" not in made.stdout + made.stderr
    (source.parent / "files.txt").write_text("\n".join(sorted(before)))
    return source.parent / "dist"


@pytest.fixture(scope="module")
def installed(built: Path) -> Path:
    """The wheel in a folder of its own, over the packages that are here."""
    folder = built.parent / "installed"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
    subprocess.run([*command, *map(str, built.glob("*.whl"))], check=True)
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def tracked(built: Path) -> set[str]:
    return {*(built.parent / "files.txt").read_text().splitlines()}


def packaged(names: set[str]) -> Iterator[str]:
    """Where what is in the packages' folders, and the scenarios, lie in a wheel."""
    for name in names:
        top = name.partition("/")[0]
        if top in PACKAGES:
            yield name
        elif top == "scenarios":
            yield f"sim/{name}"


def test_the_wheel_has_every_file_of_the_packages_and_the_scenarios_and_no_other(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        there = {name for name in archive.namelist() if ".dist-info/" not in name}
        told = {name.rpartition(".dist-info/")[2] for name in archive.namelist()} - there
    assert there == {*packaged(tracked(built))}
    assert {"licenses/LICENSE", "METADATA", "entry_points.txt"} <= told


def test_the_sdist_has_all_that_a_wheel_is_made_of(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        there = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert {*packaged(tracked(built)), "LICENSE", "README.md", "pyproject.toml"} <= there


def test_the_version_is_said_in_one_place_and_repeated_where_it_must_be(installed: Path) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert equiran(installed, installed.parent, "--version") == f"equiran {declared}\n"
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == declared
    newest = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert newest == declared


def equiran(installed: Path, folder: Path, *words: str) -> str:
    """What the installed command says."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, str(installed / "bin/equiran"), *words]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_quickstart_runs_from_an_empty_folder(installed: Path) -> None:
    empty = installed.parent / "empty"
    quickstart = "scenarios/quickstart.yaml"
    sets = [f"{key}={value}" for key, value in SHORT.items()]
    short = [*(word for one in sets for word in ("--set", one)), "--quiet", "--out", "run"]
    assert equiran(installed, empty, "scenarios").endswith(f"\nnext: equiran run {quickstart}\n")
    assert files(empty / "scenarios") == files(ROOT / "scenarios")
    equiran(installed, empty, "run", quickstart, *short)
    here = runs.run(empty, {**runs.plain_yaml((ROOT / quickstart).read_text()), **SHORT})
    assert runs.read_json(empty / "run/manifest.json")["digest"] == here.digest
    assert equiran(installed, empty, "report", "run") == "run/report.html\n"


def test_what_is_not_there_is_where_it_comes_from_and_nothing_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    where = "scenarios/stress/chaos.yaml"
    for asked in (where, "chaos.yaml", "chaos"):
        with pytest.raises(ScenarioErrors, match=f"`equiran scenarios` writes it to {where}"):
            load(Path(asked))
    write(Path("scenarios"))
    with pytest.raises(ScenarioErrors, match=rf"did you mean {where}\?"):
        load(Path("chaos"))
    load(Path(where))
    with pytest.raises(
        BadScenario, match=r"is there already, and nothing was written: give another folder with --to DIR"
    ):
        write(Path("scenarios"))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["lowest", "newest"])
def test_it_works_with_the_versions_that_it_declares(which: str, tmp_path: Path) -> None:
    tried = subprocess.run(
        [ROOT / ".ci/try-release", which, tmp_path / which],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(tmp_path / which / "venv", ignore_errors=True)
    assert tried.returncode == 0, tried.stdout[-5000:] + tried.stderr[-5000:]
