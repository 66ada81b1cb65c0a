"""A machine as plain data: what was found when somebody looked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Unseen(Exception):
    """Stands where something could not be looked at; its text says why, in one line."""


def seen(part: T | Unseen) -> T:
    """What was found. Raises Unseen."""
    if isinstance(part, Unseen):
        raise part
    return part


class Python(NamedTuple):
    """needs: the specifier that the installed package declares."""

    version: str
    needs: str


class Package(NamedTuple):
    """One declared dependency. found: None where it is not installed. optional: of an extra."""

    name: str
    needs: str
    found: str | None
    optional: bool = False


class Torch(NamedTuple):
    """cuda: of the build, None for a CPU build. gpus: that it can use. failed: why it cannot be imported."""

    version: str
    cuda: str | None = None
    gpus: int = 0
    failed: str | None = None


class Cores(NamedTuple):
    """usable: of those seen, by affinity and the limits of a container."""

    seen: int
    usable: int


class Memory(NamedTuple):
    """Bytes, by the limit of a container where it has one."""

    total: int
    free: int


class Space(NamedTuple):
    """A folder's file system: bytes in all, and free for us; and whether we may write there."""

    path: str
    total: int
    free: int
    writable: bool = True


class Descriptors(NamedTuple):
    """How many this process may hold, may raise that to, and needs without users and for 1,000 with certificates."""

    soft: float
    hard: float
    least: int
    thousand: int


class Loopback(NamedTuple):
    """failed: why a gRPC call over 127.0.0.1 did not come back. taken: where `serve` would listen, if somebody does."""

    failed: str | None = None
    taken: str | None = None


class RayAround(NamedTuple):
    """address: RAY_ADDRESS, unreachable: why it cannot be reached. stale: file and address of a Ray that is gone.

    litter: folders and tokens of killed runs. daemons: raylets that run here.
    """

    address: str | None = None
    unreachable: str | None = None
    stale: tuple[str, str] | None = None
    litter: tuple[str, ...] = ()
    daemons: int = 0


class Started(NamedTuple):
    """A Ray that was started to see whether it does. seconds: until it was up."""

    seconds: float
    failed: str | None = None


class Data(NamedTuple):
    """A data set; how: to get it."""

    name: str
    here: bool
    path: str
    how: str


class Clock(NamedTuple):
    """Seconds since 1970: now, and when this package was installed. step: the finest of the monotonic clock."""

    now: float
    installed: float
    step: float


@dataclass(frozen=True)
class Machine:
    """Everything that the checks know. environment: the variables they ask for. graphics: NVIDIA devices there are.

    started: None unless somebody asked to start Ray.
    """

    python: Python | Unseen
    packages: tuple[Package, ...] | Unseen
    torch: Torch | Unseen
    cores: Cores | Unseen
    memory: Memory | Unseen
    shared: Space | Unseen
    runs: Space | Unseen
    temporary: Space | Unseen
    descriptors: Descriptors | Unseen
    loopback: Loopback | Unseen
    ray: RayAround | Unseen
    data: tuple[Data, ...] | Unseen
    clock: Clock | Unseen
    graphics: int | Unseen = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    started: Started | Unseen | None = None
