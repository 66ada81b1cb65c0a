"""Every rule on every stream: what it reaches, its sum |w|, and the edge's time and the bytes of a slot."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edge_server.aggregators import build_aggregator
from sim.report.style import Chart
from sim.reproduce.drawing import Dot, dots_panel
from sim.reproduce.experiment import Experiment
from sim.reproduce.jobs import Job, Size, seeds
from sim.reproduce.rainbow import FREE
from sim.reproduce.rows import MEASURED, NO_ANSWER, Row, row
from sim.reproduce.runs import Floats, Runs

TUNED = "constant, tuned"
GRAMIAN = ("mgda", "pcgrad", "cagrad", "nash_mtl", "fairgrad", "imtl_g", "aligned_mtl", "upgrad")
RULES: dict[str, tuple[str, ...]] = {
    "owo_fmtl": (),
    "owo_fmtl, sum 1": ("edge.aggregator.scale={sum: 1.0}",),
    "owo_fmtl, mean weight": ("edge.aggregator.scale=mean",),
    "owo_fmtl, leader": ("edge.aggregator.dual=follow_the_leader",),
    "parameter_free": FREE,
    "equal": ("edge.aggregator={kind: constant, weights: equal}",),
} | {kind: (f"edge.aggregator.kind={kind}",) for kind in ("scale_invariant", "q_ffl", "afl", *GRAMIAN)}


class Stream(NamedTuple):
    """Where rules meet. shares: of user 0 in the grid of constant weights, whose sum is `total`."""

    name: str
    file: str
    sets: tuple[str, ...]
    users: int
    shares: tuple[float, ...]
    total: float = 1.0
    measure: str = "regret_mean"

    @property
    def deep(self) -> bool:
        """No oracle, so no regret."""
        return self.measure != "regret_mean"


_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
STREAMS = (
    Stream("stochastic", "owo_fmtl/fig2_stochastic.yaml", (), 2, _SHARES),
    Stream("alternate", "owo_fmtl/fig2_alternate.yaml", (), 2, _SHARES),
    Stream("conflict, K = 8", "stress/conflict.yaml", (), 8, (0.125, *_SHARES)),
    Stream("half", "stress/half.yaml", (), 2, _SHARES),
    Stream("Rainbow MNIST, block", "owo_fmtl/fig3_running_mean.yaml", ("edge.meta.rule=continue",), 2,
           (0.3, 0.5, 0.7), 2.0, "val_fairness_mean"),
)  # fmt: skip


def jobs(size: Size) -> list[Job]:
    """All rules and the grid of constant weights on all streams."""
    grids = [job for stream in STREAMS for share in stream.shares for job in constant(stream, share, size)]
    return [job for stream in STREAMS for rule in RULES for job in under(stream, rule, size)] + grids


def under(stream: Stream, rule: str, size: Size) -> list[Job]:
    """One rule on one stream, all seeds; rules that solve for their weights may have no answer."""
    label = "-".join(["rival", rule.replace(", ", "_").replace(" ", "_")])
    return seeds(stream.file, label, (*_sized(stream, size), *RULES[rule]), size.seeds, may_fail=rule in GRAMIAN)


def constant(stream: Stream, share: float, size: Size) -> list[Job]:
    """Constant weights: `share` of their sum for user 0, the rest for the others alike."""
    rest = stream.total * (1 - share) / (stream.users - 1)
    weights = [round(stream.total * share, 6), *[round(rest, 6)] * (stream.users - 1)]
    sets = (*_sized(stream, size), f"edge.aggregator={{kind: constant, weights: {weights}}}")
    return seeds(stream.file, f"rival-constant_{share:g}", sets, size.seeds)


def _sized(stream: Stream, size: Size) -> tuple[str, ...]:
    if not stream.deep:
        return (*stream.sets, f"rounds={8 if size.quick else 128}", f"slots={8 if size.quick else 32}")
    quick = ("rounds=3", "slots=6", "users.*.task.digits=bundled", "users.*.task.validation=50")
    return (*stream.sets, *(quick if size.quick else ()))


def rows(runs: Runs, size: Size) -> list[Row]:
    """One row per stream and rule, and the best constant weights of the grid."""
    return [one for stream in STREAMS for one in _of_stream(runs, stream, size)]


def _of_stream(runs: Runs, stream: Stream, size: Size) -> list[Row]:
    made = [_row(runs, stream, rule, under(stream, rule, size)) for rule in RULES]
    share, best = tuned(runs, stream, size)
    return [*made, _row(runs, stream, TUNED, best, f"; user 0 has {share:g} of the sum, the best of the grid")]


def tuned(runs: Runs, stream: Stream, size: Size) -> tuple[float, list[Job]]:
    """The constant weights of the grid with the best mean over the same seeds, in hindsight."""
    scored = [(_worth(runs, stream, found), share, found) for share in stream.shares
              for found in [constant(stream, share, size)]]  # fmt: skip
    _, share, found = max(scored, key=lambda one: float(one[0].mean()))
    return share, found


def _worth(runs: Runs, stream: Stream, found: Sequence[Job]) -> Floats:
    """Higher is better [S]."""
    values = runs.summary(found, stream.measure)
    return values if stream.deep else -values


def _row(runs: Runs, stream: Stream, rule: str, found: Sequence[Job], more: str = "") -> Row:
    metric = f"{'validation fairness' if stream.deep else 'regret'}, {rule}"
    failures = [failure for job in found if (failure := runs.failure(job))]
    if failures:
        unknown = np.full(len(found), np.nan)
        return row("rivals", stream.name, metric, "-", unknown, NO_ANSWER, f"{len(failures)} seeds: {failures[0]}")
    ours = runs.summary(found, stream.measure)
    return row("rivals", stream.name, metric, "-", ours, MEASURED, _costs(runs, found) + more)


def _costs(runs: Runs, found: Sequence[Job]) -> str:
    first = found[0]
    kind = build_aggregator(first.load().scenario.edge.aggregator).cost
    sum_w = float(runs.summary(found, "sum_w_mean").mean())
    edge, size = 1e6 * runs.edge_seconds(first), runs.bytes_per_slot(first)
    return f"sum |w| {sum_w:.3g}; {kind}; edge {edge:.0f} us per slot; {size:.0f} B per user and slot"


def charts(runs: Runs, size: Size) -> list[Chart]:
    """One panel per stream, best rule on top."""
    panels = [
        dots_panel(f"{stream.name}: {'validation fairness' if stream.deep else 'regret'}",
                   _dots(runs, stream, size), higher_is_better=stream.deep)
        for stream in STREAMS
    ]  # fmt: skip
    caption = "Mean and range over seeds, best on top; an arrow stands for a value beyond the axis."
    return [Chart("rivals", "Every rule on every stream", caption, tuple(panels))]


def _dots(runs: Runs, stream: Stream, size: Size) -> list[Dot]:
    own = ("owo_fmtl", "parameter_free")
    found = {rule: under(stream, rule, size) for rule in RULES} | {TUNED: tuned(runs, stream, size)[1]}
    return [Dot(rule, runs.summary(jobs, stream.measure), rule in own) for rule, jobs in found.items()]


RIVALS = Experiment(
    "rivals",
    "Rivals",
    "Convex streams: 128 rounds of 32 slots, every rule with the theory's step for its own gradients, the oracle as "
    "target, alpha 1; lower regret is better. Rainbow MNIST: outer rule continue, SGD 0.1 whatever the sum of weights; "
    "higher validation fairness is better. Constant weights are tuned over a grid on the same seeds, in hindsight. "
    "`scalars`: the rule reads one number per user; `gramian`: all inner products of the users' gradients. "
    "At alpha 1 `fairgrad` is `nash_mtl`. The edge's times are medians of runs beside each other on a busy machine: "
    "rough, and up to three times what an idle one takes.",
    ("rivals",),
    ("rivals",),
    3,
    jobs,
    rows,
    charts,
)
