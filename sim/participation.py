"""Partial participation as a scenario says it: who draws S of K users, and how often."""

from typing import Annotated, Literal

from pydantic import Field

from edge_server.config_base import Config
from edge_server.participation import Draw
from sim.overrides import USER_CAP
from sim.seeds import stream_seed


class Participation(Config):
    """users: S of those who are there take part. per: for how long they are drawn."""

    users: Annotated[int, Field(ge=1, le=USER_CAP)]
    per: Literal["round", "slot"] = "round"


Takes = Literal["all"] | Participation


def draw(participation: Takes, seed: int) -> Draw | None:
    """The draw of a run with this seed, from one stream; None where everybody takes part."""
    if participation == "all":
        return None
    return Draw(participation.users, participation.per, stream_seed(seed, "participation"))


def most(participation: Takes, users: int) -> int:
    """How many of so many users take part in a slot, at most."""
    return users if participation == "all" else min(users, participation.users)
