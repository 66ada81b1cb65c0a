"""A course of any length is a bounded number of means, each of equally many steps."""

import numpy as np
import pytest

from sim.live.course import MOST, Course


@pytest.mark.parametrize("pieces", [1, 7, 1000, 100_000])
@pytest.mark.parametrize("steps", [1, 2 * MOST, 2 * MOST + 1, 10_000])
def test_means_are_those_of_the_stretches(steps: int, pieces: int) -> None:
    values = np.random.default_rng(steps).normal(size=(steps, 3))
    values[::5, 1] = np.nan
    course = Course(3)
    for start in range(0, steps, pieces):
        course.add(values[start : start + pieces])
    assert len(course) == -(-steps // course.width) <= 2 * MOST
    stretches = [values[start : start + course.width] for start in range(0, steps, course.width)]
    expected = np.array([[mean_of_known(x) for x in part.T] for part in stretches])
    np.testing.assert_allclose(course.means(), expected, rtol=1e-12)
    np.testing.assert_allclose(course.means(len(course) // 2), expected[len(course) // 2 :], rtol=1e-12)
    centres = [np.arange(start, min(start + course.width, steps)).mean() for start in range(0, steps, course.width)]
    np.testing.assert_allclose(course.centres(), centres)


def test_nothing_is_nothing() -> None:
    course = Course(2)
    course.add(np.zeros((0, 2)))
    assert course.means().shape == (0, 2)
    assert course.centres().shape == (0,)


def test_many_users_have_fewer_stretches_in_the_same_memory() -> None:
    course = Course(10_000)
    for _ in range(20):
        course.add(np.ones((40, 10_000)))
    assert course.means().shape[0] <= 2 * (1 << 20) // 10_000
    assert (course.means() == 1).all()


def mean_of_known(x: np.ndarray) -> float:
    known = x[np.isfinite(x)]
    return float(known.mean()) if len(known) else np.nan
