"""Power policies on the same learning: delays, slots and fairness against virtual seconds."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from edge_server.radio.power import Downlink, PowerPolicy, build_power
from edge_server.record import ACKNOWLEDGEMENT, OUTPUTS
from edge_server.routed_mtl.policy import load_policy
from sim.radio_replay import Replayed, replay
from sim.report.lines import Line, line_panel
from sim.report.style import Chart, run_colour
from sim.reproduce.drawing import Dot, dots_panel
from sim.reproduce.experiment import Experiment
from sim.reproduce.jobs import Job, PowerJob, Size, seeds
from sim.reproduce.rows import MEASURED, MET, NOT_MET, OURS, Row, row
from sim.reproduce.runs import Floats, Runs

POLICIES = {
    "equal": "equal",
    "optimal": "optimal",
    "min_max": "min-max",
    "p3_delay": "routed, mean",
    "p3_min_max": "routed, longest",
    "root": "rule 1/sqrt(a)",
}
"""By kind, by the problem that a network was trained for, or by a rule of one line."""
CLOSED = 90.0
"""% of the gap between equal and exact power that a network should close."""
_DEADLINE = 2.0
_USERS = 8


def jobs(size: Size) -> list[Job | PowerJob]:
    """One run and one training per seed, and the same run under a deadline."""
    return [
        *_learning(size),
        *_training(size),
        *(job for power in ("equal", "sum_capacity") for job in _late(size, power)),
    ]


def _learning(size: Size) -> list[Job]:
    return seeds("radio/policies.yaml", "equal", _small(size), size.seeds)


def _late(size: Size, power: str) -> list[Job]:
    sets = (*_small(size), f"deadline={_DEADLINE}", f"radio.power={power}")
    return seeds("radio/policies.yaml", f"deadline-{power}", sets, size.seeds)


def _small(size: Size) -> tuple[str, ...]:
    return ("rounds=3", "slots=4") if size.quick else ()


def _training(size: Size) -> list[PowerJob]:
    task = "edge.server_tasks.0"
    small = (f"{task}.stages=[60, 40]", f"{task}.samples={{train: 300, test: 200, violation: 200}}")
    sets = small if size.quick else ()
    return [PowerJob("power/radio.yaml", "radio", sets, seed) for seed in range(size.seeds)]


def replays(runs: Runs, size: Size, kind: str) -> list[Replayed]:
    """One policy over every seed's run."""
    pairs = zip(_learning(size), _training(size), strict=True)
    return [_replay(runs.folder(job), runs.folder(training), job, kind) for job, training in pairs]


@cache
def _replay(folder: Path, training: Path, job: Job, kind: str) -> Replayed:
    scenario = job.load().scenario
    assert scenario.radio is not None
    air = scenario.radio
    return replay(folder, air.link, _policy(kind, Downlink(air.p_tot, air.bandwidth), training), scenario.slots)


def _policy(kind: str, downlink: Downlink, training: Path) -> PowerPolicy:
    if kind in ("p3_delay", "p3_min_max"):
        return build_power("routed_mtl", downlink, policy=load_policy(training / "policy"), problem=kind)
    if kind == "root":
        return _InverseRoot(downlink)
    return build_power(kind, downlink)


class _InverseRoot(NamedTuple):
    """P_n in proportion to 1 / sqrt(a_n): the optimum of the mean delay where all signals are weak."""

    downlink: Downlink

    def power(self, gain: ArrayLike, bits: ArrayLike) -> Floats:
        """P [N] in W."""
        del bits
        share = np.asarray(gain, np.float64) ** -0.5
        return np.asarray(self.downlink.p_tot * share / share.sum())


def rows(runs: Runs, size: Size) -> list[Row]:
    """Delays, the gaps that networks close, how much longer slots are than under min-max, and who is late."""
    found = {kind: replays(runs, size, kind) for kind in POLICIES}
    mean = {kind: np.array([_mean(one) for one in made]) for kind, made in found.items()}
    longest = {kind: np.array([_longest(one) for one in made]) for kind, made in found.items()}
    slots = {kind: np.array([one.slot.mean() for one in made]) for kind, made in found.items()}
    delays = [_row(f"mean downlink delay of a slot, s, {name}", mean[kind]) for kind, name in POLICIES.items()]
    ratios = [
        _row(f"slot time / that of min-max, {name}", slots[kind] / slots["min_max"], f"{slots[kind].mean():.4g} s")
        for kind, name in POLICIES.items()
    ]
    closed = [
        _closed("mean", mean, "optimal", "p3_delay"),
        _closed("longest", longest, "min_max", "p3_min_max"),
        _closed("mean", mean, "optimal", "root"),
    ]
    return [*delays, *closed, *ratios, *(_missed(runs, size, power) for power in ("equal", "sum_capacity"))]


def _mean(made: Replayed) -> float:
    """Mean over slots and users of the seconds that outputs and acknowledgements take down."""
    return float(made.seconds[:, :, [OUTPUTS, ACKNOWLEDGEMENT]].sum(axis=2).mean())


def _longest(made: Replayed) -> float:
    """Mean over slots of the longest of the outputs and of the acknowledgements."""
    return float(made.seconds[:, :, [OUTPUTS, ACKNOWLEDGEMENT]].max(axis=3).sum(axis=2).mean())


def _closed(what: str, delay: Mapping[str, Floats], exact: str, kind: str) -> Row:
    share = 100 * (delay["equal"] - delay[kind]) / (delay["equal"] - delay[exact])
    verdict = MET if share.mean() >= CLOSED else NOT_MET
    why = f"equal {delay['equal'].mean():.4g} s, exact {delay[exact].mean():.4g} s, this {delay[kind].mean():.4g} s"
    metric = f"gap in the {what} downlink delay between equal and exact power that is closed, %, {POLICIES[kind]}"
    if kind == "root":
        return _row(metric, share, f"{why}; no network, one line")
    return row("Radio", _SCENARIO, metric, f"goal: at least {CLOSED:g}", share, verdict, why, OURS)


def _missed(runs: Runs, size: Size, power: str) -> Row:
    found = _late(size, power)
    late, applied = runs.summary(found, "late"), runs.summary(found, "applied")
    fairness = runs.summary(found, "fairness_mean").mean()
    metric = f"slots missed at a deadline of {_DEADLINE:g} s, %, {power}"
    return _row(metric, 100 * late / (late + applied), f"fairness {fairness:.3f}")


_SCENARIO = f"Rainbow digits, {_USERS} users"


def _row(metric: str, ours: Floats, why: str = "") -> Row:
    return row("Radio", _SCENARIO, metric, "-", ours, MEASURED, why, OURS)


def charts(runs: Runs, size: Size) -> list[Chart]:
    """Delays as dots, and fairness against virtual seconds."""
    found = {name: replays(runs, size, kind) for kind, name in POLICIES.items()}
    delays = [
        Dot(name, np.array([_mean(one) for one in made]), name.startswith("routed")) for name, made in found.items()
    ]
    longest = [
        Dot(name, np.array([_longest(one) for one in made]), name.startswith("routed")) for name, made in found.items()
    ]
    panels = (
        dots_panel("Mean downlink delay, s", delays, higher_is_better=False),
        dots_panel("Longest downlink delay, s", longest, higher_is_better=False),
        line_panel("Fairness against virtual seconds", _courses(runs, size, found), x_label="virtual s"),
    )
    caption = "Mean and range over seeds. The learning is the same, digest for digest; only the clock differs."
    return [Chart("radio", "Power policies", caption, panels)]


def _courses(runs: Runs, size: Size, found: Mapping[str, list[Replayed]]) -> list[Line]:
    fairness = np.mean([runs.shared(job, "val_fairness") for job in _learning(size)], axis=0)
    return [
        Line(name, run_colour(index), np.mean([one.clock[:, -1] for one in made], axis=0), fairness)
        for index, (name, made) in enumerate(found.items())
    ]


RADIO = Experiment(
    "radio",
    "Radio: power policies on the same learning",
    "Eight users in a ring of 20 to 200 m: path loss exponent 3, 4 dB shadowing, Rician fading (K = 5), 10 dB per W at "
    "100 m, 10 W down, 1 W up, bands of 1 MHz; outputs and feature gradients go down with their measured bytes. "
    "Networks are trained by scenarios/power/radio.yaml, one per seed, under Rayleigh fading. Min-max power is the "
    "true optimum of what a slot waits for; with equal payloads it is P_n in proportion to 1 / a_n, so a network has "
    "nothing to add there, and little where signals are weak: the rule 1 / sqrt(a_n) needs none either.",
    ("Radio",),
    ("radio",),
    3,
    jobs,
    rows,
    charts,
)
