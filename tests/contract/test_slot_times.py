"""t_user is what a user took to answer the outputs: not its next features unless they ride, nothing if not asked."""

import math
import time
from pathlib import Path

import numpy as np
import pytest

import runs
import tampering
from user_client.user import User

pytestmark = pytest.mark.alone

PAUSE = 0.05
AHEAD = [{**runs.digits()["users"][0], "front": "none"}]
"""Its images are too large to ride with feedback."""


@pytest.mark.parametrize(
    ("tree", "transport"),
    [
        (runs.digits(rounds=1, slots=5) | {"users": AHEAD}, "memory"),
        (runs.digits(many=2, rounds=1, slots=5), "memory"),
        (runs.digits(many=2, rounds=1, slots=5), "grpc"),
    ],
    ids=["ahead-memory", "asked-memory", "asked-grpc"],
)
def test_slow_features_are_not_slow_feedback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: runs.Tree, transport: str
) -> None:
    """Not ahead over `grpc`: edge and users share one event loop there, so slow features keep the edge from hearing."""
    prompt = User.features

    def slow(user: User, round_: int, slot: int):
        time.sleep(PAUSE)
        return prompt(user, round_, slot)

    monkeypatch.setattr(User, "features", slow)
    rows = runs.slots(runs.run(tmp_path, tree, transport).folder)
    assert np.median(rows["t_user"]) < PAUSE / 2
    assert (rows["t_user"] > 0).all()


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_a_user_rejected_before_the_outputs_has_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    tampering.let(monkeypatch, 1, tampering.at("features", 0, 1), tampering.value(math.nan))
    rows = runs.slots(runs.run(tmp_path, runs.kernel(), transport).folder)
    np.testing.assert_array_equal(np.isnan(rows["t_user"]), rows["status"] == "rejected")
    assert (rows["status"] == "rejected").sum() == 1
