"""What a scenario may say about faults: what goes wrong, at a place or by chance, with a user or at the edge."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_server.config_base import Config, Positive

Index = Annotated[int, Field(ge=0)]


class Place(Config):
    """A slot of the run, both counted from 0."""

    round: Index
    slot: Index


class _Fault(Config):
    at: Place | None = None
    rate: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> "_Fault":
        if (self.at is None) == (self.rate is None):
            raise ValueError("give a place (`at: {round: 3, slot: 5}`) or a chance (`rate: 0.01`), one of the two")
        return self


class _OfUser(_Fault):
    user: str | None = None


class UserFault(_OfUser):
    """What a user does wrong between a slot's outputs and its feedback."""

    kind: Literal["crash", "disconnect", "duplicate", "reorder", "corrupt", "nan", "huge"]


class Hang(_OfUser):
    """The user is silent for so many seconds."""

    kind: Literal["hang"]
    seconds: Positive = Field(alias="for")


class Slow(_OfUser):
    """The user's feedback comes so many seconds later."""

    kind: Literal["slow"]
    seconds: Positive


class Lie(_OfUser):
    """The loss that is reported is `factor` times the true one."""

    kind: Literal["lie"]
    factor: Positive = 3.0


class EdgeFault(_Fault):
    """What goes wrong with the edge, or with the run's disk."""

    kind: Literal["edge_crash", "disk_full"]


OfUser = UserFault | Hang | Slow | Lie
Fault = Annotated[OfUser | EdgeFault, Field(discriminator="kind")]

TENSOR = ("huge", "nan", "corrupt")
"""Kinds that spoil the gradient of a feedback; in one slot, a later one has the last word."""
ONCE = frozenset(("crash", "hang", "slow", "disconnect", "edge_crash", "disk_full"))
"""What happens to processes, streams and disks happens once, whatever is replayed; what is said, each time."""
