"""Guess and double (footnote 2): what the guess may become, against the definition."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_server.domains import Free
from edge_server.rounds import InnerStep
from edge_server.step_size import Guess


def at(*coordinates: float) -> torch.Tensor:
    return torch.tensor(coordinates, dtype=torch.float64)


def test_it_starts_at_d_over_m_and_doubles_past_the_distance() -> None:
    guess = Guess.first(diameter=8.0, gradient_bound=5.0, slots=16)
    assert guess.d_hat == 0.5
    assert guess.eta == 0.5 / (5.0 * 4.0)
    assert guess.after(at(0, 0), at(0.3, 0.4)) == guess
    assert guess.after(at(1, 1), at(1.3, 1.41)).d_hat == 1.0
    assert guess.after(at(0, 0), at(3, 0)).d_hat == 4.0
    assert guess.after(at(0, 0), at(300, 400)).d_hat == 8.0


@given(
    diameter=st.floats(1e-3, 1e3),
    slots=st.integers(1, 512),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_the_guess_covers_what_was_seen_and_is_at_most_twice_that(
    diameter: float, slots: int, shares: list[float]
) -> None:
    guess = first = Guess.first(diameter, 1.0, slots)
    doublings = 0
    for share in shares:
        before, guess = guess, guess.after(at(0), at(share * diameter))
        assert guess.d_hat >= before.d_hat
        doublings += round(math.log2(guess.d_hat / before.d_hat)) if guess.d_hat < diameter else 0
    largest = max(shares) * diameter
    assert largest * (1 - 1e-12) <= guess.d_hat <= max(first.d_hat, 2 * largest, 0.0) * (1 + 1e-12)
    assert guess.d_hat <= diameter
    assert doublings <= math.ceil(math.log2(slots))


def test_an_inner_step_without_a_guess_stays_and_a_limit_caps_it() -> None:
    fixed = InnerStep(0.1, Free(), None)
    assert fixed.after(at(0), at(5)) is fixed
    guess = Guess.first(8.0, 1.0, 16)
    free, capped = (InnerStep(guess.eta, Free(), None, guess, limit) for limit in (None, 0.5))
    assert free.after(at(0), at(3)).eta == pytest.approx(1.0)
    assert capped.after(at(0), at(3)).eta == 0.5
    assert capped.after(at(0), at(3)).guess == free.after(at(0), at(3)).guess
