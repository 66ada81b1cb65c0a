"""What a slot gives away, against closed forms, chance and another way to compute it."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import runs
from sim.leaks import direction_likeness, distance_correlation, label_auc, norm_likeness
from sim.price import numbers

RNG = np.random.default_rng(1)


def auc_by_pairs(likeness: np.ndarray, labels: np.ndarray) -> float:
    """The definition, sample by sample."""
    found = []
    for a in range(len(labels)):
        b = np.delete(np.arange(len(labels)), a)
        same, other = likeness[a, b[labels[b] == labels[a]]], likeness[a, b[labels[b] != labels[a]]]
        if len(same) and len(other):
            apart = np.sign(same[:, None] - other)
            found.append((apart.mean() + 1) / 2)
    return float(np.mean(found)) if found else math.nan


@pytest.mark.parametrize("likeness", [norm_likeness, direction_likeness])
def test_auc_is_its_definition(likeness) -> None:
    gradients, labels = RNG.standard_normal((30, 4)).round(1), RNG.integers(5, size=30)
    gradients[3] = 0
    matrix = likeness(gradients)
    assert label_auc(matrix, labels) == pytest.approx(auc_by_pairs(matrix, labels), rel=1e-12)


def test_auc_at_its_ends() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    apart = np.eye(3)[labels]
    assert label_auc(direction_likeness(apart), labels) == 1.0
    assert label_auc(norm_likeness(apart), labels) == 0.5
    assert label_auc(norm_likeness(apart * (1.0 + labels)[:, None]), labels) == 1.0
    assert math.isnan(label_auc(np.ones((3, 3)), np.zeros(3, int)))
    assert math.isnan(label_auc(np.ones((1, 1)), np.zeros(1, int)))


def test_auc_of_nothing_is_chance() -> None:
    found = [label_auc(direction_likeness(RNG.standard_normal((25, 8))), RNG.integers(10, size=25)) for _ in range(400)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.01)


def test_distance_correlation_is_its_definition() -> None:
    x, z = RNG.standard_normal((9, 3)), RNG.standard_normal((9, 2))
    n = len(x)
    products = []
    for p, q in ((x, z), (x, x), (z, z)):
        total = 0.0
        a, b = cdist(p, p), cdist(q, q)
        for i in range(n):
            for j in range(n):
                if i != j:
                    u = [
                        d[i, j] - d[i].sum() / (n - 2) - d[:, j].sum() / (n - 2) + d.sum() / (n - 1) / (n - 2)
                        for d in (a, b)
                    ]
                    total += u[0] * u[1]
        products.append(total)
    expected = products[0] / math.sqrt(products[1] * products[2])
    assert distance_correlation(x, z) == pytest.approx(expected, rel=1e-12)


def test_distance_correlation_at_its_ends() -> None:
    x = RNG.standard_normal((25, 6))
    turn, _ = np.linalg.qr(RNG.standard_normal((6, 6)))
    assert distance_correlation(x, 3 * x @ turn + 1) == pytest.approx(1.0)
    independent = [distance_correlation(x, RNG.standard_normal((25, 40))) for _ in range(200)]
    assert np.mean(independent) == pytest.approx(0.0, abs=0.02)
    assert distance_correlation(x, np.ones((25, 2))) == 0.0
    assert math.isnan(distance_correlation(x[:3], x[:3]))
    monotone = np.linspace(-2, 2, 25)[:, None]
    assert 0.8 < distance_correlation(monotone, np.exp(monotone)) < 1.0


def test_an_identity_head_with_squared_loss_gives_every_label_away(tmp_path: Path) -> None:
    """y = f - g B / 2, to rounding; noise on the gradient is noise on the label."""
    task = {"kind": "kernel_regression", "batch": 5}
    people = [{"name": f"u{k}", "task": task, "head": {"kind": "identity"}} for k in range(3)]
    people[1]["task"] = {**task, "feedback": {"holdout": 2}}
    people[2]["privacy"] = {"clip": 0.5, "noise": 1.0}
    tree = runs.kernel(rounds=2, slots=6, users=people, record={"privacy": True})
    rows = runs.rounds(runs.run(tmp_path, tree).folder)
    error = rows["label_error"].reshape(2, 3)
    assert (error[:, :2] < 1e-13).all()
    assert (error[:, 2] > 0.3).all()
    np.testing.assert_allclose(rows["distance_correlation"], 1.0)
    assert np.isnan(rows["norm_auc"]).all()


def test_what_the_edge_sees_is_measured_and_changes_nothing(tmp_path: Path) -> None:
    tree = runs.digits(many=3, rounds=2, slots=4, batch=12)
    tree["users"][2]["privacy"] = {"clip": 0.01, "noise": 3.0}
    plain = runs.run(tmp_path / "plain", tree)
    assert plain.summary["leaks"] is None
    result = runs.run(tmp_path, runs.changed(tree, record={"privacy": True}))
    assert result.digest == plain.digest
    leaks = result.summary["leaks"]
    by_direction = leaks["direction_auc"]
    assert by_direction["u0"] > 0.6
    assert abs(by_direction["u2"] - 0.5) < 0.1
    assert 0.3 < leaks["distance_correlation"]["u0"] < 0.999
    assert leaks["label_error"] == dict.fromkeys(("u0", "u1", "u2"))
    rows = runs.rounds(result.folder)
    means = rows["direction_auc"].reshape(2, 3).mean(axis=0)
    np.testing.assert_allclose([*by_direction.values()], means, rtol=1e-12)


def test_a_meter_is_no_other_scenario(tmp_path: Path) -> None:
    """Whether leaks are measured does not keep two runs from being compared."""
    plain, metered = (runs.loaded(tmp_path, runs.kernel(record=record)) for record in ({}, {"privacy": True}))
    assert numbers(plain.scenario) == numbers(metered.scenario)
