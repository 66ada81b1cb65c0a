"""The training runs of Tables II and III: every scheme of the second paper, and ours, on the fourteen tasks."""

from typing import NamedTuple

from edge_server.routed_mtl.design import PAPER_USERS
from sim.reproduce.jobs import PowerJob, Size

PAPER, BEST = "power/paper.yaml", "power/best.yaml"
TASK = "edge.server_tasks.0"
SHOWN_USERS = (5, 12, 20)
"""The N of Figs. 5 to 8."""
W3 = (1, 10, 100)
"""Weights of P3 against P4: labels in P / P_tot count 1, in W they count 100."""


class Scheme(NamedTuple):
    """One scheme. text: as rows call it. printed: its line in the paper's tables, None for ours."""

    text: str
    file: str
    options: tuple[str, ...]
    printed: str | None = None


SCHEMES = {
    "single": Scheme("single", PAPER, ("scheme=single",), "single"),
    "single_power": Scheme("single, |h|^2, 5k steps", PAPER, ("scheme=single", "inputs=power", "stages=[5000, 0]"),
                           "single"),
    "routed": Scheme("proposed", PAPER, (), "proposed"),
    "naive": Scheme("naive, integer", PAPER, ("scheme=naive", "index=integer"), "naive"),
    "naive_one_hot": Scheme("naive, one-hot", PAPER, ("scheme=naive", "index=one_hot"), "naive"),
    "zero_padding": Scheme("zero-padding", PAPER, ("scheme=zero_padding",), "zero-padding"),
    "equivariant": Scheme("equivariant, log-gain", BEST, ("scheme=equivariant",)),
    "best": Scheme("best recipe", BEST, ()),
}  # fmt: skip
"""All take |h| and 10,000 steps unless they say otherwise; w3 is 10."""

PRINTED_RATES = {
    "single": (2.236, 2.797, 3.1053, 3.263, 3.515, 3.754, 3.883),
    "proposed": (2.233, 2.783, 3.047, 3.244, 3.5086, 3.7309, 3.863),
    "naive": (2.075, 2.5064, 2.7618, 2.9531, 3.2135, 3.4437, 3.5729),
    "zero-padding": (0.9166, 1.4712, 1.8420, 2.2043, 2.76, 3.3107, 3.6823),
}
"""Table III, bit/s/Hz, by PAPER_USERS."""
PRINTED_ERRORS = {
    "single": (0.0404, 0.0243, 0.0218, 0.0203, 0.0193, 0.0176, 0.0152),
    "proposed": (0.0425, 0.0351, 0.0353, 0.0287, 0.0247, 0.0203, 0.0171),
    "naive": (0.2405, 0.1865, 0.1380, 0.0965, 0.0689, 0.0510, 0.0428),
    "zero-padding": (0.2216, 0.1025, 0.0659, 0.0434, 0.0264, 0.0183, 0.0178),
}
"""Table II, the mean of (delay - optimal delay)^2 in units the paper does not name, by PAPER_USERS."""


def users_of(size: Size) -> tuple[int, ...]:
    """The N of a table."""
    return SHOWN_USERS if size.quick else PAPER_USERS


def scheme(name: str, size: Size, w3: int = 10) -> list[PowerJob]:
    """One scheme on both problems, all seeds."""
    options = [*SCHEMES[name].options, *([] if w3 == 10 else [f"w3={w3}"])]
    label = name if w3 == 10 else f"{name}-w3_{w3}"
    return trained(SCHEMES[name].file, label, options, size)


def trained(
    file: str, label: str, options: list[str], size: Size, problems: tuple[str, ...] = ("p3", "p4")
) -> list[PowerJob]:
    """The same training run for every seed."""
    groups = ", ".join(f"{{problem: {problem}, users: {[*users_of(size)]}}}" for problem in problems)
    own = [option for option in options if not (size.quick and option.startswith("stages="))]
    said = [f"tasks=[{groups}]", *own, *(_SMALL if size.quick else ())]
    sets = tuple(f"{TASK}.{option}" for option in said)
    return [PowerJob(file, label, sets, seed) for seed in range(size.seeds)]


_SMALL = ("stages=[60, 40]", "samples={train: 300, test: 200, violation: 2000}", "every=10")
