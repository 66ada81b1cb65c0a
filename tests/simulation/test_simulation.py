"""Thousands of runs in virtual time, each with its own faults: whatever happens on the way, the end is that of a quiet
run, or one line says who was lost."""

from collections import Counter

import pytest
from simulated_run import Rehearsal
from simulated_verdict import wrong
from virtual_time import Stuck

SEEDS, BLOCK = 2_000, 500
MANY, LARGE = 50_000, 2_500


def played(seed: int) -> Rehearsal:
    """The run of this seed. Fails with what is wrong, and how to see it again."""
    run = Rehearsal(seed)
    try:
        run.run()
        lines = wrong(run)
    except Stuck as stuck:
        lines = [str(stuck)]
    if lines:
        pytest.fail(f"reproduce: pytest tests/simulation -k seed --seed {seed}\n" + "\n".join(lines), pytrace=False)
    return run


def test_seed(request: pytest.FixtureRequest) -> None:
    """The one that is asked for; else the first."""
    played(request.config.getoption("--seed", default=None) or 0)


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_every_run_ends_as_if_nothing_had_happened(first: int) -> None:
    """And nothing is left out: of so many runs some meet every kind of fault."""
    seen = Counter[str]()
    for seed in range(first, first + BLOCK):
        seen.update(met(played(seed)))
    assert not EVERYTHING - seen.keys()


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SEEDS, SEEDS + MANY, LARGE))
def test_so_do_many_more(first: int) -> None:
    for seed in range(first, first + LARGE):
        played(seed)


EVERYTHING = {
    "cut", "repeated", "lost", "returned", "duplicate", "rejected", "rival", "stranger", "stopped",
    "killed", "vanishes", "garbage", "replay", "failed", "began_anew",
}  # fmt: skip


def met(run: Rehearsal) -> set[str]:
    """What happened in a run."""
    happened = {event["event"] for event in run.edge.events}
    found = {
        "cut": run.network.cuts,
        "repeated": run.network.repeated,
        "rival": run.rivals,
        "stranger": run.strangers,
        "stopped": run.edge.cell.stopping and run.edge.stop_after is not None,
        "failed": run.failure,
    }
    doom = {run.doom[1]} if run.doom and run.failure else set[str]()
    return happened | {name for name, value in found.items() if value} | doom


def test_the_same_seed_is_the_same_run() -> None:
    first, second = played(5), played(5)
    assert first.edge.events == second.edge.events
    assert first.network.log == second.network.log
