"""Rules that turn the users' utilities into training weights, one file per rule. Yours by `module:Class`."""

import pkgutil

from edge_server import config
from edge_server.aggregators.base import Aggregator, State
from edge_server.aggregators.constant import ConstantWeights
from edge_server.aggregators.owo_fmtl import OwoFmtl
from edge_server.fairness import AlphaFair

__all__ = ["Aggregator", "ConstantWeights", "OwoFmtl", "State", "build_aggregator"]


def build_aggregator(aggregator: config.Aggregator) -> Aggregator:
    """The rule that a scenario asks for.

    Raises ValueError when its dual box does not fit in float64, or your own class cannot be built.
    """
    fairness = AlphaFair(aggregator.alpha, aggregator.u_min, aggregator.u_max)
    if isinstance(aggregator, config.Constant):
        return ConstantWeights(fairness, aggregator.weights)
    if isinstance(aggregator, config.CustomAggregator):
        return _custom(aggregator, fairness)
    scale = aggregator.scale.sum if isinstance(aggregator.scale, config.ScaleTo) else aggregator.scale
    return OwoFmtl(fairness, aggregator.dual, aggregator.horizon, aggregator.index, scale)


def _custom(aggregator: config.CustomAggregator, fairness: AlphaFair) -> Aggregator:
    try:
        rule: Aggregator = pkgutil.resolve_name(aggregator.kind)(fairness, **aggregator.args)
    except Exception as error:
        raise ValueError(f"aggregator {aggregator.kind}: {type(error).__name__}: {error}") from error
    return rule
