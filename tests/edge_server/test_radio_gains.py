"""Gains of a run: dealt by (user, round, slot), with the means and correlations of their laws, or from a file."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import j0
from scipy.stats import spearmanr

from edge_server.radio.gains import Faded, Ring
from edge_server.radio.trace_file import read_trace
from edge_server.routed_mtl.channels import Channel, Jakes, Rayleigh, Rician, Shadowing


def faded(fading: Channel, *, users: int = 2, slots: int = 50, sigma_db: float = 0.0, loss: float = 1.0) -> Faded:
    return Faded(fading, Shadowing(sigma_db), np.full(users, loss), [*range(100, 100 + users)], slots)


@pytest.mark.parametrize("fading", [Rayleigh(), Rician(3.0), Jakes(0.02)], ids=["rayleigh", "rician", "jakes"])
def test_a_round_depends_on_its_number_and_on_each_users_seed_alone(fading: Channel) -> None:
    gains = faded(fading, users=3, sigma_db=4.0)
    later, first = gains.round(7), gains.round(0)
    np.testing.assert_array_equal(gains.round(7), later)
    assert (later != first).all()
    others = Faded(fading, Shadowing(4.0), np.ones(2), [102, 100], 50)
    np.testing.assert_array_equal(others.round(7), later[:, [2, 0]])


def test_rayleigh_has_its_mean_and_shadowing_its_spread() -> None:
    gains = faded(Rayleigh(), slots=2000, loss=0.25)
    values = np.concatenate([gains.round(t) for t in range(20)])
    assert values.mean() == pytest.approx(0.25, rel=0.02)
    shadowed = faded(Rayleigh(), slots=400, sigma_db=8.0)
    factors = [np.log10(shadowed.round(t).mean(axis=0)) * 10 for t in range(300)]
    assert np.std(factors) == pytest.approx(8.0, rel=0.1)


def test_jakes_goes_on_across_rounds() -> None:
    doppler, slots = 0.01, 40
    gains = faded(Jakes(doppler), users=400, slots=slots)
    power = np.concatenate([gains.round(t) for t in range(3)])
    lag = 20
    before, after = power[slots - lag // 2], power[slots + lag // 2]
    correlation = np.corrcoef(before, after)[0, 1]
    assert correlation == pytest.approx(float(j0(2 * np.pi * doppler * lag)) ** 2, abs=0.12)


def test_the_law_is_sampled_with_places_kept() -> None:
    gains = Faded(Rayleigh(), Shadowing(0.0), np.array([1.0, 0.01]), [1, 2], 5)
    sample = gains.sample(4000)
    assert sample.shape == (4000, 2)
    np.testing.assert_allclose(sample.mean(axis=0), [1.0, 0.01], rtol=0.06)


@pytest.mark.parametrize("doppler", [1e-4, 0.05])
def test_the_law_of_correlated_slots_is_sampled_slot_by_slot(doppler: float) -> None:
    """4000 successive blocks at a Doppler of 1e-4 would be a single fade."""
    sample = faded(Jakes(doppler, mean=2.0)).sample(4000)
    np.testing.assert_allclose(sample.mean(axis=0), 2.0, rtol=0.06)
    np.testing.assert_allclose(sample.std(axis=0), 2.0, rtol=0.1)
    assert abs(np.corrcoef(sample[1:, 0], sample[:-1, 0])[0, 1]) < 0.06


@pytest.mark.parametrize("fading", [Rayleigh(), Rician(3.0), Jakes(0.02)], ids=["rayleigh", "rician", "jakes"])
def test_a_place_says_nothing_of_the_fading(fading: Channel) -> None:
    """Each has a stream of its own, in round 0 as well."""
    gains = faded(fading, users=2000, slots=2, sigma_db=8.0)
    loss = Ring(exponent=2.0, reference_m=100.0, nearest_m=50.0, farthest_m=200.0).loss(gains.seeds)
    assert abs(spearmanr(loss, gains.round(0)[0]).statistic) < 0.08


def test_places_fill_the_ring_and_the_loss_is_one_at_the_reference() -> None:
    seeds = [*range(4000)]
    loss = Ring(exponent=2.0, reference_m=100.0, nearest_m=50.0, farthest_m=200.0).loss(seeds)
    distance = 100 / np.sqrt(loss)
    assert 50 <= distance.min() < 52
    assert 198 < distance.max() <= 200
    share = (distance <= 100).mean()
    assert share == pytest.approx((100**2 - 50**2) / (200**2 - 50**2), abs=0.02)


def test_a_trace_is_read_round_by_round(tmp_path: Path) -> None:
    gain = np.random.default_rng(0).exponential(size=(5, 3, 2))
    np.savez(tmp_path / "g.npz", gain=gain)
    trace = read_trace(tmp_path / "g.npz", 4, 3, 2)
    np.testing.assert_array_equal(trace.round(3), gain[3])


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (np.ones((2, 3, 2)), r"`gain` is \[2, 3, 2\], the run needs \[at least 3 rounds, 3 slots, 2 users\]"),
        (np.ones((3, 3, 1)), r"`gain` is \[3, 3, 1\]"),
        (np.where(np.arange(18).reshape(3, 3, 2) == 7, 0.0, 1.0), r"`gain` at \[1, 0, 1\] \(round, slot, user\) is 0"),
        (np.where(np.arange(18).reshape(3, 3, 2) == 4, np.nan, 1.0), r"`gain` at \[0, 2, 0\] .* is nan"),
    ],
)
def test_a_trace_that_does_not_fit_is_refused(tmp_path: Path, gain: object, said: str) -> None:
    np.savez(tmp_path / "g.npz", gain=gain)
    with pytest.raises(ValueError, match=said):
        read_trace(tmp_path / "g.npz", 3, 3, 2)


def test_a_file_that_is_no_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_trace(tmp_path / "none.npz", 1, 1, 1)
    np.savez(tmp_path / "other.npz", gains=np.ones(3))
    with pytest.raises(ValueError, match="has no array `gain`"):
        read_trace(tmp_path / "other.npz", 1, 1, 1)
    np.savez(tmp_path / "amplitudes.npz", gain=np.full((1, 1, 1), 1 + 1j))
    with pytest.raises(ValueError, match=r"`gain` must hold real numbers, \|h\|\^2, not complex128"):
        read_trace(tmp_path / "amplitudes.npz", 1, 1, 1)
    with (tmp_path / "single.npz").open("wb") as single:
        np.save(single, np.ones((1, 1, 1)))
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("single.npz", "empty.npz"):
        with pytest.raises(ValueError, match=r"is not an \.npz file"):
            read_trace(tmp_path / name, 1, 1, 1)
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(ValueError, match=r"is not an \.npz file"):
        read_trace(tmp_path / "text.npz", 1, 1, 1)
