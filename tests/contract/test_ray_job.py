"""The job of docs/cluster.md on a real Ray with its dashboard, which is installed over our own environment."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import runs
from page_commands import ROOT, commands

SHORT = runs.kernel(many=2, rounds=2, slots=4, hosts=1, transport="ray")
LONG = runs.kernel(many=2, rounds=60, slots=20, hosts=1, transport="ray")
(SUBMIT,) = (page.plain for page in commands(ROOT / "docs/cluster.md") if page.plain.startswith("ray job submit"))


class Cluster:
    """A Ray of one node, which takes jobs. folder: whose, with the token and programs `ray` and `equiran`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            port, board = one.getsockname()[1], other.getsockname()[1]
        self.address = f"http://127.0.0.1:{board}"
        self._make_programs()
        self.do("ray get-auth-token --generate")
        line = f"ray start --head --block --node-ip-address 127.0.0.1 --port {port} --dashboard-port {board}"
        self._said = (folder / "said").open("w")
        self._short = tempfile.mkdtemp(prefix="job", dir="/tmp")
        words = [*shlex.split(line), "--temp-dir", self._short]
        self._ray = subprocess.Popen(words, env=self._environment, stdout=self._said, stderr=self._said)
        self._until_it_takes_jobs()

    def close(self) -> None:
        """Ends Ray and all that it began."""
        self._ray.terminate()
        self._ray.wait(60)
        self._said.close()
        shutil.rmtree(self._short)

    def do(self, line: str) -> subprocess.CompletedProcess[str]:
        """What a command says that ends within two minutes."""
        words = shlex.split(line)
        return subprocess.run(
            words, env=self._environment, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )

    def submit(self, line: str, options: str = "") -> subprocess.CompletedProcess[str]:
        """`equiran` with these words as a job."""
        return self.do(f"ray job submit --address {self.address} {options} -- equiran {line}")

    @property
    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHON"))}
        path = f"{self.folder / 'over/bin'}:{kept['PATH']}"
        return kept | {"HOME": str(self.folder), "PATH": path, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}

    def _make_programs(self) -> None:
        """An environment over ours that has what `pip install ray[default]` adds."""
        over = self.folder / "over"
        venv.create(over, with_pip=True)
        python = over / "bin/python"
        (packages,) = over.glob("lib/python*/site-packages")
        ours = sysconfig.get_path("purelib")
        (packages / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
        subprocess.run([python, "-m", "pip", "install", "-q", f"ray[default]=={version('ray')}"], check=True)
        for name, module in (("ray", "ray.scripts.scripts"), ("equiran", "sim")):
            (over / "bin" / name).write_text(f'#!/bin/sh\nexec {python} -m {module} "$@"\n')
            (over / "bin" / name).chmod(0o755)

    def _until_it_takes_jobs(self) -> None:
        until = time.monotonic() + 60
        while (listed := self.do(f"ray job list --address {self.address}")).returncode:
            assert time.monotonic() < until, listed.stderr + (self.folder / "said").read_text()
            time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("job"))
    try:
        yield made
    finally:
        made.close()


def result(log: str) -> runs.Tree:
    """The one JSON object in a job's log."""
    (line,) = (line for line in log.splitlines() if line.startswith("{"))
    tree: runs.Tree = json.loads(line)
    return tree


@pytest.mark.slow
def test_the_page_s_job_succeeds_with_the_digest_of_one_process(cluster: Cluster, tmp_path: Path) -> None:
    scenario = runs.write(tmp_path, SHORT)
    line = SUBMIT.replace("http://10.213.7.1:8265", cluster.address)
    line = line.replace("/shared/scenario.yaml", str(scenario)).replace("/shared/runs", str(tmp_path))
    ran = cluster.do(line)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "succeeded" in ran.stdout
    told = result(ran.stdout)
    assert told["dir"] == str(tmp_path / "one")
    assert told["digest"] == runs.run(tmp_path, SHORT, "memory").digest


@pytest.mark.slow
def test_a_job_that_cannot_run_fails_with_its_line(cluster: Cluster, tmp_path: Path) -> None:
    ran = cluster.submit(f"run {tmp_path}/none.yaml --json --quiet")
    assert ran.returncode == 1
    assert f"\n{tmp_path}/none.yaml: cannot be read: No such file or directory\n" in ran.stdout
    assert "failed" in ran.stdout


@pytest.mark.slow
def test_a_job_that_is_stopped_has_saved_itself_and_goes_on_as_another(cluster: Cluster, tmp_path: Path) -> None:
    scenario, folder = runs.write(tmp_path, LONG), tmp_path / "two"
    begun = cluster.submit(f"run {scenario} --out {folder} --json --quiet", "--no-wait --submission-id two")
    assert begun.returncode == 0, begun.stdout
    until, rounds = time.monotonic() + 60, folder / "rounds.arrows"
    while not rounds.exists() or rounds.stat().st_size < 2000:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert cluster.do(f"ray job stop --address {cluster.address} two").returncode == 0
    assert result(cluster.do(f"ray job logs --address {cluster.address} two").stdout)["status"] == "stopped"
    assert 0 < runs.read_json(folder / "summary.json")["rounds"] < LONG["rounds"]
    resumed = cluster.submit(f"resume {folder} --json --quiet")
    assert resumed.returncode == 0, resumed.stdout
    assert result(resumed.stdout)["digest"] == runs.run(tmp_path, LONG, "memory").digest
