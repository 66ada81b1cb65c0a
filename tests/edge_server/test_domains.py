import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_server.domains import Ball, Box, Domain, Free

points = st.lists(st.floats(-10, 10), min_size=2, max_size=5)
domains = st.sampled_from([Free(), Box(1.5), Ball(2.0)])


def test_box_clips_and_ball_scales() -> None:
    theta = torch.tensor([3.0, -4.0], dtype=torch.float64)
    assert Box(3.5).project(theta).tolist() == [3.0, -3.5]
    assert Ball(1.0).project(theta).tolist() == pytest.approx([0.6, -0.8])
    assert torch.equal(Ball(5.0).project(theta), theta)
    assert torch.equal(Free().project(theta), theta)


def test_diameters() -> None:
    assert Box(1.0).diameter(4) == 4.0
    assert Ball(3.0).diameter(7) == 6.0
    assert Free().diameter(2) == math.inf


@given(domains, points, points)
def test_projection_satisfies_the_variational_inequality(domain: Domain, a: list[float], b: list[float]) -> None:
    size = min(len(a), len(b))
    theta = torch.tensor(a[:size], dtype=torch.float64)
    member = domain.project(torch.tensor(b[:size], dtype=torch.float64))
    nearest = domain.project(theta)
    assert float((theta - nearest) @ (member - nearest)) <= 1e-9
    assert torch.allclose(domain.project(nearest), nearest)


def test_type_is_kept() -> None:
    theta = torch.full((3,), 9.0)
    assert {domain.project(theta).dtype for domain in (Free(), Box(1), Ball(1))} == {torch.float32}


@pytest.mark.parametrize("size", [0.0, -1.0, math.inf, math.nan])
def test_senseless_sizes_are_refused(size: float) -> None:
    for make in (Box, Ball):
        with pytest.raises(ValueError, match="positive and finite"):
            make(size)
