"""Who is away when: churn as rounds, dealt from one named stream per user."""

import numpy as np

from sim.scenario import Scenario
from sim.seeds import stream_seed


def away(scenario: Scenario) -> list[tuple[int, ...]]:
    """The rounds each user sits out, in scenario order. Everybody is there in round 0, and somebody always is.

    Where all would be away, the first user of the scenario stays.
    """
    absent = np.stack([_coins(scenario, k) for k in range(len(scenario.users))])
    absent[:, 0] = False
    absent[0] &= ~absent.all(axis=0)
    return [tuple(int(t) for t in np.flatnonzero(rounds)) for rounds in absent]


def _coins(scenario: Scenario, k: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """[T]: the rounds in which user k would be away."""
    user = scenario.users[k]
    if user.presence == "always":
        return np.zeros(scenario.rounds, bool)
    rng = np.random.default_rng(stream_seed(scenario.seed, "presence", user.name))
    return rng.random(scenario.rounds) < user.presence.churn
