"""Who comes to a run of its own accord, and what they will send: a pure state machine from which the run is planned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

from edge_server.attendance import Refused
from edge_server.plan import Sizes
from protos import PROTOCOL
from protos import reception_pb2 as pb
from protos.tensors import WIRE

LARGEST = 1 << 30
"""Bytes, at most, of a tensor that a guest may announce."""
_RANK = 8
_SHOWN = 5
_DTYPES = {number: dtype for dtype, (number, _) in WIRE.items()}


Place = tuple[int, int]
"""A slot of a run: its round, and its number there."""
START: Place = (0, 0)


class Guest(NamedTuple):
    """A user that is here, and how it came."""

    said: pb.Introduction
    sizes: Sizes


@dataclass
class Reception:
    """users: names in scenario order. scenario: what guests must have alike, as an Introduction has it.

    run: the id of the run that goes on, empty for a new one; places: from which the edge can. here: who came, by name.
    """

    users: Sequence[str]
    scenario: Mapping[str, str]
    run: str = ""
    places: list[Place] = field(default_factory=list)
    here: dict[str, Guest] = field(default_factory=dict)

    def check(self, said: pb.Introduction) -> None:
        """Raises Refused unless these are users of this scenario."""
        if said.protocol != PROTOCOL:
            raise Refused("FAILED_PRECONDITION", f"protocol {said.protocol}, but this edge speaks {PROTOCOL}")
        if told := _differences(self.scenario, said.scenario):
            raise Refused("FAILED_PRECONDITION", f"the scenarios differ: {told}")
        names = names_in(said)
        for name in names:
            if name not in self.users:
                raise Refused("NOT_FOUND", f"no user {name!r} in this scenario")
        if not said.process:
            raise Refused("INVALID_ARGUMENT", "an Introduction names its process")
        if not names or len({*names}) < len(names):
            raise Refused("INVALID_ARGUMENT", f"{len(names)} users, each of another name, are no introduction")

    def enter(self, said: pb.Introduction) -> None:
        """Takes these users in, all or none; a process takes its own place again. Raises Refused."""
        self.check(said)
        self.require_state(said)
        entering = {guest.user: Guest(said, _sizes(guest)) for guest in said.guests}
        for name in entering:
            if name in self.here and self.here[name].said.process != said.process:
                raise taken(name)
        self.here |= entering

    def leave(self, said: pb.Introduction) -> None:
        """Those who came with this introduction, and not anew since, are gone again."""
        self.here = {name: guest for name, guest in self.here.items() if guest.said is not said}

    def require_state(self, said: pb.Introduction) -> None:
        """The state that users bring is of this run; none will do where the run has none. Raises Refused."""
        who = ", ".join(map(repr, names_in(said)[:_SHOWN]))
        if said.run == self.run or not (said.run or self.places):
            return
        if not self.run:
            told = f"{who}: state of run {said.run}, but this run is a new one; join with another state"
        elif not said.run:
            told = f"{who}: no state, but run {self.run} goes on; join with the state that was kept"
        else:
            told = f"{who}: state of run {said.run}, but run {self.run} goes on; join with its state"
        raise Refused("FAILED_PRECONDITION", told)

    @property
    def waits_for(self) -> str:
        """Who is still to come, for people; empty if nobody."""
        missing = [name for name in self.users if name not in self.here]
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        return ", ".join(map(repr, missing[:_SHOWN])) + more

    @property
    def complete(self) -> bool:
        """Everybody is here."""
        return len(self.here) == len(self.users)

    @property
    def sizes(self) -> list[Sizes]:
        """What they will send, in scenario order, once everybody is here."""
        return [self.here[name].sizes for name in self.users]

    @property
    def forgetful(self) -> list[str]:
        """Those who keep no state, in scenario order."""
        return [name for name in self.users if name in self.here and not self.here[name].said.keeps]

    @property
    def first(self) -> Place:
        """The last place from which edge and all users can go on; if there is none, the start: it needs nothing."""
        brought = [places_in(guest.said) for guest in self.here.values()]
        return max(frozenset(self.places).intersection(*brought), default=START)


def names_in(said: pb.Introduction) -> list[str]:
    """The users that it introduces."""
    return [guest.user for guest in said.guests]


def places_in(said: pb.Introduction) -> frozenset[Place]:
    """Those before which its users have their state."""
    return frozenset((key.round, key.slot) for key in said.places)


def taken(name: str) -> Refused:
    """For a process whose user another one is."""
    told = f"user {name!r} has joined already; if that process is gone without a word, the edge sees it within 40 s"
    return Refused("ALREADY_EXISTS", f"{told}: join again then")


def _sizes(guest: pb.Guest) -> Sizes:
    """Raises Refused for sizes that nobody can mean."""
    shape = tuple(guest.feature_shape)
    if guest.dtype not in _DTYPES:
        raise Refused("INVALID_ARGUMENT", f"user {guest.user!r} has dtype {guest.dtype}; a run has FLOAT32 or FLOAT64")
    if not 1 <= len(shape) <= _RANK or 0 in shape or guest.batch == 0:
        told = f"batch {guest.batch}, feature_shape {list(shape)}"
        raise Refused("INVALID_ARGUMENT", f"user {guest.user!r} has {told}; sizes are at least 1, axes 1 to {_RANK}")
    found = Sizes(_DTYPES[guest.dtype], shape, guest.batch, guest.validation_batch)
    size = max(found.batch, found.validation_batch) * prod(shape) * found.dtype.itemsize
    if size > LARGEST:
        raise Refused("INVALID_ARGUMENT", f"user {guest.user!r} would send {size:,} bytes at once, limit {LARGEST:,}")
    return found


def _differences(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """What differs, for people; empty if nothing. Long values are hashes, and tell nothing."""
    keys = [key for key in {**here, **there} if here.get(key) != there.get(key)]
    return ", ".join(_told(key, here.get(key), there.get(key)) for key in sorted(keys)[:_SHOWN])


def _told(key: str, here: str | None, there: str | None) -> str:
    shown = [value for value in (here, there) if value is not None and not value.startswith("#")]
    return f"{key} ({here} at the edge, {there[:40]} here)" if there is not None and len(shown) == 2 else key
