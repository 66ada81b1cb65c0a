"""Machines on one machine: each in namespaces of its own (network, processes, mounts), joined by a bridge.

A machine lives as long as its first process, which lives as long as the pipe from this one: whatever happens to the
tests, nothing is left. The bridge and all addresses are inside a namespace, too.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/cluster.md"
NETWORK = "10.213.7"
ADDRESS = f"{NETWORK}.1:6379"
NEEDED = ("ip", "tc", "unshare", "nsenter", "mount")


def cannot() -> str | None:
    """Why there can be no such machines here; None if there can."""
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        return f"needs {', '.join(missing)}"
    try:
        with Machine() as machine:
            machine.network("ip link add switch type bridge")
            machine.network("tc qdisc add dev switch root tbf rate 1mbit burst 32kb latency 400ms")
    except subprocess.CalledProcessError as error:
        return f"needs root, namespaces, bridges and tc tbf: {error.stderr.strip()}"
    return None


class Machine:
    """A machine without a network yet. Its processes end with it."""

    def __init__(self) -> None:
        apart = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        self._holder = subprocess.Popen(
            [*apart, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._holder.stdin
        assert self._holder.stdout
        self._holder.stdin.write(b"up\n")
        self._holder.stdin.flush()
        if not self._holder.stdout.readline():
            said = self._holder.communicate()[1].decode()
            raise subprocess.CalledProcessError(self._holder.wait(), apart, stderr=said)
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text()
        self.first = int(children.split()[0])

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Power cut: every process is gone at once, and says nothing."""
        self._holder.kill()
        self._holder.communicate()

    def command(self, line: str, folder: Path | None = None) -> list[str]:
        """What runs `line` on this machine, in a folder that it has."""
        there = [f"--wd={folder}"] if folder else []
        return ["nsenter", "--target", str(self.first), "--net", "--pid", "--mount", *there, "sh", "-c", line]

    def do(self, line: str, **more: Any) -> None:
        """Runs `line` there. Raises CalledProcessError."""
        _run(self.command(line), **more)

    def network(self, line: str) -> None:
        """Runs `line` on its network alone, where processes have the numbers that we know them by."""
        _run(["nsenter", "--target", str(self.first), "--net", "sh", "-c", line])

    def processes(self, name: str) -> list[int]:
        """The machine's processes whose command line holds `name`, by the numbers that we know them by."""
        here = os.readlink(f"/proc/{self.first}/ns/pid")
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "ns/pid") == here and name in (process / "cmdline").read_text():
                    found.append(int(process.name))
            except OSError:
                continue
        return found


class TwoHosts:
    """A Ray cluster of two machines as docs/cluster.md builds it: `head`, where drivers run, and `other`.

    `laptop` has no Ray. folder: as in a clone, and all see it; `private` in it is each machine's own, also its home.
    """

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="equiran-hosts-", dir="/tmp"))  # Ray's sockets need a short path
        self.private = self.folder / "private"
        self.private.mkdir()
        (self.folder / "scenarios").symlink_to(ROOT / "scenarios")
        (self.folder / ".venv").mkdir()
        (self.folder / ".venv/bin").symlink_to(Path(sys.executable).parent)
        self.switch = a_switch()
        self.head, self.other, self.laptop = (self._plugged(k) for k in (1, 2, 3))
        start, self._join, self.run = blocks()
        self._follow(self.head, start)
        self._give_token(self.laptop)
        self.join()

    def join(self) -> None:
        """Ray on `other`, which joins the head's."""
        self._give_token(self.other)
        self._follow(self.other, self._join)

    def replace_other(self) -> None:
        """Another machine in place of `other`, in the cluster."""
        self.other.die()
        self.switch.network("ip link del port2 || true")
        self.other = self._plugged(2)
        self.join()

    def close(self) -> None:
        """All machines are gone, and their files."""
        for machine in (self.head, self.other, self.laptop, self.switch):
            machine.die()
        shutil.rmtree(self.folder)

    # ------------------------------------------------------------ the wire to `other`

    def cut(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self.switch.network("ip link set port2 nomaster")

    def heal(self) -> None:
        """What was cut passes again."""
        self.switch.network("ip link set port2 master switch")

    @contextmanager
    def slow(self, rate: str) -> Iterator[None]:
        """Both ways at `rate` of `tc`, such as 2mbit."""
        limit = f"root tbf rate {rate} burst 16kb latency 2s"
        self.switch.network(f"tc qdisc add dev port2 {limit}")
        self.other.network(f"tc qdisc add dev eth0 {limit}")
        yield
        self.switch.network("tc qdisc del dev port2 root")
        self.other.network("tc qdisc del dev eth0 root")

    # ------------------------------------------------------------ programs

    def environment(self, **changes: str | None) -> dict[str, str]:
        """Of programs on the machines. None takes a variable away."""
        own = {
            "RAY_AUTH_MODE": "token",
            "RAY_TMPDIR": str(self.private),
            "RAY_USAGE_STATS_ENABLED": "0",
            "HOME": str(self.private),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        given: Mapping[str, str | None] = {**ours, **own, **changes}
        return {name: value for name, value in given.items() if value is not None}

    def equiran(self, line: str, machine: Machine | None = None, **changes: str | None) -> "subprocess.Popen[str]":
        """The `equiran` command on the head, or on another machine."""
        return self.start(f"exec {sys.executable} -m sim {line}", machine or self.head, **changes)

    def start(self, line: str, machine: Machine, **changes: str | None) -> "subprocess.Popen[str]":
        """Any command, in `folder`."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(machine.command(line, self.folder), env=self.environment(**changes), **pipes)

    def _follow(self, machine: Machine, block: str) -> None:
        """Runs a block of the page, which leaves processes that keep its outputs open: those go to a file."""
        script = self.folder / "block.sh"
        script.write_text(f"set -e\n{block}")
        line = f"sh {script} >{self.private}/said 2>&1 </dev/null || (cat {self.private}/said >&2; exit 1)"
        _run(machine.command(line, self.folder), env=self.environment())

    def _give_token(self, machine: Machine) -> None:
        """What the page says in words: copy the head's token."""
        there = self.folder / "token"
        self.head.do(f"cp {self.private}/.ray/auth_token {there}")
        machine.do(f"mkdir -p {self.private}/.ray && mv {there} {self.private}/.ray/auth_token")

    def _plugged(self, k: int) -> Machine:
        machine = plugged(self.switch, k)
        machine.do(f"mount -t tmpfs none {self.private}")
        return machine


def a_switch() -> Machine:
    """What machines can be plugged into."""
    switch = Machine()
    switch.network("ip link add switch type bridge && ip link set switch up")
    return switch


def plugged(switch: Machine, k: int) -> Machine:
    """A machine at NETWORK.k."""
    machine = Machine()
    veth = f"ip link add port{k} type veth peer name eth0 netns {machine.first}"
    switch.network(f"{veth} && ip link set port{k} master switch up")
    machine.network(f"ip link set lo up && ip link set eth0 up && ip addr add {NETWORK}.{k}/24 dev eth0")
    return machine


def blocks() -> list[str]:
    """What docs/cluster.md runs on its machines, in order: the head's start, the other's, and a run."""
    found = re.findall(
        r"^```sh\n# (?:head|other)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(found) == 3
    return found


def _run(command: list[str], **more: Any) -> None:
    subprocess.run(command, **{"check": True, "capture_output": True, "text": True, "timeout": 60, **more})
