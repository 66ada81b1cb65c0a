"""Two of ten users on one common task send what they like: with a robust rule the others learn as if they did not."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

import runs
from sim.caller import Result

HONEST, BAD = 8, 2
SLOTS, BATCH, VALIDATION = 150, 10, 450
ATTACKS = {
    "sign_flip": {"kind": "gradient", "attack": "sign_flip"},
    "flip_100": {"kind": "gradient", "attack": "sign_flip", "factor": 100.0},
    "times_100": {"kind": "gradient", "attack": "scale", "factor": 100.0},
    "random": {"kind": "gradient", "attack": "random", "factor": 100.0},
    "inflation": {"kind": "inflation", "factor": 10.0},
}
RULES = {
    "norm_clip": {"kind": "norm_clip", "at": 1.0},
    "median": {"kind": "median"},
    "trimmed_mean": {"kind": "trimmed_mean", "share": 0.2},
    "multi_krum": {"kind": "multi_krum", "byzantine": 2},
}
TWO_POINTS = 0.02


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    return (found.data[order] / 16).astype(np.float32), found.target[order].astype(np.int64)


def tree(folder: Path, attack: str | None, rule: runs.Tree | None) -> runs.Tree:
    """Everybody draws from the same 1347 digits; the encoder is the whole model, in the users' common units."""
    x, y = digits()
    people = []
    for k in range(HONEST + BAD):
        name = f"honest_{k}" if k < HONEST else f"bad_{k - HONEST}"
        rows = VALIDATION + np.random.default_rng(k).integers(len(y) - VALIDATION, size=(1, SLOTS, BATCH))
        if not (folder / f"{name}.npz").exists():
            held = {"x_val": x[None, :VALIDATION], "y_val": y[None, :VALIDATION]}
            np.savez(folder / f"{name}.npz", x=x[rows], y=y[rows], **held)
        task = {"kind": "arrays", "path": str(folder / f"{name}.npz"), "loss": "cross_entropy"}
        people.append({"name": name, "task": task, "head": {"kind": "identity"}})
        if attack and k >= HONEST:
            people[-1]["adversary"] = ATTACKS[attack]
    edge = {
        "encoder": {"kind": "linear", "bias": True, "outputs": 10},
        "aggregator": {"kind": "owo_fmtl", "alpha": 1.0, "u_min": 0.5, "u_max": 3.3, "scale": {"sum": 1.0}},
        "robust": rule,
        "primal": {"step": 0.5},
        "meta": {"rule": "continue", "target": "last"},
    }
    return runs.kernel(rounds=1, slots=SLOTS, users=people, edge=edge)


def accuracy(result: Result) -> float:
    """Of the honest, on images that nobody trained on."""
    return float(runs.rounds(result.folder)["val_accuracy"][:HONEST].mean())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("byzantine")


@pytest.fixture(scope="module")
def clean(folder: Path) -> Result:
    return runs.run(folder / "clean", tree(folder, None, None))


@cache
def run(folder: Path, attack: str | None, rule: str | None) -> Result:
    return runs.run(folder / f"{attack}-{rule}", tree(folder, attack, RULES[rule] if rule else None))


@pytest.mark.parametrize("attack", [None, *ATTACKS])
def test_with_norm_clip_the_honest_learn_as_without_attackers(folder: Path, clean: Result, attack: str | None) -> None:
    assert accuracy(clean) > 0.92
    assert accuracy(run(folder, attack, "norm_clip")) > accuracy(clean) - TWO_POINTS


@pytest.mark.parametrize("rule", ["trimmed_mean", "multi_krum"])
def test_so_they_do_with_other_rules(folder: Path, clean: Result, rule: str) -> None:
    assert accuracy(run(folder, "random", rule)) > accuracy(clean) - TWO_POINTS


def test_the_median_costs_more_than_attackers_do(folder: Path, clean: Result) -> None:
    alone = accuracy(run(folder, None, "median"))
    assert accuracy(clean) > alone > accuracy(clean) - 2 * TWO_POINTS
    assert accuracy(run(folder, "random", "median")) > alone - TWO_POINTS


@pytest.mark.parametrize(("attack", "most"), [("times_100", 0.85), ("random", 0.5), ("flip_100", 0.5)])
def test_without_a_rule_they_do_not(folder: Path, attack: str, most: float) -> None:
    assert accuracy(run(folder, attack, None)) < most


def test_inflation_buys_weight_up_to_the_box_and_never_more(folder: Path) -> None:
    """Losses a thousand times too high: the weight ends at u_min^-alpha, where the box ends."""
    said = tree(folder, "inflation", None)
    said["edge"]["aggregator"]["scale"] = "none"
    said["edge"]["primal"] = {"step": 0.05}
    for user in said["users"][HONEST:]:
        user["adversary"] = {"kind": "inflation", "factor": 1000.0}
    weights = runs.slots(runs.run(folder / "box", said).folder)["weight"].reshape(SLOTS, -1)
    largest, smallest = 0.5**-1.0, 3.3**-1.0
    assert weights.max() <= largest
    assert weights.min() >= smallest
    np.testing.assert_allclose(weights[-1, HONEST:], largest)
    assert (weights[-1, :HONEST] < largest).all()


def test_what_a_rule_holds_back_is_counted(folder: Path) -> None:
    held_back = runs.rounds(run(folder, "random", "multi_krum").folder)["held_back"]
    assert held_back.tolist() == [0] * HONEST + [SLOTS] * BAD
    assert np.isnan(runs.rounds(run(folder, "random", "median").folder)["held_back"]).all()
