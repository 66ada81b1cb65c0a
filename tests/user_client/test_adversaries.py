from itertools import pairwise
from math import isqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from places import place, task

from user_client import config as settings
from user_client.adversaries import inflation, with_adversaries

DIGITS = {"kind": "rainbow", "digits": "bundled", "batch": 10, "validation": 20}
KERNEL = {"kind": "kernel_regression", "batch": 3}


def attacked(honest, *configs, seed=3, **changes):
    parsed = [settings.PingPong(kind="ping_pong", **c) for c in configs]
    return with_adversaries(task(honest, **changes), parsed, place(**changes), seed)


def hostile(a_task, honest, round_, slots):
    """Slots whose labels differ from the honest ones."""
    pairs = ((a_task.job(round_, s), honest.job(round_, s)) for s in range(slots))
    return [s for s, (ours, theirs) in enumerate(pairs) if not torch.equal(ours.y, theirs.y)]


def test_no_adversary_is_the_task_itself():
    honest = task(KERNEL)
    assert with_adversaries(honest, (), place(), 3) is honest


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("odd", [*range(5, 10), *range(15, 20), *range(25, 30)]),
        ("even", [*range(5), *range(10, 15), *range(20, 25), 30]),
        ("every", [4, 9, 14, 19, 24, 29]),
    ],
)
def test_schedules_of_the_paper(schedule, expected):
    """m = 31, blocks of isqrt(31) = 5 counted from 0 (maths.md A4)."""
    one = attacked(KERNEL, {"labels": "sign", "hostile": schedule}, slots=31)
    for round_ in (0, 1):
        assert hostile(one, task(KERNEL, slots=31), round_, 31) == expected


@pytest.mark.parametrize("round_", [0, 1, 2, 7])
def test_alternate_is_the_sign_pattern(round_):
    """Sign (-1)^(t + block), both counted from 0."""
    one = attacked(KERNEL, {"labels": "sign", "hostile": "alternate"}, slots=10, rounds=8)
    honest = task(KERNEL, slots=10, rounds=8)
    for slot in range(10):
        sign = (-1) ** (round_ + slot // 3)
        assert torch.equal(one.job(round_, slot).y, sign * honest.job(round_, slot).y)


def test_random_tosses_a_fair_coin_per_block_and_round():
    one = attacked(KERNEL, {"labels": "sign", "hostile": "random", "block": 3}, slots=9, rounds=2000)
    rows = np.array([one.hostile_slots(t) for t in range(2000)])
    blocks = rows.reshape(2000, 3, 3)
    assert (blocks == blocks[:, :, :1]).all()
    coins = blocks[:, :, 0].astype(float)
    assert coins.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(coins.size))
    correlation = np.corrcoef(np.vstack([coins.T, np.roll(coins[:, 0], 1)]))
    assert np.abs(correlation - np.eye(4)).max() < 4 / np.sqrt(2000)
    other = attacked(KERNEL, {"labels": "sign", "hostile": "random", "block": 3}, seed=4, slots=9, rounds=2000)
    assert (rows != [other.hostile_slots(t) for t in range(2000)]).any()


@given(
    slots=st.integers(1, 200),
    block=st.one_of(st.just("sqrt"), st.integers(1, 200)),
    schedule=st.sampled_from(["odd", "even", "alternate", "every", "random"]),
    round_=st.integers(0, 50),
)
def test_schedules_from_their_definition(slots, block, schedule, round_):
    length = isqrt(slots) if block == "sqrt" else min(block, slots)
    config = {"labels": "sign", "hostile": schedule, "block": "sqrt" if block == "sqrt" else length}
    row = attacked(KERNEL, config, slots=slots).hostile_slots(round_)
    assert len(row) == slots
    for slot in range(slots):
        number, place_in_block = divmod(slot, length)
        if schedule == "random":
            assert row[slot] == row[number * length]
        else:
            odd = number % 2 == 1
            assert (
                row[slot]
                == {
                    "odd": odd,
                    "even": not odd,
                    "alternate": odd != (round_ % 2 == 1),
                    "every": place_in_block == length - 1,
                }[schedule]
            )


def test_sign_turns_the_noise_too_and_leaves_inputs():
    one, honest = attacked(KERNEL, {"labels": "sign", "hostile": "odd"}), task(KERNEL)
    assert torch.equal(one.job(1, 2).y, -honest.job(1, 2).y)
    assert torch.equal(one.job(1, 2).x, honest.job(1, 2).x)


def test_nine_minus():
    one, honest = attacked(DIGITS, {"labels": "nine_minus", "hostile": "even"}), task(DIGITS)
    assert torch.equal(one.job(0, 0).y, 9 - honest.job(0, 0).y)
    assert torch.equal(one.job(0, 2).y, honest.job(0, 2).y)
    assert one.job(0, 0).y.dtype == torch.int64


def test_permutation_moves_every_class_and_changes_with_the_round():
    one, honest = attacked(DIGITS, {"labels": "permutation", "hostile": "even", "block": 6}), task(DIGITS)
    tables = []
    for round_ in range(4):
        table = {}
        for slot in range(6):
            ours, theirs = one.job(round_, slot).y, honest.job(round_, slot).y
            assert not (ours == theirs).any()
            for before, after in zip(theirs.tolist(), ours.tolist(), strict=True):
                assert table.setdefault(before, after) == after
        assert len(set(table.values())) == len(table)
        tables.append(table)
    assert any(a[c] != b[c] for a, b in pairwise(tables) for c in a.keys() & b.keys())


def test_validation_stays_clean():
    one, honest = attacked(DIGITS, {"labels": "nine_minus", "hostile": "even", "block": 6}), task(DIGITS)
    assert torch.equal(one.validation(0).y, honest.validation(0).y)


def test_adversaries_compose():
    """Odd and even blocks together are all; the same one twice cancels."""
    odd, even = ({"labels": "sign", "hostile": hostility} for hostility in ("odd", "even"))
    honest = task(KERNEL)
    assert hostile(attacked(KERNEL, odd, even), honest, 0, 6) == list(range(6))
    assert hostile(attacked(KERNEL, odd, odd), honest, 0, 6) == []


def test_two_random_adversaries_have_their_own_coins():
    coin = {"labels": "sign", "hostile": "random", "block": 1}
    two = attacked(KERNEL, coin, coin, slots=40)
    assert 8 < len(hostile(two, task(KERNEL, slots=40), 0, 40)) < 32


def test_any_order_of_calls():
    config = {"labels": "sign", "hostile": "random", "block": 1}
    one = attacked(KERNEL, config)
    for round_, slot in [(3, 5), (0, 1), (3, 0), (1, 1), (0, 1)]:
        assert torch.equal(one.job(round_, slot).y, attacked(KERNEL, config).job(round_, slot).y)


def test_inflation_leaves_the_task_alone_and_composes_with_ping_pong():
    lies = [settings.Inflation(kind="inflation", factor=factor) for factor in (2.0, 1.5)]
    flip = settings.PingPong(kind="ping_pong", labels="sign", hostile="even")
    honest = task(KERNEL)
    assert with_adversaries(honest, lies, place(), 3) is honest
    assert hostile(with_adversaries(honest, [lies[0], flip, lies[1]], place(), 3), honest, 0, 6) == [0, 1, 4, 5]
    assert inflation([lies[0], flip, lies[1]]) == 3.0
    assert inflation([flip]) == inflation([]) == 1.0


@pytest.mark.parametrize(
    ("honest", "config", "message"),
    [
        (DIGITS, {"labels": "sign"}, "adversary labels: sign needs a regression task, this task is 10 classes"),
        (KERNEL, {"labels": "nine_minus"}, "nine_minus needs a task with 10 classes, this task is regression"),
        (KERNEL, {"labels": "permutation"}, "permutation needs a task with at least 2 classes"),
        (KERNEL, {"labels": "sign", "block": 7}, "block is 7 slots, a round has 6: use at most 6"),
    ],
)
def test_refusals(honest, config, message):
    with pytest.raises(ValueError, match=message):
        attacked(honest, config)
