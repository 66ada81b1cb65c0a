"""Rules that turn the users' feedback into training weights, one file per rule. Yours by `module:Class`."""

from edge_server import config
from edge_server.aggregators.afl import Afl
from edge_server.aggregators.base import Aggregator, Cost, Slot, State
from edge_server.aggregators.checks import check_aggregator
from edge_server.aggregators.constant import ConstantWeights
from edge_server.aggregators.gramian import GramianRule, cagrad_rule, gramian_rule
from edge_server.aggregators.owo_fmtl import OwoFmtl
from edge_server.aggregators.parameter_free import ParameterFree
from edge_server.aggregators.q_ffl import QFfl
from edge_server.aggregators.scale_invariant import ScaleInvariant
from edge_server.custom import build_custom, named
from edge_server.fairness import AlphaFair

__all__ = [
    "Afl",
    "Aggregator",
    "ConstantWeights",
    "Cost",
    "GramianRule",
    "OwoFmtl",
    "ParameterFree",
    "QFfl",
    "ScaleInvariant",
    "Slot",
    "State",
    "build_aggregator",
    "require_fit",
]


def build_aggregator(aggregator: config.Aggregator, seed: int = 0) -> Aggregator:
    """The rule that a scenario asks for; seed: of a rule that draws random numbers.

    Raises ValueError when its dual box does not fit in float64, your own class cannot be built, or it needs a library
    that is not installed.
    """
    fairness = AlphaFair(aggregator.alpha, aggregator.u_min, aggregator.u_max)
    match aggregator:
        case config.OwoFmtl(scale=scale):
            total = scale.sum if isinstance(scale, config.ScaleTo) else scale
            return OwoFmtl(fairness, aggregator.dual, aggregator.horizon, aggregator.index, total)
        case config.Constant(weights=weights):
            return ConstantWeights(fairness, weights)
        case config.ScaleInvariant() | config.ParameterFree():
            return ScaleInvariant(fairness) if aggregator.kind == "scale_invariant" else ParameterFree(fairness)
        case config.QFfl(q=q):
            return QFfl(fairness, q)
        case config.Afl(step=step):
            return Afl(fairness, step)
        case config.Cagrad(c=c):
            return cagrad_rule(fairness, c)
        case config.Gramian(kind=kind):
            return gramian_rule(kind, fairness, seed)
        case config.CustomAggregator():
            rule: Aggregator = build_custom(aggregator.kind, "aggregator", aggregator.args, fairness, seed=seed)
            return rule


def require_fit(aggregator: config.Aggregator, users: int) -> None:
    """Raises ValueError where the rule cannot be built, serve so many users or, your own, keep to the protocol."""
    rule = build_aggregator(aggregator)
    rule.start(users)
    if isinstance(aggregator, config.CustomAggregator):
        with named("aggregator", aggregator.kind):
            check_aggregator(rule, users)
