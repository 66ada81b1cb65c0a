"""Who gets how much of the downlink's power, one policy per file. Yours by `module:Class`."""

from collections.abc import Callable, Mapping
from typing import Any

from edge_server.custom import build_custom, named
from edge_server.radio.power.base import Downlink, PowerPolicy
from edge_server.radio.power.equal import Equal
from edge_server.radio.power.min_max import MinMax
from edge_server.radio.power.optimal import Optimal
from edge_server.radio.power.routed import Routed
from edge_server.radio.power.sum_capacity import SumCapacity

__all__ = ["Downlink", "Equal", "MinMax", "Optimal", "PowerPolicy", "Routed", "SumCapacity", "build_power"]

KINDS: Mapping[str, Callable[..., PowerPolicy]] = {
    "equal": Equal,
    "optimal": Optimal,
    "min_max": MinMax,
    "routed_mtl": Routed,
    "sum_capacity": SumCapacity,
}


def build_power(kind: str, downlink: Downlink, **args: Any) -> PowerPolicy:
    """The policy of this kind, or the class `module:Class`, called with `downlink` and `args`.

    args: `policy` and `problem` of routed_mtl, `gains` of sum_capacity, none of the others, your own of your class.
    Raises ValueError, one line, for an unknown kind and for what cannot be built.
    """
    if kind not in KINDS and ":" not in kind:
        raise ValueError(f"power: unknown kind {kind!r}; known here: {', '.join(KINDS)}, module:Class")
    if kind not in KINDS:
        own: PowerPolicy = build_custom(kind, "power", args, downlink)
        return own
    with named("power", kind):
        return KINDS[kind](downlink, **args)
