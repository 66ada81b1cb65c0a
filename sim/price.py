"""The price of fairness, where the same run without it stands beside a run."""

from collections.abc import Sequence

import numpy as np

from sim.blueprint import Blueprint
from sim.caller import Result
from sim.fairness_measures import Utilities, price_of_fairness
from sim.json_files import write_json
from sim.scenario import Record, Scenario


def price(results: Sequence[Result], designs: Sequence[Blueprint]) -> None:
    """Fill in the price of fairness where the same run with alpha 0 stands beside a run."""
    for result, design in zip(results, designs, strict=False):
        for other, efficient in zip(results, designs, strict=False):
            if numbers(efficient.scenario) == _without_fairness(numbers(design.scenario)):
                paid = price_of_fairness(*_heard(_utilities(result), _utilities(other)))
                result.summary["price_of_fairness"] = paid if np.isfinite(paid) else None
                write_json(result.folder / "summary.json", result.summary)


def _heard(fair: Utilities, efficient: Utilities) -> tuple[Utilities, Utilities]:
    """Both without the users whom neither run heard: equal seeds draw the same users."""
    heard = ~(np.isnan(fair) & np.isnan(efficient))
    return fair[heard], efficient[heard]


def _utilities(result: Result) -> Utilities:
    return np.array([*result.summary["utility_mean"].values()], np.float64)


def numbers(scenario: Scenario) -> Scenario:
    """What a scenario says about its numbers: not where it runs, what it writes and what stands beside it."""
    trains = scenario.radio is not None and scenario.radio.steps_per_round is not None
    edge = scenario.edge if trains else scenario.edge.model_copy(update={"server_tasks": ()})
    elsewhere = {
        "transport": "memory",
        "hosts": "auto",
        "trunk": False,
        "security": None,
        "compare": (),
        "record": Record(),
        "edge": edge,
    }
    return scenario.model_copy(update=elsewhere)


def _without_fairness(scenario: Scenario) -> Scenario:
    aggregator = scenario.edge.aggregator.model_copy(update={"alpha": 0.0})
    return scenario.model_copy(update={"edge": scenario.edge.model_copy(update={"aggregator": aggregator})})
