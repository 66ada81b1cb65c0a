"""Robust rules against closed forms and the definitions, through a real encoder; and against what they are for."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge_server import config
from edge_server.build import build_robust
from edge_server.encoders import build_encoder
from edge_server.robust import MultiKrum, NormClip, Robust, TrimmedMean, clip_shares, krum_shares, trimmed
from edge_server.shared_model import SharedModel

F64 = torch.float64
USERS, WEIGHTS = 5, torch.tensor([-0.5, -1.0, -2.0, -0.25, -1.5], dtype=F64)


def encoder(dtype: torch.dtype = F64) -> nn.Module:
    return build_encoder(config.Mlp(kind="mlp", hidden=(6,), width=3), (4,), dtype, 2)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def served(trains_fronts: bool = False, dtype: torch.dtype = F64) -> tuple[SharedModel, list[Tensor], list[Tensor]]:
    """A model that waits for feedback, the features and the output gradients of its users."""
    features = [noise(k, 2 + k, 4).to(dtype) for k in range(USERS)]
    model = SharedModel(encoder(dtype), trains_fronts)
    model.forward(features)
    return model, features, [noise(10 + k, 2 + k, 3).to(dtype) for k in range(USERS)]


def own(features: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Each user's encoder gradient [K, d], on a plain copy of the encoder."""
    rows = []
    for x, g in zip(features, gradients, strict=True):
        plain = encoder(x.dtype)
        plain(x).backward(g)
        rows.append(torch.cat([p.grad.reshape(-1) for p in plain.parameters()]))
    return torch.stack(rows)


def test_norms_are_those_of_the_users_gradients() -> None:
    model, features, gradients = served()
    expected = torch.linalg.vector_norm(own(features, gradients), dim=1)
    torch.testing.assert_close(model.gradient_norms(gradients), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(model.gradient_norms([None, *gradients[1:]])[1:], expected[1:], rtol=1e-12, atol=0)


def test_norm_clip_in_closed_form() -> None:
    model, features, gradients = served()
    g = own(features, gradients)
    norms = torch.linalg.vector_norm(g, dim=1)
    at = 1.01 * float(norms.median())
    found = NormClip(at)(model, gradients, WEIGHTS)
    expected = sum(-w * row * min(1.0, at / float(n)) for w, row, n in zip(WEIGHTS, g, norms, strict=True))
    torch.testing.assert_close(found.gradient, expected, rtol=1e-12, atol=1e-14)
    assert found.held_back is not None
    assert found.held_back.tolist() == (norms > at).tolist()
    assert clip_shares(torch.tensor([0.0, 1.0, 4.0, math.inf, math.nan]), 2.0).tolist() == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_a_clip_that_nobody_reaches_is_the_plain_sum_to_the_bit() -> None:
    (model, _, gradients), (plain, _, _) = served(), served()
    assert torch.equal(NormClip(1e9)(model, gradients, WEIGHTS).gradient, plain.backward(gradients, WEIGHTS))


@pytest.mark.parametrize("size", [1.0, 1e3, 1e30])
def test_norm_clip_bounds_what_any_user_can_do(size: float) -> None:
    """The step with and without a user differs by at most |w| at, in whatever direction and size it pulls."""
    at = 0.5
    sent, without = [], []
    for gradients, found in ((None, sent), (1, without)):
        model, _, given = served()
        given[2] = None if gradients else -size * given[2]
        found.append(NormClip(at)(model, given, WEIGHTS).gradient.clone())
    assert torch.linalg.vector_norm(sent[0] - without[0]) <= 2.0 * at * (1 + 1e-9)


@pytest.mark.parametrize("rule", [NormClip(1.0), TrimmedMean(0.5), TrimmedMean(0.2), MultiKrum(1)])
def test_gradients_that_overflow_the_encoder_move_nothing_far(rule: Robust) -> None:
    model, features, gradients = served(trains_fronts=True, dtype=torch.float32)
    gradients[2] = torch.full_like(gradients[2], 3e38)
    found = rule(model, gradients, WEIGHTS)
    honest = torch.linalg.vector_norm(own(features, gradients), dim=1)[[0, 1, 3, 4]]
    assert torch.linalg.vector_norm(found.gradient) < 6 * 5 / 4 * honest.sum()
    others = [g for k, g in enumerate(model.feature_gradients()) if k != 2]
    assert all(g is not None and bool(g.isfinite().all()) for g in others)


@pytest.mark.parametrize("many", [4, 5])
def test_the_median_is_that_of_the_contributions(many: int) -> None:
    model, features, gradients = served()
    given = [g if k < many else None for k, g in enumerate(gradients)]
    contributions = (own(features, gradients) * -WEIGHTS[:, None])[:many].numpy()
    found = TrimmedMean(0.5)(model, given, WEIGHTS)
    np.testing.assert_allclose(found.gradient.numpy(), many * np.median(contributions, axis=0), rtol=1e-12)


def test_the_trimmed_mean_leaves_out_both_ends() -> None:
    rows = torch.tensor([[1.0, -9.0], [2.0, 0.0], [3.0, 3.0], [400.0, 6.0], [-7.0, 9.0]], dtype=F64)
    assert trimmed(rows, 0.2).tolist() == [10.0, 15.0]
    assert trimmed(rows, 0.19).tolist() == rows.sum(0).tolist()
    assert trimmed(rows, 0.5).tolist() == [10.0, 15.0]
    assert trimmed(rows[:4], 0.5).tolist() == [10.0, 6.0]
    assert trimmed(rows[:1], 0.5).tolist() == [1.0, -9.0]
    assert trimmed(torch.tensor([[1.0], [math.nan], [2.0], [math.inf], [3.0]]), 0.4).tolist() == [15.0]


def test_equal_contributions_give_their_sum_under_every_rule() -> None:
    x, g = noise(1, 2, 4), 1e-3 * noise(2, 2, 3)
    w = torch.full((USERS,), -0.5, dtype=F64)
    for rule in (NormClip(1.0), TrimmedMean(0.5), TrimmedMean(0.2), MultiKrum(1)):
        model = SharedModel(encoder(), False)
        model.forward([x] * USERS)
        found = rule(model, [g] * USERS, w).gradient
        torch.testing.assert_close(found, 2.5 * own([x], [g])[0], rtol=1e-9, atol=1e-15)


def krum_by_hand(g: np.ndarray, byzantine: int) -> set[int]:
    scores = []
    for i in range(len(g)):
        apart = sorted(float(((g[i] - g[j]) ** 2).sum()) for j in range(len(g)) if j != i)
        scores.append(sum(apart[: len(g) - byzantine - 2]))
    return {*np.argsort(scores)[: len(g) - byzantine].tolist()}


@pytest.mark.parametrize("byzantine", [1, 2, 3])
def test_multi_krum_is_its_definition(byzantine: int) -> None:
    for seed in range(20):
        g = noise(seed, 9, 6)
        shares = krum_shares(g @ g.T, torch.ones(9, dtype=torch.bool), byzantine)
        assert {*shares.nonzero().flatten().tolist()} == krum_by_hand(g.numpy(), byzantine)
        assert shares.max() == pytest.approx(9 / (9 - byzantine))


def test_multi_krum_through_the_encoder_leaves_the_stranger_out() -> None:
    model, features, gradients = served()
    gradients[3] = 100 * gradients[3]
    found = MultiKrum(1)(model, gradients, WEIGHTS)
    assert found.held_back is not None
    assert found.held_back.tolist() == [False, False, False, True, False]
    weights = -WEIGHTS * 5 / 4
    weights[3] = 0
    torch.testing.assert_close(found.gradient, weights @ own(features, gradients), rtol=1e-9, atol=1e-12)


def test_multi_krum_trusts_nobody_among_too_few() -> None:
    model, _, gradients = served()
    found = MultiKrum(1)(model, [*gradients[:4], None], WEIGHTS)
    assert not found.gradient.any()
    assert found.held_back is not None
    assert found.held_back.tolist() == [True] * 4 + [False]


@pytest.mark.parametrize("rule", [NormClip(1.0), TrimmedMean(0.5), MultiKrum(1)])
def test_a_slot_without_anybody_moves_nothing(rule: Robust) -> None:
    model = SharedModel(encoder(), False)
    model.forward([noise(1, 2, 4), None])
    assert not rule(model, [None, None], torch.tensor([-1.0, -1.0], dtype=F64)).gradient.any()


@pytest.mark.parametrize("rule", [NormClip(0.1), TrimmedMean(0.5), MultiKrum(1)])
def test_feature_gradients_stay_those_of_the_users_own_losses(rule: Robust) -> None:
    (model, features, gradients), (plain, _, _) = served(trains_fronts=True), served(trains_fronts=True)
    rule(model, gradients, WEIGHTS)
    plain.backward(gradients, WEIGHTS)
    for x, g, found, same in zip(
        features, gradients, model.feature_gradients(), plain.feature_gradients(), strict=True
    ):
        leaf = x.clone().requires_grad_()
        encoder()(leaf).backward(g)
        torch.testing.assert_close(found, leaf.grad, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(found, same, rtol=1e-10, atol=1e-14)


def test_what_a_scenario_names() -> None:
    named = {
        NormClip(2.0): config.NormClip(kind="norm_clip", at=2.0),
        TrimmedMean(0.5): config.Median(kind="median"),
        TrimmedMean(0.1): config.TrimmedMean(kind="trimmed_mean", share=0.1),
        MultiKrum(3): config.MultiKrum(kind="multi_krum", byzantine=3),
        None: None,
    }
    assert {rule: build_robust(said) for rule, said in named.items()} == {rule: rule for rule in named}
