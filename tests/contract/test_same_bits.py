"""Where users live, how they are reached and who answers first changes nothing: equal seeds, equal digests."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import runs
import shuffling
import sim.local
from sim.caller import Result
from sim.data import list_data

ELSEWHERE = [
    {"name": "memory", "transport": "memory"},
    {"name": "grpc", "transport": "grpc"},
    {"name": "again", "transport": "grpc"},
    {"name": "per_user", "hosts": "per_user"},
]
FOUR_HOSTS = [{"name": "four_hosts", "hosts": 4}]


def mnist(**changes) -> runs.Tree:
    tree = runs.digits(many=2, rounds=2, slots=7, batch=25, **changes)
    for user in tree["users"]:
        user["task"] = {"kind": "rainbow", "digits": "mnist", "batch": 25}
    return tree


def same_everywhere(folder: Path, tree: runs.Tree, run: Callable[..., Result], more: Sequence[runs.Tree] = ()) -> None:
    result = run(folder, {**tree, "transport": "ray", "hosts": 1, "compare": [*ELSEWHERE, *more]})
    everyone = [result, *result.compared]
    assert [r.status for r in everyone] == ["done"] * (5 + len(more))
    assert {r.digest for r in everyone} == {result.digest}
    assert result.digest is not None
    first = runs.slots(result.folder)
    for other in result.compared:
        rows = runs.slots(other.folder)
        for name in ("round", "slot", "user", "loss", "weight", "bytes_up", "bytes_down", "status"):
            np.testing.assert_array_equal(rows[name], first[name], err_msg=f"{other.name}: {name}")


def test_kernel(tmp_path: Path, run_on_ray) -> None:
    same_everywhere(tmp_path, runs.kernel(many=5, slots=6), run_on_ray, FOUR_HOSTS)


def test_digits_with_trainable_fronts_and_an_adversary(tmp_path: Path, run_on_ray) -> None:
    same_everywhere(tmp_path, runs.digits(many=3), run_on_ray)


@pytest.mark.slow
def test_mnist(tmp_path: Path, run_on_ray) -> None:
    here = {row.name: row.here for row in list_data()}["mnist"]
    assert here, "this test needs MNIST: equiran data fetch mnist"
    same_everywhere(tmp_path, mnist(), run_on_ray)
    same_everywhere(tmp_path / "raw", runs.changed(mnist(), users__0__front="none", users__1__front="none"), run_on_ray)


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_a_second_run_gives_the_same_digest_and_another_seed_another(tmp_path: Path, transport: str) -> None:
    tree = runs.digits(many=2, slots=2)
    digests = [
        runs.run(tmp_path / str(n), {**tree, "seed": seed}, transport).digest for n, seed in enumerate((1, 1, 2))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_order_of_users_matters_but_order_of_keys_does_not(tmp_path: Path) -> None:
    tree = runs.digits(many=2, slots=2)
    upside_down = {**tree, "users": [dict(reversed(user.items())) for user in tree["users"]]}
    swapped = {**tree, "users": tree["users"][::-1]}
    a, b, c = (runs.run(tmp_path / str(n), t).digest for n, t in enumerate((tree, upside_down, swapped)))
    assert a == b != c


@pytest.mark.parametrize("tree", [runs.kernel(many=6, slots=8), runs.digits(many=4)], ids=["kernel", "digits"])
def test_late_answers_over_a_socket_change_nothing(tmp_path: Path, tree: runs.Tree, monkeypatch) -> None:
    expected = runs.run(tmp_path / "calm", tree, "grpc").digest
    for seed in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(sim.local, "open_channel", lambda a, n, c, s=seed: shuffling.LateChannel(a, n, c, s))
            assert runs.run(tmp_path / f"late{seed}", tree, "grpc").digest == expected


@pytest.mark.parametrize("tree", [runs.kernel(many=6, slots=8), runs.digits(many=4)], ids=["kernel", "digits"])
def test_shuffled_answers_in_memory_change_nothing(tmp_path: Path, tree: runs.Tree, monkeypatch) -> None:
    expected = runs.run(tmp_path / "calm", tree).digest
    monkeypatch.setattr(sim.local, "MemoryLine", shuffling.ShufflingLine)
    monkeypatch.setattr(shuffling.ShufflingLine, "arrivals", [])
    assert runs.run(tmp_path / "shuffled", tree).digest == expected
    arrivals = shuffling.ShufflingLine.arrivals
    many = len({*arrivals})
    assert any(arrivals[i : i + many] != sorted(arrivals[i : i + many]) for i in range(0, len(arrivals), many))
