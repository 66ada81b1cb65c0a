"""`bench slot --policy`: what a power policy, and the radio around it, cost the edge in a slot."""

from time import perf_counter
from typing import Any, Literal

import numpy as np

from edge_server.radio.clock import Computing
from edge_server.radio.gains import Trace
from edge_server.radio.power import Downlink, PowerPolicy, build_power
from edge_server.radio.power.sum_capacity import CAP
from edge_server.radio.radio import Link, Radio
from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.policy import Policy
from edge_server.routed_mtl.publishing import publish
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.tasks import Tasks
from edge_server.routed_mtl.training import Trainer

PolicyName = Literal["equal", "optimal", "min_max", "sum_capacity", "routed_mtl"]

_CALLS = 500
_LINK = Link(rho=10.0, bandwidth=1e6, p_tot=10.0, user_power=np.array(1.0))


def policy_share(name: PolicyName, users: int, sizes: tuple[int, int, int, int], slot_ms: float) -> dict[str, Any]:
    """Medians over 500 slots of Rayleigh gains: one call, and all that the radio does; shares of a slot of slot_ms.

    sizes: bytes of a user's features, outputs, feedback and acknowledgement.
    """
    gains = np.random.default_rng(0).exponential(size=(1, _CALLS, users))
    policy = _built(name, gains[0])
    a, bits = _LINK.rho * gains[0], np.full(users, 8.0 * sizes[1])
    call = np.array([_timed(lambda i=i: policy.power(a[i], bits)) for i in range(_CALLS)])
    equal = build_power("equal", Downlink(_LINK.p_tot, _LINK.bandwidth))
    radio = Radio(Trace(gains), _LINK, policy, equal, deadline=1.0, most=CAP * _LINK.p_tot)
    radio.begin_round(0)
    table = np.tile(np.array(sizes)[:, None], (1, users))
    slot = np.array([_timed(lambda i=i: _slot(radio, i, table)) for i in range(_CALLS)])
    call_us, radio_us = 1e6 * float(np.median(call)), 1e6 * float(np.median(slot))
    return {
        "policy": name,
        "policy_us": call_us,
        "policy_share": call_us / (1e3 * slot_ms),
        "radio_us": radio_us,
        "radio_share": radio_us / (1e3 * slot_ms),
    }


def _slot(radio: Radio, i: int, sizes: Any) -> None:
    users = sizes.shape[1]
    radio.features(i, sizes)
    radio.feedback(i, sizes, np.zeros(users))
    radio.end(i, sizes, np.zeros(users, bool), Computing(np.zeros(users), 0.0, 0.0))


def _timed(work: Any) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def _built(name: PolicyName, gains: Any) -> PowerPolicy:
    downlink = Downlink(_LINK.p_tot, _LINK.bandwidth)
    if name == "routed_mtl":
        return build_power(name, downlink, policy=_network(gains.shape[1]))
    if name == "sum_capacity":
        return build_power(name, downlink, gains=_LINK.rho * gains)
    return build_power(name, downlink)


def _network(users: int) -> Policy:
    """An untrained network: it costs what a trained one does."""
    tasks = Tasks.of([(P3Delay(), max(users, 2))])
    design = Design(inputs="log_gain", skip=True, places=max(20, users))
    return publish(Trainer(tasks, design, draw_samples(tasks, 64, design.seed, design.places)))
