"""An address at which there is no edge is one line within five seconds, with a hint."""

import asyncio
import socket
import time

import pytest

from user_client.reach import Unreachable, require_reachable


@pytest.fixture
def listening() -> socket.socket:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server  # type: ignore[misc]


def test_somebody_who_listens_is_reached(listening: socket.socket) -> None:
    asyncio.run(require_reachable(f"127.0.0.1:{listening.getsockname()[1]}"))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "Connect call failed.*check host and port, and that the edge is running"),
        ("no-such-host.invalid:50051", "there is no host 'no-such-host.invalid' .*check its name"),
        ("203.0.113.7:50051", "no answer within 4 s; check the address|unreachable|Connect call failed"),
        ("127.0.0.1", "an address is host:port"),
        ("127.0.0.1:99999", "an address is host:port"),
        (":50051", "an address is host:port"),
    ],
)
def test_a_wrong_address_is_one_line_in_time(address: str, reason: str) -> None:
    start = time.monotonic()
    with pytest.raises(Unreachable, match=reason) as caught:
        asyncio.run(require_reachable(address))
    assert time.monotonic() - start < 5
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)
