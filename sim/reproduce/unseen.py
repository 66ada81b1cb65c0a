"""The permutation-equivariant network on numbers of users that it was never trained for."""

import numpy as np

from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.p4_capacity import P4Capacity
from sim.power_scores import SAMPLES, score
from sim.reproduce.jobs import PowerJob, Size
from sim.reproduce.power_schemes import SCHEMES, scheme
from sim.reproduce.rows import MEASURED, MET, NOT_MET, OURS, Row, row
from sim.reproduce.runs import Runs

USERS = (7, 25, 40)
"""Between the N of its training, and up to twice the largest of them."""
GOAL = 99.0
"""% of P4's optimum."""
_NAME = "equivariant"


def rows(runs: Runs, size: Size) -> list[Row]:
    """For each N the share of P4's optimum, and how far P3's delay is above its own."""
    found = scheme(_NAME, size)
    return [one for users in USERS for one in (_capacity(runs, found, users, size), _delay(runs, found, users, size))]


def _capacity(runs: Runs, found: list[PowerJob], users: int, size: Size) -> Row:
    scores = [score(runs.policy(job), P4Capacity(), users, job.seed, _channels(size)) for job in found]
    share = np.array([entry["percent_of_optimum"] for entry in scores])
    over = max((entry["violation_mean"] for entry in scores), key=abs)
    verdict = MET if np.median(share) >= GOAL else NOT_MET
    metric = f"% of the optimum, {SCHEMES[_NAME].text}, N = {users}, never trained for"
    why = f"median; largest violation {over:+.4f} W"
    return row("Table III", "P4, sum capacity", metric, f"goal: at least {GOAL:g}", share, verdict, why, OURS)


def _delay(runs: Runs, found: list[PowerJob], users: int, size: Size) -> Row:
    scores = [score(runs.policy(job), P3Delay(), users, job.seed, _channels(size) // 10) for job in found]
    gap = 100 * np.array([entry["gap_mean"] for entry in scores])
    metric = f"delay over the optimum, {SCHEMES[_NAME].text}, N = {users}, never trained for, %"
    return row("Table III", "P3, 30 dB per W", metric, "-", gap, MEASURED, "", OURS)


def _channels(size: Size) -> int:
    return 2000 if size.quick else SAMPLES
