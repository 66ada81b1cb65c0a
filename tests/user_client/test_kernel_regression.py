import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from places import task

STREAMS = ("sinusoid", "conflict", "half")


def kernel(stream="sinusoid", batch=1, drift=0.0, similarity=0.0, feedback="batch", **changes):
    knobs = {"drift": drift, "similarity": similarity, "feedback": feedback}
    return task({"kind": "kernel_regression", "stream": stream, "batch": batch, **knobs}, **changes)


def samples(a_task, round_, slots):
    """tau and y of a round, [m, B]."""
    jobs = [a_task.job(round_, slot) for slot in range(slots)]
    return torch.stack([j.x[:, 1] for j in jobs]).numpy(), torch.stack([j.y for j in jobs]).numpy()


@pytest.mark.parametrize("stream", STREAMS)
def test_inputs_are_polynomials_of_tau(stream):
    job = kernel(stream, batch=7).job(2, 3)
    tau = job.x[:, 1]
    assert job.x.shape == (7, 4)
    assert job.y.shape == (7,)
    assert job.x.dtype == job.y.dtype == torch.float64
    assert ((tau >= 0) & (tau <= 1)).all()
    torch.testing.assert_close(job.x, torch.stack([tau**0, tau, tau**2, tau**3], 1), rtol=1e-15, atol=0)


def test_tau_is_uniform():
    tau, _ = samples(kernel(batch=500, slots=20), 0, 20)
    assert tau.mean() == pytest.approx(1 / 2, abs=4 * np.sqrt(1 / 12 / tau.size))
    assert (tau**2).mean() == pytest.approx(1 / 3, abs=4 * np.sqrt(4 / 45 / tau.size))


@pytest.mark.parametrize(
    ("index", "sign", "amplitude", "omega", "phi"),
    [
        (0, -1, (1, 0.2), (1, 1), (np.pi / 3, 0.01)),
        (1, +1, (0.6, 0.5), (0.75, 1), (np.pi / 4, 0.01)),
        (2, -1, (1, 0.2), (1, 1), (np.pi / 3, 0.01)),
    ],
)
def test_moments_of_the_sinusoids(index, sign, amplitude, omega, phi):
    """E[y | tau] and E[y^2 | tau] in closed form: the angle is Gaussian, so E sin = sin(mean) exp(-variance / 2)."""
    stream = kernel(batch=16, slots=1, index=index, rounds=6000)
    tau, y = (np.concatenate(part) for part in zip(*(samples(stream, t, 1) for t in range(6000)), strict=True))
    angle = omega[0] * tau + phi[0]
    variance = (omega[1] * tau) ** 2 + phi[1] ** 2
    wave = (np.sin if sign < 0 else np.cos)(angle) * np.exp(-variance / 2)
    wave_squared = (1 + sign * np.cos(2 * angle) * np.exp(-2 * variance)) / 2
    mean = amplitude[0] * wave + 0.05
    square = (amplitude[0] ** 2 + amplitude[1] ** 2) * wave_squared
    square += 2 * 0.05 * amplitude[0] * wave + 0.05**2 + 0.1**2
    for excess in (y - mean, y**2 - square):
        by_round = excess.mean(axis=1)
        assert abs(by_round.mean()) < 4 * by_round.std() / np.sqrt(len(by_round))


@pytest.mark.parametrize(("stream", "mean"), [("sinusoid", 0.05), ("conflict", 0.0)])
def test_noise_of_a_sample(stream, mean):
    """Within a round f is fixed and smooth, so the residual of a polynomial fit is the noise."""
    tau, y = samples(kernel(stream, batch=4000, slots=1), 0, 1)
    fit = np.polynomial.Polynomial.fit(tau[0], y[0], 7)
    assert (y[0] - fit(tau[0])).std() == pytest.approx(0.1, abs=0.005)


def test_conflict_has_one_minority_and_shared_parameters():
    grid = np.linspace(0.05, 0.95, 9)
    curves = []
    for index in range(3):
        tau, y = samples(kernel("conflict", 4000, slots=1, index=index, users=3, seed=index), 3, 1)
        curves.append(np.polynomial.Polynomial.fit(tau[0], y[0], 5)(grid))
    np.testing.assert_allclose(curves[0] / 1.5, curves[1] / -0.75, atol=0.03)
    np.testing.assert_allclose(curves[1], curves[2], atol=0.03)
    assert np.abs(curves[0]).max() > 0.9


def test_conflict_is_redrawn_each_round():
    """E[y | tau] of the minority over rounds: omega ~ N(1, .3), phi ~ N(pi/3, .1)."""
    rounds = 4000
    stream = kernel("conflict", 4, slots=1, rounds=rounds)
    tau, y = (np.concatenate(part) for part in zip(*(samples(stream, t, 1) for t in range(rounds)), strict=True))
    variance = (0.3 * tau) ** 2 + 0.1**2
    angle = tau + np.pi / 3
    square = 1.5**2 * (1 - np.cos(2 * angle) * np.exp(-2 * variance)) / 2 + 0.1**2
    for excess in (y - 1.5 * np.sin(angle) * np.exp(-variance / 2), y**2 - square):
        by_round = excess.mean(axis=1)
        assert abs(by_round.mean()) < 4 * by_round.std() / np.sqrt(rounds)


@pytest.mark.parametrize(("slots", "first"), [(6, 3), (7, 4), (1, 1)])
def test_half_puts_the_coin_on_one_user_at_a_time(slots, first):
    """Without noise y / sin(1.2 tau + pi/3) is the same number in every sample; with it, y is 1.6 off."""
    shapes = {}
    for index in (0, 1):
        tau, y = samples(kernel("half", 50, slots=slots, index=index, seed=index), 1, slots)
        wave = np.sin(1.2 * tau + np.pi / 3)
        noisy = np.arange(slots) < first if index == 0 else np.arange(slots) >= first
        if noisy.all():
            continue
        amplitude = (y / wave)[~noisy]
        np.testing.assert_allclose(amplitude, amplitude.flat[0], rtol=1e-12)
        shapes[index] = amplitude.flat[0]
        noise = (y - shapes[index] * wave)[noisy]
        np.testing.assert_allclose(np.abs(noise), 1.6, rtol=1e-12)
        assert not noise.size or (noise > 0).mean() == pytest.approx(0.5, abs=2 / np.sqrt(noise.size))
    if len(shapes) == 2:
        assert shapes[1] == pytest.approx(-0.5 * shapes[0], rel=1e-12)


def test_half_amplitudes():
    """a ~ N(1, .2), read off user 1's quiet slot of each round."""
    stream = kernel("half", slots=2, rounds=2000)
    quiet = [stream.job(t, 1) for t in range(2000)]
    a = np.array([float(job.y / torch.sin(1.2 * job.x[:, 1] + np.pi / 3)) for job in quiet])
    assert a.mean() == pytest.approx(1.0, abs=4 * 0.2 / np.sqrt(2000))
    assert a.std() == pytest.approx(0.2, abs=0.015)


@settings(max_examples=25, deadline=None)
@given(
    stream=st.sampled_from(STREAMS),
    calls=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=12),
)
def test_any_order_of_calls_gives_the_same_bits(stream, calls):
    one = kernel(stream, 3)
    for round_, slot in calls:
        job, fresh = one.job(round_, slot), kernel(stream, 3).job(round_, slot)
        assert torch.equal(job.x, fresh.x)
        assert torch.equal(job.y, fresh.y)


def test_users_and_rounds_have_their_own_draws():
    assert not torch.equal(kernel(seed=1).job(0, 0).x, kernel(seed=2).job(0, 0).x)
    assert not torch.equal(kernel().job(0, 0).x, kernel().job(1, 0).x)
    assert not torch.equal(kernel().job(0, 0).x, kernel().job(0, 1).x)


def test_no_validation():
    assert kernel().validation_batch == 0
    with pytest.raises(ValueError, match="no validation set"):
        kernel().validation(0)


@pytest.mark.parametrize(("drift", "slots"), [(0.8, 5), (-2.0, 2), (0.8, 1)])
def test_drift_moves_the_phase_linearly_over_the_round(drift, slots):
    """User 0 of `half` has no noise in the second half, user 1 none in the first: y is the wave itself."""
    for index, amplitude in ((0, 1.0), (1, -0.5)):
        one = kernel("half", 7, slots=slots, index=index, drift=drift, similarity=1.0)
        tau, y = samples(one, 0, slots)
        phase = np.array([drift * slot / (slots - 1) if slots > 1 else 0.0 for slot in range(slots)])
        wave = amplitude * np.sin(1.2 * tau + np.pi / 3 + phase[:, None])
        quiet = (2 * np.arange(slots) >= slots) != (index == 1)
        np.testing.assert_allclose(y[quiet], wave[quiet], atol=1e-12)


@pytest.mark.parametrize(
    ("stream", "index", "wave", "noise"),
    [
        ("sinusoid", 0, lambda angle: np.sin(angle + np.pi / 3), 0.05),
        ("sinusoid", 1, lambda angle: 0.6 * np.cos(0.75 * angle + np.pi / 4), 0.05),
        ("conflict", 0, lambda angle: 1.5 * np.sin(angle + np.pi / 3), 0.0),
        ("conflict", 1, lambda angle: -0.75 * np.sin(angle + np.pi / 3), 0.0),
    ],
)
def test_alike_rounds_are_the_mean_round_and_noise(stream, index, wave, noise):
    one = kernel(stream, 500, slots=4, index=index, similarity=1.0)
    rest = np.concatenate([y - wave(tau) for tau, y in (samples(one, t, 4) for t in range(4))])
    assert rest.mean() == pytest.approx(noise, abs=4 * 0.1 / np.sqrt(rest.size))
    assert rest.std() == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("similarity", [0.0, 0.5, 0.9])
def test_similarity_scales_what_is_redrawn(similarity):
    """The amplitude of `half` is N(1, .2 (1 - similarity)), read off the quiet slot; the draws themselves stay."""
    one, paper = (kernel("half", slots=2, rounds=2000, similarity=s) for s in (similarity, 0.0))
    a, of_paper = (
        np.array(
            [float(job.y / torch.sin(1.2 * job.x[:, 1] + np.pi / 3)) for job in (s.job(t, 1) for t in range(2000))]
        )
        for s in (one, paper)
    )
    assert a.std() == pytest.approx(0.2 * (1 - similarity), rel=0.07)
    np.testing.assert_allclose(a - 1, (1 - similarity) * (of_paper - 1), atol=1e-12)


def test_held_out_samples_are_further_ones():
    one = kernel(batch=3, feedback={"holdout": 2})
    assert one.batch == 5
    assert one.job(0, 0).x.shape == (5, 4)
    assert len(set(one.job(0, 0).x[:, 1].tolist())) == 5
