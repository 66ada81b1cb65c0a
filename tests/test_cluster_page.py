"""docs/cluster.md and the manifest for KubeRay: what they name is there, and their commands are equiran's."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from sim.cli import app

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
MANIFEST = (ROOT / "scenarios/cluster/rayjob.yml").read_text(encoding="utf-8")
IMAGE_ROOT = "/home/ray/equiran/"
"""Where the page's image holds the repository."""


def parsed(line: str) -> dict[str, Any]:
    """The options of an equiran command line. Raises a UsageError of click where it is not one."""
    program, name, *words = shlex.split(line)
    assert Path(program).name == "equiran"
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    return dict(command.make_context(name, words).params)


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST))


def containers(cluster: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield from group["template"]["spec"]["containers"]


def test_the_manifest_runs_a_scenario_that_is_in_its_image() -> None:
    job = documents()[0]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    params = parsed(job["spec"]["entrypoint"])
    scenario = str(params["scenario"])
    assert scenario.startswith(IMAGE_ROOT)
    assert (ROOT / scenario.removeprefix(IMAGE_ROOT)).is_file()
    assert params["as_json"]
    assert f"COPY --chown=ray . {IMAGE_ROOT.rstrip('/')}" in PAGE


def test_the_manifest_keeps_the_token_on_and_the_run_on_a_volume() -> None:
    job, claim = documents()
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    out = Path(parsed(job["spec"]["entrypoint"])["out"])
    head = cluster["headGroupSpec"]["template"]["spec"]
    (mount,) = head["containers"][0]["volumeMounts"]
    assert Path(mount["mountPath"]) in out.parents
    assert head["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_all_pods_have_one_image_and_the_pages_versions_are_the_manifests() -> None:
    cluster = documents()[0]["spec"]["rayClusterSpec"]
    assert len({container["image"] for container in containers(cluster)}) == 1
    assert f"FROM rayproject/ray:{cluster['rayVersion']}-" in PAGE
    assert f"with Ray {cluster['rayVersion']}" in PAGE


COMMANDS = [
    line.partition(" -- ")[2] or line
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if "equiran run" in line
]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_of_the_page_are_equirans(line: str) -> None:
    parsed(line)


def test_the_page_has_such_commands() -> None:
    assert len(COMMANDS) == 2
