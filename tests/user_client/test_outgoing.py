"""Output gradients on their way up: clipped and blurred, or falsified; everything else of a user stays as it is."""

import numpy as np
import pytest
import torch
from places import place, user_config

from user_client import config as settings
from user_client.outgoing import Moment, Outgoing, clipped
from user_client.user import User, exact, feedback_together

KERNEL = {"kind": "kernel_regression", "batch": 3}
DIGITS = {"kind": "rainbow", "digits": "bundled", "batch": 6, "validation": 10}
IDENTITY, LINEAR = {"kind": "identity"}, {"kind": "linear"}
FLIP = {"kind": "gradient", "attack": "sign_flip", "factor": 3.0}
NOISE = {"kind": "gradient", "attack": "random", "factor": 2.0}
OUTPUTS = torch.linspace(-1, 2, 3, dtype=torch.float64).unsqueeze(1)


def private(config: settings.User, clip: float, noise: float = 0.0) -> settings.User:
    return config.model_copy(update={"privacy": settings.Privacy(clip=clip, noise=noise)})


def said(config: settings.User, slot: int = 0, **where) -> torch.Tensor:
    user = User(config, place(**where), (1,))
    user.features(1, slot)
    return user.feedback(OUTPUTS).gradient


def test_rows_are_cut_to_the_norm_and_keep_their_direction():
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    expected = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(clipped(gradient, 1.0), expected)
    torch.testing.assert_close(clipped(gradient.reshape(3, 2, 1), 1.0), expected.reshape(3, 2, 1))


def test_noise_has_the_deviation_that_was_asked_for_and_a_stream_for_each_slot():
    blur = Outgoing(settings.Privacy(clip=2.0, noise=1.5), (), seed=4)
    zeros = torch.zeros(200, 50, dtype=torch.float64)
    first = blur(zeros, Moment(0, 0))
    assert first.std() == pytest.approx(3.0, rel=0.03)
    assert first.mean().abs() < 0.1
    assert torch.equal(first, blur(zeros, Moment(0, 0)))
    others = [blur(zeros, Moment(0, 1)), blur(zeros, Moment(1, 0)), Outgoing(blur._privacy, (), 5)(zeros, Moment(0, 0))]
    for other in others:
        assert abs(np.corrcoef(first.flatten(), other.flatten())[0, 1]) < 0.05


def test_privacy_changes_the_gradient_alone():
    plain = user_config(DIGITS, LINEAR, {"kind": "conv_pool", "channels": 2})
    users = [User(config, place(), (5,)) for config in (plain, private(plain, 0.01, 1.0))]
    outputs = torch.linspace(-1, 1, 30).reshape(6, 5)
    for user in users:
        user.features(0, 0)
    (loss, gradient), (same, blurred) = (user.feedback(outputs) for user in users)
    assert loss == same
    assert not torch.equal(gradient, blurred)
    for user in users:
        user.apply(torch.ones(6, 2, 12, 12))
    assert users[0].digest() == users[1].digest()


def test_the_noise_of_held_out_samples_is_none():
    task = {**KERNEL, "feedback": {"holdout": 2}}
    user = User(private(user_config(task, IDENTITY), 1.0, 1.0), place(), (1,))
    user.features(0, 0)
    gradient = user.feedback(torch.zeros(5, 1, dtype=torch.float64)).gradient
    assert gradient[:3].all()
    assert not gradient[3:].any()


def test_users_of_a_host_say_the_same_together_and_alone():
    configs = [private(user_config(KERNEL, IDENTITY), 0.5, 0.3), user_config(KERNEL, IDENTITY, adversary=(FLIP, NOISE))]
    users = [User(config, place(seed=k), (1,)) for k, config in enumerate(configs)]
    for user in users:
        user.features(1, 2)
    together = feedback_together(users, torch.stack([OUTPUTS, OUTPUTS]))
    for k, (config, found) in enumerate(zip(configs, together, strict=True)):
        assert torch.equal(found.gradient, said(config, 2, seed=k))


def test_attacks_in_closed_form():
    honest = said(user_config(KERNEL, IDENTITY))
    torch.testing.assert_close(said(user_config(KERNEL, IDENTITY, adversary=FLIP)), -3 * honest)
    scale = {"kind": "gradient", "attack": "scale", "factor": 100.0}
    torch.testing.assert_close(said(user_config(KERNEL, IDENTITY, adversary=(FLIP, scale))), -300 * honest)
    drawn = said(user_config(KERNEL, IDENTITY, adversary=NOISE))
    assert torch.linalg.vector_norm(drawn) == pytest.approx(2 * torch.linalg.vector_norm(honest).item())
    assert not torch.equal(drawn, said(user_config(KERNEL, IDENTITY, adversary=(NOISE, NOISE))))


def test_a_falsified_gradient_is_neither_an_inflated_loss_nor_other_labels():
    outputs, losses = torch.linspace(-1, 1, 30).reshape(6, 5), []
    for adversary in ((), FLIP):
        user = User(user_config(DIGITS, LINEAR, adversary=adversary), place(), (5,))
        user.features(0, 0)
        losses.append(user.feedback(outputs).loss)
        user.apply(None)
        losses.append(user.digest())
    assert losses[:2] == losses[2:]


def test_who_is_exact():
    plain = user_config(KERNEL, IDENTITY)
    assert exact(plain)
    lies = [FLIP, {"kind": "inflation"}]
    assert not any(exact(user_config(KERNEL, IDENTITY, adversary=lie)) for lie in lies)
    assert not exact(private(plain, 1.0))


def test_an_attack_that_is_none_is_refused():
    with pytest.raises(ValueError, match="attack scale with factor 1 is the honest gradient"):
        settings.GradientAttack(kind="gradient", attack="scale")
