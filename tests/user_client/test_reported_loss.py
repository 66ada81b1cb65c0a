"""What a user reports where it is not the loss it trains on: held-out samples (footnote 1), and inflated losses."""

import numpy as np
import pytest
import torch
from places import place, task, user_config
from torch import nn
from torch.nn.functional import cross_entropy

from user_client.user import User

KERNEL = {"kind": "kernel_regression", "batch": 3, "feedback": {"holdout": 2}}
DIGITS = {"kind": "rainbow", "digits": "bundled", "batch": 6, "validation": 10, "feedback": {"holdout": 4}}
FLIP = {"kind": "ping_pong", "labels": "sign", "hostile": "every", "block": 1}
IDENTITY = {"kind": "identity"}


@pytest.mark.parametrize(("adversary", "sign"), [((), 1), (FLIP, -1)])
def test_held_out_loss_and_training_gradient_in_closed_form(adversary, sign):
    user = User(user_config(KERNEL, IDENTITY, adversary=adversary), place(), (1,))
    assert user.features(0, 4).shape == (5, 4)
    y = sign * task(KERNEL).job(0, 4).y
    f = torch.linspace(-1, 2, 5, dtype=torch.float64)
    loss, gradient = user.feedback(f.unsqueeze(1))
    error = (f - y).numpy()
    assert loss == pytest.approx((error[3:] ** 2).mean(), rel=1e-14)
    np.testing.assert_allclose(gradient[:, 0].numpy(), [*(2 / 3 * error[:3]), 0, 0], rtol=1e-14)


def test_front_and_head_learn_from_the_training_samples_alone():
    """The composite's autograd on the first 6 samples is the oracle for every step; the last 4 only give the loss."""
    config = user_config(DIGITS, {"kind": "linear", "step": 0.2}, {"kind": "conv_pool", "channels": 2})
    user, twin = (User(config, place(), (5,)) for _ in range(2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        edge = nn.Sequential(nn.Flatten(), nn.Linear(2 * 12 * 12, 5), nn.Tanh())
    features = user.features(1, 2).requires_grad_()
    outputs = edge(features)
    loss, gradient = user.feedback(outputs.detach())
    (returned,) = torch.autograd.grad(outputs, features, gradient)
    user.apply(returned)

    x, y = task(DIGITS).job(1, 2)
    logits = twin.head(edge(twin._front(x)))
    own = [*twin._front.parameters(), *twin.head.parameters()]
    steps = torch.autograd.grad(cross_entropy(logits[:6], y[:6]), own)
    moved = [*user._front.parameters(), *user.head.parameters()]
    assert loss == pytest.approx(cross_entropy(logits[6:], y[6:]).item(), rel=1e-6)
    assert not gradient[6:].any()
    torch.testing.assert_close(moved, [p - 0.2 * g for p, g in zip(own, steps, strict=True)])


def test_a_liar_inflates_its_loss_and_nothing_else():
    data = {**DIGITS, "feedback": "batch"}
    lies = ({"kind": "inflation", "factor": 2.0}, {"kind": "inflation", "factor": 1.5})
    head = {"kind": "linear"}
    honest, liar = (User(user_config(data, head, adversary=a), place(), (5,)) for a in ((), lies))
    outputs = torch.linspace(-1, 1, 30).reshape(6, 5)
    for user in (honest, liar):
        assert user.features(0, 0).shape == (6, 3, 28, 28)
    truth, lie = honest.feedback(outputs), liar.feedback(outputs)
    assert lie.loss == 3 * truth.loss
    assert torch.equal(lie.gradient, truth.gradient)
    for user in (honest, liar):
        user.apply(None)
        user.validation_features(0)
    assert liar.digest() == honest.digest()
    shown = torch.zeros(10, 5)
    assert liar.validate(shown) == honest.validate(shown)


def test_inflation_goes_with_holdout_and_hostile_labels():
    config = user_config(KERNEL, IDENTITY, adversary=(FLIP, {"kind": "inflation", "factor": 3.0}))
    user = User(config, place(), (1,))
    user.features(0, 0)
    y = task(KERNEL).job(0, 0).y
    loss, gradient = user.feedback(torch.zeros(5, 1, dtype=torch.float64))
    assert loss == pytest.approx(3 * float((y[3:] ** 2).mean()), rel=1e-14)
    np.testing.assert_allclose(gradient[:3, 0].numpy(), (2 / 3 * y[:3]).numpy(), rtol=1e-14)
