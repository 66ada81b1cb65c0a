import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import j0

from edge_server.routed_mtl.channels import Cell, Channel, Jakes, PathLoss, Rayleigh, Rician, Shadowing

CELL = Cell(Rayleigh(), PathLoss(exponent=3.0, reference_db=-20.0), Shadowing(4.0), nearest_m=10.0, farthest_m=50.0)
EVERY = [Rayleigh(2.0), Rician(3.0), Jakes(0.05), CELL]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([4, seed])


def fits(samples: np.ndarray, law: "stats.rv_frozen") -> bool:
    """Whether a Kolmogorov-Smirnov test lets samples pass: p > .001, with a fixed seed."""
    return bool(stats.kstest(samples.ravel(), law.cdf).pvalue > 1e-3)


@pytest.mark.parametrize("channel", EVERY, ids=lambda channel: type(channel).__name__)
def test_gains_are_positive_float64_and_follow_the_seed(channel: Channel) -> None:
    one = channel.gains(rng(), 50, 3)
    assert one.shape == (50, 3)
    assert one.dtype == np.float64
    assert (one > 0).all()
    assert np.array_equal(one, channel.gains(rng(), 50, 3))
    assert not np.array_equal(one, channel.gains(rng(1), 50, 3))


@pytest.mark.parametrize("mean", [1.0, 1e-9])
def test_rayleigh_is_exponential(mean: float) -> None:
    gains = Rayleigh(mean).gains(rng(), 50_000, 4)
    assert gains.mean() == pytest.approx(mean, rel=0.01)
    assert fits(gains, stats.expon(scale=mean))


@pytest.mark.parametrize("k_factor", [0.0, 1.0, 10.0])
def test_rician_is_noncentral_chi_square(k_factor: float) -> None:
    gains = Rician(k_factor, mean=3.0).gains(rng(), 50_000, 4)
    assert gains.mean() == pytest.approx(3.0, rel=0.01)
    assert gains.var() == pytest.approx(9 * (1 + 2 * k_factor) / (1 + k_factor) ** 2, rel=0.03)
    scale = 3.0 / (2 * (1 + k_factor))
    assert fits(gains, stats.ncx2(df=2, nc=2 * k_factor, scale=scale) if k_factor else stats.expon(scale=3.0))


def test_without_a_line_of_sight_rician_is_not_what_it_is_with_one() -> None:
    assert not fits(Rician(1.0).gains(rng(), 50_000, 1), stats.expon())


@pytest.mark.parametrize("paths", [1, 64])
def test_jakes_gains_are_exponential_at_any_block_for_any_number_of_paths(paths: int) -> None:
    waves = Jakes(0.1, mean=2.0, paths=paths).waves(rng(), 40_000)
    assert fits(waves.gains(np.array([17.0])), stats.expon(scale=2.0))


def test_jakes_autocorrelation_is_the_bessel_function() -> None:
    channel = Jakes(0.05, mean=2.0)
    lags = np.arange(0.0, 30.0, 3.0)
    h = channel.waves(rng(), 20_000).amplitudes(lags)
    correlation = (h * h[0].conj()).mean(axis=1) / 2.0
    expected = j0(2 * math.pi * 0.05 * lags)
    assert np.abs(correlation - expected).max() < 0.03
    gains = np.abs(h) ** 2
    covariance = ((gains - 2) * (gains[0] - 2)).mean(axis=1) / 4
    assert np.abs(covariance - expected**2).max() < 0.06


def test_the_given_waves_have_the_bessel_function_themselves_up_to_the_stated_lag() -> None:
    omega = Jakes(0.05, paths=64).waves(rng(), 5).omega
    lags = np.arange(64 / (9 * 0.05))
    given = np.cos(np.multiply.outer(lags, omega)).mean(axis=-1)
    expected = j0(2 * math.pi * 0.05 * lags)[:, None]
    assert np.abs(given - expected).max() < 1e-4


def test_jakes_users_are_independent_and_blocks_need_no_history() -> None:
    channel = Jakes(0.05)
    h = channel.waves(rng(), 40_000).amplitudes(np.array([3.0]))[0]
    assert abs((h[::2] * h[1::2].conj()).mean()) < 0.03
    gains = channel.gains(rng(), 20, 3)
    np.testing.assert_allclose(channel.waves(rng(), 3).gains(np.array([7.0]))[0], gains[7], rtol=1e-12)


def test_path_loss_falls_by_ten_times_the_exponent_per_decade() -> None:
    loss = PathLoss(exponent=3.76, reference_db=-15.3, reference_m=2.0)
    decibels = 10 * np.log10(loss.gain(np.array([2.0, 20.0, 200.0])))
    np.testing.assert_allclose(decibels, [-15.3, -52.9, -90.5])


def test_shadowing_is_normal_in_decibels_and_its_mean_is_the_closed_form() -> None:
    factors = Shadowing(6.0).gain(rng(), (400_000,))
    assert fits(10 * np.log10(factors), stats.norm(scale=6.0))
    assert factors.mean() == pytest.approx(Shadowing(6.0).mean, rel=0.03)
    assert Shadowing(6.0).mean == pytest.approx(stats.lognorm(6.0 * math.log(10) / 10).mean())
    assert Shadowing(0.0).gain(rng(), (3,)).tolist() == [1.0, 1.0, 1.0]


def test_users_of_a_cell_are_uniform_over_the_ring() -> None:
    distances = CELL.distances(rng(), (100_000,))
    assert bool(((distances >= 10) & (distances <= 50)).all())
    area = (distances**2 - 100) / (2500 - 100)
    assert fits(area, stats.uniform())


def test_the_mean_gain_of_a_cell_is_the_product_of_the_means() -> None:
    gains = CELL.gains(rng(), 400_000, 1)
    of_path_loss = 0.01 * 2 * (10**-1 - 50**-1) / (50**2 - 10**2)
    assert gains.mean() == pytest.approx(of_path_loss * CELL.shadowing.mean, rel=0.03)


@pytest.mark.parametrize("channel", EVERY, ids=lambda channel: type(channel).__name__)
@pytest.mark.parametrize(("instances", "users"), [(0, 3), (5, 0), (5, -1)])
def test_nobody_and_nothing_are_refused(channel: Channel, instances: int, users: int) -> None:
    with pytest.raises(ValueError, match=r"^channel: (instances|users) must be at least 1, got (0|-1)$"):
        channel.gains(rng(), instances, users)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Rayleigh(0.0), "rayleigh: mean must be positive and finite, got 0.0"),
        (lambda: Rayleigh(math.nan), "rayleigh: mean must be positive and finite, got nan"),
        (lambda: Rician(-1.0), "rician: k_factor must be finite and at least 0, got -1.0"),
        (lambda: Jakes(0.0), "jakes: doppler must be positive and finite, got 0.0"),
        (lambda: Jakes(0.1, paths=0), "jakes: paths must be at least 1, got 0"),
        (lambda: PathLoss(-2.0), "path loss: exponent must be positive and finite, got -2.0"),
        (lambda: PathLoss(2.0, math.inf), "path loss: reference_db must be finite, got inf"),
        (lambda: PathLoss(2.0).gain(np.array([0.0])), "path loss: distances must be positive, got 0 m"),
        (lambda: Shadowing(-1.0), "shadowing: sigma_db must be finite and at least 0, got -1.0"),
        (
            lambda: Cell(Rayleigh(), PathLoss(2.0), Shadowing(0.0), 5.0, 5.0),
            "cell: nearest_m = 5.0 must be below farthest_m = 5.0",
        ),
    ],
)
def test_impossible_channels_are_one_clear_line(build: object, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole line is compared
        build()  # type: ignore[operator]
    assert str(error.value) == message
