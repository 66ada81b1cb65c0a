"""From what a scenario says to domains, the outer loop and robust rules."""

import torch
from torch import Tensor

from edge_server import config
from edge_server.custom import build_custom, named
from edge_server.domains import Ball, Box, Domain, Free
from edge_server.outer import OuterLoop, OuterRule, OwnOuter
from edge_server.purity import require_frozen, require_pure
from edge_server.robust import MultiKrum, NormClip, Robust, TrimmedMean

_PARAMETERS = 3
"""Of the model on which a rule of somebody's own is tried out."""


def build_domain(domain: config.Domain) -> Domain:
    """The set that a scenario's `domain` names."""
    if isinstance(domain, config.Box):
        return Box(domain.box)
    if isinstance(domain, config.Ball):
        return Ball(domain.ball)
    return Free()


def build_outer(meta: config.Meta, initial: Tensor, seed: int = 0) -> OuterLoop | OwnOuter:
    """The outer loop before the first round; x_1 is the projection of the encoder's parameters `initial` [d].

    seed: of a rule of your own that draws random numbers. Raises ValueError, one line, where yours cannot be built.
    """
    domain = build_domain(meta.domain)
    x = domain.project(initial.to(torch.float64, copy=True))
    if isinstance(meta.rule, config.CustomOuter):
        return OwnOuter(_own_rule(meta.rule, x, seed), domain)
    rule = meta.rule.step if isinstance(meta.rule, config.StepTowards) else meta.rule
    if rule == "learned":
        rule = "continue"
    return OuterLoop(rule, domain, x)


def require_outer(meta: config.Meta) -> None:
    """Raises ValueError, one line, where a rule of your own cannot be built or does not keep to `OuterRule`."""
    if isinstance(meta.rule, config.CustomOuter):
        x = torch.linspace(-0.5, 0.5, _PARAMETERS, dtype=torch.float64)
        outer = OwnOuter(_own_rule(meta.rule, x, seed=0), build_domain(meta.domain))
        targets = torch.full((2, _PARAMETERS), 0.25, dtype=torch.float64).cumsum(0)
        with named("outer rule", meta.rule.kind):
            require_pure(lambda rule, target: rule.next(target), outer.rule, targets[0], targets[1])
            outer.next(targets[0])


def _own_rule(custom: config.CustomOuter, x: Tensor, seed: int) -> OuterRule:
    rule: OuterRule = build_custom(custom.kind, "outer rule", custom.args, x, seed=seed)
    with named("outer rule", custom.kind):
        require_frozen(rule)
        if not torch.equal(rule.x, x):
            raise ValueError("its x is not the x_1 that it was given; keep it as its first field")
    return rule


def build_robust(rule: config.Robust | None) -> Robust | None:
    """The robust rule that a scenario names."""
    match rule:
        case config.NormClip():
            return NormClip(rule.at)
        case config.MultiKrum():
            return MultiKrum(rule.byzantine)
        case config.TrimmedMean():
            return TrimmedMean(rule.share)
        case config.Median():
            return TrimmedMean(0.5)
    return None
