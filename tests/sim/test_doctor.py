"""What the doctor says of bad machines, given as data, and of this one."""

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from sim.doctor.diagnosis import CHECKS, diagnosis
from sim.doctor.hardware import object_store
from sim.doctor.look import look
from sim.doctor.machine import (
    Clock,
    Cores,
    Data,
    Descriptors,
    Loopback,
    Machine,
    Memory,
    Package,
    Python,
    RayAround,
    Space,
    Started,
    Torch,
    Unseen,
)
from sim.doctor.row import Row
from sim.litter import HELD, RAY, hold, left

GB = 10**9
GOOD = Machine(
    python=Python("3.12.1", ">=3.11"),
    packages=(Package("torch", ">=2.6,<3", "2.13.0+cpu"), Package("torchjd", ">=0.18", None, optional=True)),
    torch=Torch("2.13.0+cpu"),
    cores=Cores(8, 8),
    memory=Memory(32 * GB, 16 * GB),
    shared=Space("/dev/shm", 16 * GB, 16 * GB),
    runs=Space("/home/me/runs", 100 * GB, 50 * GB),
    temporary=Space("/tmp", 100 * GB, 50 * GB),
    descriptors=Descriptors(1024, 1_048_576, least=130, thousand=2128),
    loopback=Loopback(),
    ray=RayAround(),
    data=(Data("mnist", True, "/data/mnist", "equiran data fetch mnist"),),
    clock=Clock(2e9, 1.9e9, 1e-9),
)


def row(name: str, **changes: Any) -> Row:
    """What is said of a good machine with these changes; nothing else is trouble then, but for what hangs on it."""
    (found,) = (row for row in diagnosis(replace(GOOD, **changes)) if row.name == name)
    return found


def test_a_good_machine_has_neither_trouble_nor_notes() -> None:
    assert [found.standing for found in diagnosis(GOOD)] == ["ok"] * len(CHECKS)


@pytest.mark.parametrize(
    ("name", "changes", "standing", "said"),
    [
        ("python", {"python": Python("3.10.4", ">=3.11")}, "trouble", "3.10.4, EquiRAN needs >=3.11"),
        ("packages", {"packages": (Package("daqp", ">=0.7", None),)}, "trouble", "daqp is missing (needs >=0.7)"),
        ("packages", {"packages": (Package("torch", "<3,>=2.6", "2.5.1"),)}, "trouble", "torch 2.5.1 (needs <3,>=2.6)"),
        ("packages", {"packages": (Package("torch", "<3,>=2.6", "3.0.0+cu130"),)}, "trouble", "3.0.0+cu130"),
        ("packages", {"packages": (Package("torchjd", ">=0.18", "0.17", optional=True),)}, "note", "torchjd 0.17"),
        ("torch", {"torch": Torch("2.13.0", cuda="13.0")}, "note", "for CUDA 13.0, and there is no GPU"),
        (
            "torch",
            {"torch": Torch("", failed="OSError: libgomp.so.1")},
            "trouble",
            "cannot be imported: OSError: libgomp",
        ),
        ("gpu", {"graphics": 1}, "note", "1 here, but torch is a CPU build"),
        ("gpu", {"graphics": 2, "torch": Torch("2.13.0", cuda="13.0")}, "note", "its driver does not answer"),
        ("gpu", {"graphics": 1, "torch": Torch("2.13.0", cuda="13.0", gpus=1)}, "ok", "1 that torch can use"),
        ("threads", {"environment": {"OMP_NUM_THREADS": "64"}}, "note", "OMP_NUM_THREADS=64 on 8 cores"),
        ("threads", {"environment": {"MKL_NUM_THREADS": "many"}}, "note", "MKL_NUM_THREADS=many is no number"),
        (
            "threads",
            {"environment": {"OMP_WAIT_POLICY": "ACTIVE"}},
            "note",
            "OMP_WAIT_POLICY=ACTIVE makes idle threads",
        ),
        ("threads", {"cores": Cores(64, 2)}, "note", "2 of 64 cores may be used"),
        ("threads", {"cores": Cores(64, 2), "environment": {"OMP_NUM_THREADS": "2"}}, "ok", "2 of 64 cores"),
        ("memory", {"memory": Memory(GB, 200_000_000)}, "trouble", "0.2 GB free of 1.0 GB"),
        ("memory", {"memory": Memory(2 * GB, GB)}, "note", "1.0 GB free of 2.0 GB"),
        ("/dev/shm", {"shared": Space("/dev/shm", 64_000_000, 64_000_000)}, "note", "Ray wants 4.8 GB"),
        ("runs/", {"runs": Space("/home/me", 100 * GB, 50_000_000)}, "trouble", "50.0 MB free in /home/me"),
        ("runs/", {"runs": Space("/home/me", 100 * GB, 500_000_000)}, "note", "0.5 GB free"),
        ("runs/", {"runs": Space("/", 100 * GB, 50 * GB, writable=False)}, "trouble", "/ cannot be written to"),
        ("/tmp", {"temporary": Space("/tmp", 100 * GB, 4 * GB)}, "note", "4.0 GB free"),
        ("open files", {"descriptors": Descriptors(64, 64, 130, 2128)}, "trouble", "64"),
        ("open files", {"descriptors": Descriptors(256, 1024, 130, 2128)}, "note", "need 2,128 in one process"),
        ("clock", {"clock": Clock(1e9, 1.9e9, 1e-9)}, "trouble", "10,416.7 days before this package was installed"),
        ("clock", {"clock": Clock(2e9, 1.9e9, 0.016)}, "note", "steps of 16 ms"),
        ("loopback", {"loopback": Loopback("no port of 127.0.0.1 can be bound")}, "trouble", "can be bound"),
        ("loopback", {"loopback": Loopback(taken="127.0.0.1:7700")}, "note", "somebody listens on 127.0.0.1:7700"),
        ("proxy", {"environment": {"http_proxy": "http://me:secret@p:3128"}}, "note", "http_proxy=http://p:3128, also"),
        ("proxy", {"environment": {"grpc_proxy": "p:1", "no_proxy": "x, 127.0.0.1"}}, "ok", "not for 127.0.0.1"),
        (
            "ray",
            {"ray": RayAround("h:1", "RAY_ADDRESS: cannot reach Ray at h:1")},
            "trouble",
            "cannot reach Ray at h:1",
        ),
        (
            "ray",
            {"ray": RayAround(stale=("/tmp/ray/current", "h:6379"))},
            "note",
            "names a cluster at h:6379 that is gone",
        ),
        ("ray", {"ray": RayAround(litter=("/tmp/x.held",), daemons=2)}, "note", "2 raylets run here"),
        ("ray start", {"started": Started(1.0, "cannot start Ray here")}, "trouble", "cannot start Ray here"),
        ("ray start", {"started": Started(1.5)}, "ok", "up after 1.5 s"),
        (
            "data sets",
            {"data": (Data("mnist", False, "/d", "equiran data fetch mnist"),)},
            "note",
            "not here: mnist (/d)",
        ),
    ],
)
def test_bad_machines(name: str, changes: Mapping[str, Any], standing: str, said: str) -> None:
    found = row(name, **changes)
    assert (found.standing, bool(found.advice)) == (standing, standing != "ok"), found
    assert said in found.found


def test_what_to_install_is_said_as_pip_takes_it() -> None:
    packages = (Package("torch", "<3,>=2.6", "2.5.1"), Package("daqp", ">=0.7", None), Package("rich", ">=13", "14.0"))
    assert row("packages", packages=packages).advice == "python -m pip install 'torch<3,>=2.6' 'daqp>=0.7'"


def test_what_cannot_be_seen_is_said_and_nothing_raises() -> None:
    blind = {part.name: Unseen("OSError: no such thing") for part in fields(Machine) if part.name != "environment"}
    rows = diagnosis(Machine(**blind))  # type: ignore[arg-type]  # all parts but the environment
    assert {row.found for row in rows if row.name != "proxy"} == {"cannot look: OSError: no such thing"}
    assert {row.standing for row in rows if row.name != "proxy"} == {"note"}


def test_the_object_store_is_of_rays_size() -> None:
    from ray._private.utils import get_shared_memory_bytes, resolve_object_store_memory

    for free in (GB, 30 * GB, 300 * GB, 900 * GB):
        assert object_store(free, get_shared_memory_bytes()) == resolve_object_store_memory(free)


def test_this_machine_is_seen() -> None:
    began = time.monotonic()
    machine = look(start_ray=False)
    assert time.monotonic() - began < 3
    unseen = {
        part.name: str(found) for part in fields(Machine) if isinstance(found := getattr(machine, part.name), Unseen)
    }
    assert not unseen
    assert {package.name for package in machine.packages if not package.optional} >= {"torch", "grpcio"}  # type: ignore[union-attr]
    assert machine.python == Python(sys.version.split()[0], metadata.metadata("equiran")["Requires-Python"])
    assert not [row for row in diagnosis(machine) if row.found.startswith("cannot judge")]


def test_what_a_killed_run_left_is_told_from_what_is_in_use(tmp_path: Path) -> None:
    for name in ("dead", "alive"):
        (tmp_path / f"{RAY}{name}{HELD}").mkdir()
    held = hold(tmp_path / f"{RAY}alive{HELD}")
    try:
        assert [*left(tmp_path)] == [tmp_path / f"{RAY}dead{HELD}"]
    finally:
        os.close(held)


_OTHERS = ("https_proxy", "HTTPS_PROXY", "grpc_proxy", "GRPC_PROXY", "no_grpc_proxy", "NO_GRPC_PROXY")


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def doctor(folder: Path, *options: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(folder), str(root)])
    environment = {**os.environ, "PYTHONPATH": path, **settings.pop("environment", {})}
    command = [sys.executable, "-m", "sim", "doctor", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, **settings)


def test_few_files_a_proxy_many_threads_and_a_cluster_that_is_gone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = f"127.0.0.1:{server.getsockname()[1]}"
    environment = {
        "http_proxy": "http://me:secret@10.0.0.1:3128", **dict.fromkeys(("no_proxy", "NO_PROXY", *_OTHERS), ""),
        "OMP_NUM_THREADS": "4096", "RAY_ADDRESS": gone,
    }  # fmt: skip
    ended = doctor(tmp_path, "--json", preexec_fn=few_files, environment=environment)
    assert (ended.returncode, ended.stderr, ended.stdout.count("\n")) == (1, "", 1)
    assert "secret" not in ended.stdout
    told = json.loads(ended.stdout)
    found = {check["name"]: (check["standing"], check["found"]) for check in told["checks"]}
    assert found["open files"] == ("trouble", "64")
    assert found["proxy"] == ("note", "http_proxy=http://10.0.0.1:3128, also for 127.0.0.1")
    assert found["threads"][1].startswith("OMP_NUM_THREADS=4096 on ")
    assert found["ray"][0] == "trouble"
    assert f"cannot reach Ray at {gone}: " in found["ray"][1]
    assert found["loopback"][1].startswith("a gRPC call over 127.0.0.1 came back")
    assert told["troubles"] == sum(standing == "trouble" for standing, _ in found.values())


def test_without_torch_it_still_says_so(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so is not there')\n")
    ended = doctor(tmp_path, environment={"COLUMNS": "40"})
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "trouble torch" in ended.stdout
    assert "cannot be imported: ImportError: libtorch.so is not there" in " ".join(ended.stdout.split())
    assert max(len(line) for line in ended.stdout.splitlines() if "/" not in line) <= 40


def test_ray_is_started_where_somebody_asks(tmp_path: Path) -> None:
    ended = doctor(tmp_path, "--ray", "--json", environment={"RAY_ADDRESS": "127.0.0.1:9"})
    last = json.loads(ended.stdout)["checks"][-1]
    assert (last["name"], last["standing"]) == ("ray start", "ok")
    assert last["found"].startswith("up after ")


def test_the_page_has_every_check() -> None:
    page = (Path(__file__).parents[2] / "docs/doctor.md").read_text(encoding="utf-8")
    named = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert named == [*CHECKS, "ray start"]
