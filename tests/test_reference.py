"""The independent implementation must itself reproduce the golden trace of maths.md A3, every printed digit."""

import numpy as np

import reference as ref


def test_the_reference_reproduces_the_golden_trace() -> None:
    trace = ref.reference_run(ref.GOLDEN_X, ref.GOLDEN_Y, ref.GOLDEN)
    half_digit = {"rtol": 0, "atol": 5.1e-7}
    np.testing.assert_allclose(trace.theta[:, :3], ref.GOLDEN_THETA, **half_digit)
    np.testing.assert_allclose(trace.w[:, :3], ref.GOLDEN_W, **half_digit)
    np.testing.assert_allclose(trace.theta_star, ref.GOLDEN_STARS, **half_digit)
    np.testing.assert_allclose(trace.x, [[0, 0], ref.GOLDEN_STARS[0], ref.GOLDEN_X3], **half_digit)
