"""The golden scenario's arrays are the numbers of maths.md A3, no others."""

from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "scenarios" / "owo_fmtl"

# phi[t][i][k] and y[t][i][k], as printed in maths.md A3
PHI = [
    [[[1, 0.5], [1, -0.5]], [[1, 0.2], [0.5, 1]], [[0.3, 1], [1, 1]]],
    [[[0.5, 0.5], [1, 0]], [[0, 1], [1, 0.5]], [[1, 1], [0.2, 0.8]]],
]
Y = [[[0.5, -1], [1, 0.25], [-0.5, 0.5]], [[1, 0], [-1, 0.5], [0.25, 0.75]]]


@pytest.mark.parametrize(("user", "name"), [(0, "golden_a.npz"), (1, "golden_b.npz")])
def test_golden_arrays_are_the_printed_numbers(user: int, name: str) -> None:
    with np.load(FOLDER / name, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["x", "y"]
        x, y = arrays["x"], arrays["y"]
    assert x.dtype == y.dtype == np.float64
    np.testing.assert_array_equal(x, np.array(PHI)[:, :, user, None, :])
    np.testing.assert_array_equal(y, np.array(Y)[:, :, user, None])
