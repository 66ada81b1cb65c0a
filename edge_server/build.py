"""From what a scenario says to domains and the outer loop."""

import torch
from torch import Tensor

from edge_server import config
from edge_server.domains import Ball, Box, Domain, Free
from edge_server.outer import OuterLoop


def build_domain(domain: config.Domain) -> Domain:
    """The set that a scenario's `domain` names."""
    if isinstance(domain, config.Box):
        return Box(domain.box)
    if isinstance(domain, config.Ball):
        return Ball(domain.ball)
    return Free()


def build_outer(meta: config.Meta, initial: Tensor) -> OuterLoop:
    """The outer loop before the first round; x_1 is the projection of the encoder's parameters `initial` [d]."""
    rule = meta.rule.step if isinstance(meta.rule, config.StepTowards) else meta.rule
    if rule == "learned":
        rule = "continue"
    domain = build_domain(meta.domain)
    return OuterLoop(rule, domain, domain.project(initial.to(torch.float64, copy=True)))
