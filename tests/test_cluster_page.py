"""docs/cluster.md and the manifest for KubeRay: what they name is there, and the manifest's command is equiran's."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from page_commands import parsed

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
MANIFEST = (ROOT / "scenarios/cluster/rayjob.yml").read_text(encoding="utf-8")
IMAGE_ROOT = "/home/ray/equiran/"
"""Where the page's image holds the repository."""


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST))


def entrypoint(job: dict[str, Any]) -> list[str]:
    """The words behind `equiran`."""
    program, *words = shlex.split(job["spec"]["entrypoint"])
    assert Path(program).name == "equiran"
    return words


def containers(cluster: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield from group["template"]["spec"]["containers"]


def test_the_manifest_runs_a_scenario_that_is_in_its_image() -> None:
    job = documents()[0]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    params = parsed(entrypoint(job))
    scenario = str(params["scenario"])
    assert scenario.startswith(IMAGE_ROOT)
    assert (ROOT / scenario.removeprefix(IMAGE_ROOT)).is_file()
    assert params["as_json"]
    assert f"COPY --chown=ray . {IMAGE_ROOT.rstrip('/')}" in PAGE


def test_the_manifest_keeps_the_token_on_and_the_run_on_a_volume() -> None:
    job, claim = documents()
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    out = Path(parsed(entrypoint(job))["out"])
    head = cluster["headGroupSpec"]["template"]["spec"]
    (mount,) = head["containers"][0]["volumeMounts"]
    assert Path(mount["mountPath"]) in out.parents
    assert head["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_all_pods_have_one_image_and_the_pages_versions_are_the_manifests() -> None:
    cluster = documents()[0]["spec"]["rayClusterSpec"]
    assert len({container["image"] for container in containers(cluster)}) == 1
    assert f"FROM rayproject/ray:{cluster['rayVersion']}-" in PAGE
    assert f"with Ray {cluster['rayVersion']}" in PAGE
