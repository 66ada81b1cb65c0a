"""What is said of a cluster's address before Ray is asked. Tokens that a real cluster refuses: test_two_hosts.py."""

import socket
import time
from pathlib import Path

import pytest

import sim.reach
from sim.local import ProcessLost
from sim.reach import ClusterError, Head, our_token, require_reachable


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_dashboards_address_is_told_from_a_clusters() -> None:
    with pytest.raises(ClusterError, match=r"^cannot reach Ray at http://head:8265: it is a dashboard, "):
        require_reachable("http://head:8265")


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_a_port_that_nobody_listens_on_is_named_at_once(prefix: str) -> None:
    with listener() as server:
        address = f"{prefix}127.0.0.1:{server.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(ClusterError, match=f"^cannot reach Ray at {address}: .*refused"):
        require_reachable(address)
    assert time.monotonic() - started < 3


def test_what_is_not_an_address_is_left_to_ray() -> None:
    require_reachable("auto")


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_token_is_looked_for_where_ray_looks(no_token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = no_token / ".ray/auth_token"
    assert our_token() == ("", f"no {default}")
    default.parent.mkdir()
    default.write_text("default\n")
    assert our_token() == ("default", str(default))
    given = no_token / "given"
    given.write_text("given\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(given))
    assert our_token() == ("given", str(given))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "spoken")
    assert our_token() == ("spoken", "RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert our_token() == ("", "RAY_AUTH_MODE=disabled")


def test_a_token_file_that_cannot_be_read_is_named(no_token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(no_token / "missing"))
    with pytest.raises(ClusterError, match=r"cannot read the token in .*/missing: No such file or directory"):
        our_token()


def test_a_head_that_is_not_heard_for_long_enough_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim.reach, "_LOOK", 0.0)
    monkeypatch.setattr(sim.reach, "_GONE", 0.5)
    with listener() as server:
        head = Head(f"127.0.0.1:{server.getsockname()[1]}")
        head.check()
    head.check()
    time.sleep(0.6)
    with pytest.raises(ProcessLost, match=r"the head of the Ray cluster at 127.0.0.1:\d+ has not been heard for 0.5 s"):
        head.check()
