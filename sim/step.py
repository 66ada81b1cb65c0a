"""The inner step of a run and where it comes from; JSON for the processes that need it."""

import math
from dataclasses import asdict
from typing import Any, NamedTuple

from edge_server.scoring import Theory
from edge_server.step_size import Guess


class Step(NamedTuple):
    """The inner step of a run, and what it comes from.

    eta: of round 0, NaN where it is learned. theory, guess: with `step: theory` and `step: guess`. limit: 1/L where
    eta may not exceed it.
    """

    eta: float
    theory: Theory | None = None
    guess: Guess | None = None
    limit: float | None = None

    @classmethod
    def of_theory(cls, eta: float, theory: Theory, limit: float | None) -> "Step":
        """Theorem 1's eta, or the limit."""
        return cls(eta if limit is None else min(eta, limit), theory, None, limit)

    @classmethod
    def guessed(cls, guess: Guess, limit: float | None) -> "Step":
        """Theorem 1's eta for a guessed D*, or the limit."""
        return cls(guess.eta if limit is None else min(guess.eta, limit), None, guess, limit)

    @property
    def bounding(self) -> Theory | None:
        """The constants of Theorem 1's bound; None where eta is not the theorem's."""
        return None if self.limit is not None and self.eta >= self.limit else self.theory

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        parts = {name: part and asdict(part) for name, part in (("theory", self.theory), ("guess", self.guess))}
        return {"eta": self.eta, "limit": self.limit, **parts}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Step":
        """What `to_dict` gave."""
        theory, guess = content["theory"], content["guess"]
        return cls(content["eta"], theory and Theory(**theory), guess and Guess(**guess), content["limit"])


def described(step: Step | None) -> dict[str, float | None]:
    """What summary.json says of the inner step; null for what was not used, or not known yet."""
    known = step and (step.theory or step.guess)
    return {
        "step": None if step is None or math.isnan(step.eta) else step.eta,
        "d_star": step.theory.d_star if step and step.theory else None,
        "gradient_bound": known.gradient_bound if known else None,
        "step_limit": step and step.limit,
    }
