"""What the OWO-FMTL paper says in words about convex streams, and a stream that needs fairness."""

from itertools import pairwise

import numpy as np

from sim.report.style import Chart, run_colour
from sim.reproduce.drawing import Curve, log_log_panel
from sim.reproduce.jobs import Job, Size, seeds
from sim.reproduce.rows import MEASURED, Row, always, at_most, near, row
from sim.reproduce.runs import Floats, Runs

SIMILARITIES = (0.0, 0.5, 0.8, 0.95)
HORIZONS = ("slot", "round", "run")
_DIAMETER = 4.0
"""D of the box [-1, 1]^4."""


def rounds(size: Size) -> int:
    """T."""
    return 16 if size.quick else 512


def jobs(size: Size) -> list[Job]:
    """Everything but Fig. 2's own curves."""
    found = [job for s in SIMILARITIES for rule in ("running_mean", "scratch") for job in _similar(s, rule, size)]
    found += [job for horizon in (*HORIZONS, "efficient") for job in _horizon(horizon, size)]
    return [*found, *_conflict("owo", size), *_conflict("equal", size)]


def rows(runs: Runs, size: Size) -> list[Row]:
    """Rows in the order of `jobs`."""
    return [*_similarity_rows(runs, size), *_horizon_rows(runs, size), *_conflict_rows(runs, size)]


def charts(runs: Runs, size: Size) -> list[Chart]:
    """What the outer loop is worth against how similar rounds are."""
    ratios, gains = _similarity(runs, size)
    x = 1 - np.array(SIMILARITIES)
    curves = [
        Curve("measured", run_colour(0), x, gains),
        Curve("ratio of the bounds, D / D*", run_colour(1), x, ratios, "--"),
    ]
    panel = log_log_panel("Regret from scratch / regret of OWO-FMTL", curves, "1 - similarity")
    caption = "Both with the theory's step for the D* of the stream, 32 slots per round, alpha 1."
    return [Chart("similarity", "When the outer loop pays", caption, (panel,))]


def _similar(similarity: float, rule: str, size: Size) -> list[Job]:
    sets = (f"users.*.task.similarity={similarity}", f"edge.meta.rule={rule}", "slots=32", f"rounds={rounds(size)}")
    label = f"similarity_{similarity:g}-{rule}"
    return seeds("stress/similarity.yaml", label, (*sets, "record.slots=false"), size.seeds)


def _similarity(runs: Runs, size: Size) -> tuple[Floats, Floats]:
    """D / D* and regret from scratch over that of OWO-FMTL, both [S, similarities]."""
    ratios, gains = [], []
    for similarity in SIMILARITIES:
        ours, scratch = _similar(similarity, "running_mean", size), _similar(similarity, "scratch", size)
        ratios.append(_DIAMETER / runs.summary(ours, "d_star"))
        gains.append(runs.summary(scratch, "regret_mean") / runs.summary(ours, "regret_mean"))
    return np.stack(ratios, axis=1), np.stack(gains, axis=1)


def _similarity_rows(runs: Runs, size: Size) -> list[Row]:
    ratios, gains = _similarity(runs, size)
    found = []
    for i, similarity in enumerate(SIMILARITIES):
        said = f"about D/D* = {ratios[:, i].mean():.2f}"
        metric, why = "regret from scratch / regret, m = 32", "the paper compares bounds; D/D* is their ratio"
        found.append(row("Sec. III", f"similarity {similarity:g}", metric, said, gains[:, i], MEASURED, why))
    rise = gains[:, -1] / gains[:, 0]
    metric = f"regret from scratch / regret: at similarity {SIMILARITIES[-1]:g} over at {SIMILARITIES[0]:g}"
    why = "both with the theory's step for the stream's own D*, which flat directions keep large"
    verdict = at_most(-float(rise.mean()), -1, 0.05)
    return [*found, row("Sec. III", "similarity", metric, "pays when tasks are similar: above 1", rise, verdict, why)]


def _horizon(horizon: str, size: Size) -> list[Job]:
    what = "edge.aggregator.alpha=0" if horizon == "efficient" else f"edge.aggregator.horizon={horizon}"
    sets = (what, "slots=32", f"rounds={rounds(size)}", "record.slots=false")
    return seeds("stress/conflict.yaml", f"horizon_{horizon}", sets, size.seeds)


def _horizon_rows(runs: Runs, size: Size) -> list[Row]:
    all_jobs = [_horizon(horizon, size) for horizon in HORIZONS]
    jensen = [[(runs.shared(j, "fairness") >= runs.shared(j, "slot_fairness") - 1e-9).mean() for j in jobs]
              for jobs in all_jobs]  # fmt: skip
    share = np.array(jensen).mean(axis=0)
    found = [
        row("Sec. II", "conflict", "share of rounds with F(mean u) >= mean F(u)", "1 (Jensen)", share,
            always(float(share.mean())), "exact for a concave F; all three horizons")
    ]  # fmt: skip
    efficient = runs.utilities(_horizon("efficient", size)).sum(axis=1)
    prices = np.array([1 - runs.utilities(jobs).sum(axis=1) / efficient for jobs in all_jobs])
    for horizon, price in zip(HORIZONS, prices, strict=True):
        metric = f"price of fairness, horizon {horizon}"
        found.append(
            row(
                "Sec. II",
                "conflict",
                metric,
                "no number printed",
                price,
                MEASURED,
                "against alpha 0 with its own theory step",
            )
        )
    for (shorter, longer), fall in zip(pairwise(HORIZONS), prices[:-1] - prices[1:], strict=True):
        metric, verdict = f"price, horizon {shorter} less {longer}", at_most(-float(fall.mean()), 0, 0.001)
        found.append(row("Sec. II", "conflict", metric, "above 0", fall, verdict, "same seeds, partly within 0.001"))
    return found


def _conflict(rule: str, size: Size) -> list[Job]:
    sets = (f"rounds={rounds(size)}", "record.slots=false")
    equal = ("edge.aggregator={kind: constant, weights: equal}",)
    return seeds("stress/conflict.yaml", f"regret_{rule}", (*sets, *(equal if rule == "equal" else ())), size.seeds)


def _conflict_rows(runs: Runs, size: Size) -> list[Row]:
    ours = runs.summary(_conflict("owo", size), "regret_mean")
    equal = runs.summary(_conflict("equal", size), "regret_mean")
    why = "one of eight users wants the opposite of the others"
    return [
        row("ours", "conflict, K = 8", "regret, OWO-FMTL, m = 128", "prototype 0.011", ours,
            at_most(float(ours.mean()), 0.013, 0.0013), f"{why}; at most 0.013"),
        row("ours", "conflict, K = 8", "regret, equal weights, m = 128", "prototype 0.182", equal,
            near(float(equal.mean()), 0.182, 0.0182), f"{why}; within 10 %"),
    ]  # fmt: skip
