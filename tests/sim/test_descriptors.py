"""Few file descriptors and many users: users share a connection, or it is said before slot 0."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import runs
from sim.certificate_folder import issue


def ran(folder: Path, tree: runs.Tree, soft: int, hard: int) -> "subprocess.CompletedProcess[str]":
    """`equiran run` in a process that may hold so many files."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    command = [sys.executable, "-m", "sim", "run", str(runs.write(folder, tree)), "--json", "--quiet"]
    out = ["--out", str(folder / "out")]
    return subprocess.run([*command, *out], capture_output=True, text=True, preexec_fn=limit, timeout=120)


def test_a_thousand_users_share_a_connection(tmp_path: Path) -> None:
    done = ran(tmp_path, runs.kernel(many=1000, rounds=1, slots=1, transport="grpc"), 256, 256)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "done"


def own_certificates(folder: Path, many: int) -> dict[str, Any]:
    names = [f"user_{k:02d}" for k in range(many)]
    issue(folder / "certs", ["127.0.0.1"], names, {})
    security = {"kind": "mtls", "folder": str(folder / "certs")}
    return runs.kernel(many=many, rounds=1, slots=1, transport="grpc", security=security)


@pytest.mark.parametrize(("hard", "code"), [(150, 1), (1000, 0)])
def test_where_each_has_its_own_the_limit_is_raised_or_named_before_slot_0(
    tmp_path: Path, hard: int, code: int
) -> None:
    done = ran(tmp_path, own_certificates(tmp_path, 60), 100, hard)
    assert done.returncode == code, done.stderr
    if code:
        (line,) = done.stderr.splitlines()
        assert "120 connections need 248 file descriptors in one process, but at most 150 are allowed" in line
        assert "raise `ulimit -n`, or let the users of a host share a certificate" in line
        assert not (tmp_path / "out" / "slots.parquet").exists() or not len(runs.slots(tmp_path / "out")["slot"])
