from hashlib import sha256

import numpy as np
import pytest
import torch
from places import place, task, user_config
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from user_client.user import User, feature_shape

DIGITS = {"kind": "rainbow", "digits": "bundled", "batch": 8, "validation": 30}
KERNEL = {"kind": "kernel_regression", "batch": 3}
CONV = {"kind": "conv_pool", "channels": 2}
LINEAR = {"kind": "linear", "step": 0.2}


def parameters(user):
    modules = [m for m in (user._front, user._head) if m is not None]
    return [p.detach().clone() for m in modules for p in m.parameters()]


def encoder(inputs, width=5, dtype=torch.float32):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width, dtype=dtype), nn.Tanh())


@pytest.mark.parametrize(("front", "front_step"), [(CONV, 0.2), ({**CONV, "step": 0.03}, 0.03)])
@pytest.mark.parametrize("head", [LINEAR, {"kind": "mlp", "step": 0.2}])
def test_a_slot_is_one_sgd_step_of_the_whole_composite(front, front_step, head):
    """Front, encoder and head in one graph: autograd of the composite is the oracle."""
    user, reference = (User(user_config(DIGITS, head, front), place(), (5,)) for _ in range(2))
    edge = encoder(2 * 12 * 12)
    features = user.features(1, 2).requires_grad_()
    outputs = edge(features)
    feedback = user.feedback(outputs.detach())
    (feature_gradient,) = torch.autograd.grad(outputs, features, feedback.gradient)
    user.apply(feature_gradient)

    x, y = task(DIGITS).job(1, 2)
    whole_outputs = edge(reference._front(x))
    loss = cross_entropy(reference._head(whole_outputs), y)
    own = [*reference._front.parameters(), *reference._head.parameters()]
    output_gradient, *gradients = torch.autograd.grad(loss, [whole_outputs, *own])
    steps = [front_step] * 2 + [0.2] * (len(own) - 2)
    expected = [p.detach() - s * g for p, s, g in zip(own, steps, gradients, strict=True)]

    assert feedback.loss == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(feedback.gradient, output_gradient)
    torch.testing.assert_close(parameters(user), expected)


def test_identity_head_in_closed_form():
    user = User(user_config(KERNEL, {"kind": "identity"}), place(), (1,))
    x, y = task(KERNEL).job(0, 4)
    assert torch.equal(user.features(0, 4), x)
    outputs = torch.tensor([[0.5], [-1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    feedback = user.feedback(outputs.detach())
    loss = mse_loss(outputs[:, 0], y)
    loss.backward()
    assert feedback.loss == pytest.approx(loss.item(), rel=1e-15)
    torch.testing.assert_close(feedback.gradient, outputs.grad, rtol=1e-15, atol=1e-15)
    user.apply(None)
    assert user.digest() == sha256(b"").digest()


def test_identity_head_with_classes():
    user = User(user_config(DIGITS, {"kind": "identity"}), place(), (10,))
    user.features(0, 0)
    outputs = torch.randn(8, 10)
    feedback = user.feedback(outputs)
    y = task(DIGITS).job(0, 0).y
    expected = (outputs.softmax(1) - nn.functional.one_hot(y, 10)) / 8
    torch.testing.assert_close(feedback.gradient, expected)


def test_linear_head_on_regression():
    user = User(user_config(KERNEL, LINEAR), place(), (5,))
    user.features(2, 1)
    outputs = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    loss = mse_loss(user._head(outputs).squeeze(1), task(KERNEL).job(2, 1).y)
    (expected,) = torch.autograd.grad(loss, outputs)
    feedback = user.feedback(outputs.detach())
    assert feedback.loss == loss.item()
    torch.testing.assert_close(feedback.gradient, expected)


def test_feedback_alone_changes_nothing_and_drop_forgets():
    user = User(user_config(DIGITS, LINEAR, CONV), place(), (5,))
    before = user.digest()
    user.features(0, 0)
    user.feedback(torch.randn(8, 5))
    assert user.digest() == before
    user.drop()
    assert user.digest() == before
    with pytest.raises(RuntimeError, match="apply without feedback"):
        user.apply(None)


@pytest.mark.parametrize("first_slot", [0, 2], ids=["of the round", "of its own"])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_fresh_head_is_put_back_by_the_first_slot_of_a_round(kind, first_slot):
    carried, fresh = (
        User(user_config(DIGITS, {"kind": kind, "step": 0.2, "start": start}), place(), (5,))
        for start in ("carried", "fresh")
    )
    first, edge = parameters(fresh), encoder(3 * 28 * 28)
    torch.testing.assert_close(parameters(carried), first)
    for user in (carried, fresh):
        for slot in range(2):
            user.feedback(edge(user.features(0, slot)).detach())
            user.apply(None)
        user.validate(edge(user.validation_features(0)).detach())
    torch.testing.assert_close(parameters(fresh), parameters(carried))
    assert not torch.equal(parameters(fresh)[0], first[0])
    for user in (carried, fresh):
        outputs = edge(user.features(1, first_slot)).detach()
        if user is fresh:
            torch.testing.assert_close(parameters(fresh), first)
        user.feedback(outputs)
        user.apply(None)
    user.features(1, first_slot + 1)
    assert not torch.equal(parameters(fresh)[0], first[0])
    assert not torch.equal(parameters(carried)[0], first[0])


def test_a_slot_is_applied_once():
    user = User(user_config(DIGITS, LINEAR), place(), (5,))
    user.features(0, 0)
    user.feedback(torch.randn(8, 5))
    user.apply(None)
    with pytest.raises(RuntimeError, match="apply without feedback"):
        user.apply(None)


@pytest.mark.parametrize("front", ["none", {**CONV, "trainable": False}])
def test_next_features_may_come_before_apply_when_the_front_is_frozen(front):
    def slots(user, early):
        outputs = torch.linspace(-1, 1, 40).reshape(8, 5)
        user.features(0, 0)
        user.feedback(outputs)
        if early:
            user.features(0, 1)
            user.apply(None)
        else:
            user.apply(None)
            user.features(0, 1)
        user.feedback(outputs)
        user.apply(None)
        return user.digest()

    one, two = (User(user_config(DIGITS, LINEAR, front), place(), (5,)) for _ in range(2))
    assert slots(one, early=True) == slots(two, early=False)


def test_frozen_front_keeps_its_parameters():
    user = User(user_config(DIGITS, LINEAR, {**CONV, "trainable": False}), place(), (5,))
    before = parameters(user)
    features = user.features(0, 0)
    user.feedback(torch.randn(8, 5))
    user.apply(torch.randn_like(features))
    assert not user.trainable_front
    assert all(torch.equal(a, b) for a, b in zip(before[:2], parameters(user)[:2], strict=True))
    assert not torch.equal(before[2], parameters(user)[2])


@pytest.mark.parametrize("gradient", [None, torch.zeros(8, 2, 12, 11)])
def test_trainable_front_needs_its_gradient_and_nothing_moves_without(gradient):
    user = User(user_config(DIGITS, LINEAR, CONV), place(), (5,))
    before = user.digest()
    user.features(0, 0)
    user.feedback(torch.randn(8, 5))
    with pytest.raises(ValueError, match=r"a trainable front needs \[8, 2, 12, 12\], got"):
        user.apply(gradient)
    assert user.digest() == before


def test_features_carry_no_graph():
    for front in ("none", CONV):
        assert not User(user_config(DIGITS, LINEAR, front), place(), (5,)).features(0, 0).requires_grad


def test_shape_before_an_encoder_exists():
    config = user_config(DIGITS, LINEAR, CONV)
    user = User(config, place(), (5,))
    assert feature_shape(config, task(DIGITS)) == user.feature_shape == (2, 12, 12)
    assert user.features(0, 0).shape == (user.batch, *user.feature_shape)
    assert user.dtype == torch.float32


def test_validation_of_classes():
    user = User(user_config(DIGITS, LINEAR, CONV), place(), (5,))
    edge = encoder(2 * 12 * 12)
    features = user.validation_features(3)
    assert features.shape == (30, 2, 12, 12)
    outputs = edge(features).detach()
    found = user.validate(outputs)
    y = task(DIGITS).validation(3).y
    logits = user._head(outputs)
    assert found.loss == pytest.approx(cross_entropy(logits, y).item(), rel=1e-6)
    assert found.accuracy == pytest.approx((logits.argmax(1) == y).sum().item() / 30)


def test_validation_of_regression(tmp_path):
    rng = np.random.default_rng(0)
    y_val = rng.normal(size=(4, 5))
    np.savez(
        tmp_path / "a.npz", x=rng.normal(size=(4, 6, 1, 2)), y=rng.normal(size=(4, 6, 1)),
        x_val=rng.normal(size=(4, 5, 2)), y_val=y_val,
    )  # fmt: skip
    data = {"kind": "arrays", "path": "a.npz", "loss": "squared"}
    user = User(user_config(data, {"kind": "identity"}), place(folder=tmp_path), (1,))
    user.validation_features(1)
    found = user.validate(torch.zeros(5, 1, dtype=torch.float64))
    assert found.loss == pytest.approx((y_val[1] ** 2).mean(), rel=1e-14)
    assert found.accuracy is None


def test_attacked_labels_reach_the_loss():
    adversary = {"kind": "ping_pong", "labels": "sign", "hostile": "every", "block": 1}
    user = User(user_config(KERNEL, {"kind": "identity"}, adversary=adversary), place(), (1,))
    user.features(0, 0)
    y = task(KERNEL).job(0, 0).y
    torch.testing.assert_close(user.feedback(-y.unsqueeze(1)).gradient, torch.zeros(3, 1, dtype=torch.float64))


def test_digest_is_the_hash_of_the_parameters():
    user = User(user_config(DIGITS, LINEAR, CONV), place(), (5,))
    content = b"".join(p.numpy().astype("<f4").tobytes() for p in parameters(user))
    assert user.digest() == sha256(content).digest()
    assert user.digest() == User(user_config(DIGITS, LINEAR, CONV), place(), (5,)).digest()
    assert user.digest() != User(user_config(DIGITS, LINEAR, CONV), place(seed=12), (5,)).digest()


@pytest.mark.parametrize("shape", [(8, 4), (7, 5), (5,), (8, 5, 1)])
def test_outputs_of_another_shape(shape):
    user = User(user_config(DIGITS, LINEAR), place(), (5,))
    user.features(0, 0)
    with pytest.raises(ValueError, match=r"expected \[8, 5\]"):
        user.feedback(torch.zeros(shape))
    user.validation_features(0)
    with pytest.raises(ValueError, match=r"expected \[30, 5\]"):
        user.validate(torch.zeros(shape))


def test_front_that_does_not_fit_the_task():
    with pytest.raises(ValueError, match="front conv_pool needs images"):
        User(user_config(KERNEL, LINEAR, CONV), place(), (5,))


def test_head_that_does_not_fit_the_encoder():
    with pytest.raises(ValueError, match="head identity needs"):
        User(user_config(KERNEL, {"kind": "identity"}), place(), (50,))
