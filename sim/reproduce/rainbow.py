"""The runs of Figs. 3 and 4: Rainbow MNIST under outer rules, targets and weights, shared by both figures."""

import numpy as np

from sim.reproduce.jobs import Job, Size, seeds
from sim.reproduce.runs import Floats, Runs

L_MAX = 3.3
USERS = ("clean", "attacked")
OUTER = ("running_mean", "continue")
WEIGHTS = {
    "owo": (),
    "mean_weight": ("edge.aggregator.scale=mean",),
    "sum_to_one": ("edge.aggregator.scale={sum: 1.0}",),
    "halves": ("edge.aggregator={kind: constant, weights: [0.5, 0.5]}",),
    "same_sum": ("edge.aggregator={kind: constant, weights: [0.71, 0.71]}",),
    "ones": ("edge.aggregator={kind: constant, weights: [1.0, 1.0]}",),
}
"""same_sum: OWO-FMTL's weights sum to 1.42 on average (maths.md A4)."""
FREE = ("edge.aggregator.kind=parameter_free", "edge.primal.step=free", "edge.meta.rule=learned")
ADVERSARIES = {"block": (), "every": ("users.1.adversary.hostile=every",), "none": ("users.1.adversary=[]",)}
"""What happens to the attacked user's labels; block is the paper's."""
NAMES = {
    "owo": "OWO-FMTL",
    "mean_weight": "OWO, mean weight",
    "sum_to_one": "OWO, sum 1",
    "halves": "(.5, .5)",
    "same_sum": "(.71, .71)",
    "ones": "(1, 1)",
}


def rainbow(
    size: Size,
    outer: str,
    weights: str = "owo",
    target: str = "last",
    heads: str = "carried",
    adversary: str = "block",
) -> list[Job]:
    """One line of the pictures, all seeds. Quick runs use the digits inside scikit-learn: no download."""
    sets = (f"edge.meta.rule={outer}", f"edge.meta.target={target}", f"users.*.head.start={heads}")
    label = f"{outer}-{target}-{weights}" + "-fresh_heads" * (heads == "fresh")
    label += f"-{adversary}" * (adversary != "block")
    more = (*WEIGHTS[weights], *ADVERSARIES[adversary])
    return _seeds(label, (*sets, *more), size)


def rainbow_free(size: Size, adversary: str) -> list[Job]:
    """The parameter-free rule on the same streams, all seeds."""
    return _seeds(f"free-{adversary}", (*FREE, *ADVERSARIES[adversary]), size)


def _seeds(label: str, sets: tuple[str, ...], size: Size) -> list[Job]:
    return seeds("owo_fmtl/fig3_running_mean.yaml", label, (*sets, "record.slots=false", *_small(size)), size.seeds)


def _small(size: Size) -> tuple[str, ...]:
    small = ("rounds=6", "slots=12", "users.*.task.digits=bundled", "users.*.task.validation=50")
    return small if size.quick else ()


def fairness(runs: Runs, jobs: list[Job]) -> Floats:
    """Fairness of the validation utilities by round [S, T]."""
    return np.stack([runs.shared(job, "val_fairness") for job in jobs])


def mean_fairness(runs: Runs, jobs: list[Job]) -> Floats:
    """The same, mean over rounds [S]."""
    return runs.summary(jobs, "val_fairness_mean")


def losses(runs: Runs, jobs: list[Job]) -> Floats:
    """Validation losses [S, T, K]."""
    return np.stack([runs.per_user(job, "val_loss") for job in jobs])


def utilities(runs: Runs, jobs: list[Job]) -> Floats:
    """Validation utilities [S, T, K]."""
    return L_MAX - losses(runs, jobs)
