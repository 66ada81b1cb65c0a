"""What a run will need, before it starts: bytes on the wire and memory at the edge."""

from math import prod
from typing import Any

from edge_server.encoders import build_encoder
from sim.participation import most
from sim.planning import blueprint
from sim.room import edge_bytes, parameters_of
from sim.scenario import Scenario

_WORKER_MB = 280
"""Resident memory of a Ray worker with torch, measured on a 2-core machine (torch 2.13, Ray 2.60)."""


def estimate(scenario: Scenario) -> dict[str, Any]:
    """Bytes per slot up and down for all users, parameters, and megabytes: estimates, not bounds.

    Where users are drawn, bytes are those of the mean draw.
    """
    plan = blueprint(scenario, "estimate").plan
    share = most(scenario.participation, len(plan.users)) / len(plan.users)
    first = plan.users[0]
    encoder = build_encoder(scenario.edge.encoder, first.feature_shape, first.dtype, seed=0)
    parameters = parameters_of(encoder)
    up = sum(user.features.nbytes + user.gradient.nbytes for user in plan.users)
    returned = sum(user.feature_gradient.nbytes for user in plan.users if user.trainable_front)
    down = sum(user.outputs.nbytes for user in plan.users) + returned
    held = sum(user.features.whole + user.gradient.whole for user in plan.users)
    trace = 8 * scenario.rounds * (scenario.slots + 1) * parameters if scenario.record.parameters else 0
    return {
        "encoder_parameters": parameters,
        "bytes_up_per_slot": round(share * up),
        "bytes_down_per_slot": round(share * down),
        "sample_bytes_per_user": prod(first.feature_shape) * first.dtype.itemsize,
        "edge_megabytes": round(_WORKER_MB + (edge_bytes(encoder) + 4 * share * held + trace) / 1e6),
    }
