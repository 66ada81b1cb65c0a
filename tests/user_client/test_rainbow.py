import numpy as np
import pytest
import torch
from places import place, task

from user_client import config as settings
from user_client import datasets
from user_client.tasks.rainbow import render
from user_client.tasks.rainbow_schedules import Bundled, Passes

COLOURS = [(1, 0, 0), (1, 0.5, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (0.29, 0, 0.51), (0.56, 0, 1)]
MNIST = {"kind": "rainbow", "digits": "mnist"}
BUNDLED = {"kind": "rainbow", "digits": "bundled", "batch": 10}


def passes(validation=None, batch=25, feedback="batch", **changes):
    asked = {"batch": batch, "validation": validation, "feedback": feedback}
    config = settings.Rainbow(kind="rainbow", digits="mnist", **asked)
    return Passes(config, place(**{"rounds": 168, "slots": 31, **changes}))


@pytest.fixture
def blank_mnist(monkeypatch):
    """70,000 black digits whose labels are their position modulo 10."""
    digits = datasets.Digits(np.zeros((70_000, 28, 28), np.uint8), (np.arange(70_000) % 10).astype(np.uint8))
    monkeypatch.setattr(datasets, "mnist", lambda: digits)
    monkeypatch.setattr(datasets, "require_mnist", lambda: None)


@pytest.mark.parametrize("number", range(56))
def test_rendering_pixel_by_pixel(number):
    """(1 - g) colour + g white, after 2x2 averages with 7 pixels around them, after quarter turns."""
    digits = np.random.default_rng(number).integers(0, 256, (2, 28, 28), dtype=np.uint8)
    grey = digits.astype(np.float64) / 255
    if (number // 4) % 2 == 1:
        small = (grey[:, ::2, ::2] + grey[:, 1::2, ::2] + grey[:, ::2, 1::2] + grey[:, 1::2, 1::2]) / 4
        grey = np.zeros((2, 28, 28))
        grey[:, 7:21, 7:21] = small
    grey = np.stack([np.rot90(image, number % 4) for image in grey])
    colour = np.array(COLOURS[number // 8])[None, :, None, None]
    expected = (1 - grey[:, None]) * colour + grey[:, None] * 1.0
    shown = render(digits, number)
    assert shown.dtype == torch.float32
    assert shown.is_contiguous()
    assert ((shown >= 0) & (shown <= 1)).all()
    np.testing.assert_allclose(shown.numpy(), expected, atol=2e-7)


def test_the_56_tasks_differ():
    digit = np.zeros((1, 28, 28), np.uint8)
    digit[0, 3, 9] = 200
    assert len({render(digit, number).numpy().tobytes() for number in range(56)}) == 56


@pytest.mark.parametrize("users", [2, 5, 56])
def test_every_user_sees_every_task_of_a_pass_and_never_the_same_in_a_round(users):
    orders = np.array([[passes(index=k, users=users).task(t) for t in range(168)] for k in range(users)])
    for start in (0, 56, 112):
        for row in orders[:, start : start + 56]:
            assert sorted(row) == list(range(56))
    assert all(len(set(column)) == users for column in orders.T)
    assert not np.array_equal(orders[:, :56], orders[:, 56:112])


def test_images_of_a_pass_are_disjoint_and_new_in_the_next():
    one = passes()
    by_task = {}
    for round_ in range(56):
        training = np.concatenate([one.training(round_, slot) for slot in range(31)])
        by_task[one.task(round_)] = np.concatenate([training, one.validation(round_)])
        assert (len(training), len(one.validation(round_))) == (775, 450)
    rows = np.concatenate(list(by_task.values()))
    assert len(set(rows.tolist())) == 56 * 1225
    assert rows.min() >= 0
    assert rows.max() < 70_000
    again = next(t for t in range(56, 112) if one.task(t) == one.task(0))
    assert set(one.validation(again)) != set(one.validation(0))


def test_users_share_the_images_of_a_task():
    one, two = passes(index=0, seed=1), passes(index=1, seed=2)
    other = next(t for t in range(56) if two.task(t) == one.task(0))
    assert other != 0
    assert np.array_equal(one.training(0, 3), two.training(other, 3))
    assert np.array_equal(one.validation(0), two.validation(other))


def test_passes_follow_the_shared_seed_alone():
    assert passes(seed=1).task(9) == passes(seed=2).task(9)
    tasks = [[passes(shared_seed=s).task(t) for t in range(56)] for s in (1, 2)]
    assert tasks[0] != tasks[1]


def test_validation_can_be_smaller():
    assert np.array_equal(passes(validation=20).validation(0), passes().validation(0)[:20])


def test_held_out_images_are_never_trained_on_in_their_round():
    one = passes(batch=10, feedback={"holdout": 15})
    slots = [one.training(3, slot) for slot in range(31)]
    trained, held = (np.concatenate([rows[part] for rows in slots]) for part in (slice(10), slice(10, None)))
    assert (len(trained), len(held)) == (310, 465)
    assert len({*trained, *held, *one.validation(3)}) == 310 + 465 + 450


def test_bundled_keeps_images_for_the_held_out():
    config = settings.Rainbow(kind="rainbow", digits="bundled", batch=100, feedback={"holdout": 60})
    one = Bundled(config, place())
    slots = [one.training(t, s) for t in range(4) for s in range(30)]
    trained, held = ({int(row) for rows in slots for row in rows[part]} for part in (slice(100), slice(100, None)))
    assert (len(trained), len(held)) == (1797 - 450 - 300, 300)
    assert not trained & held
    assert not (trained | held) & {*one.validation(0).tolist()}
    assert all(len({*rows}) == 160 for rows in slots)


def test_mnist_job(blank_mnist):
    one = task(MNIST, rounds=168, slots=31)
    schedule = passes()
    job, validation = one.job(4, 30), one.validation(4)
    assert job.x.shape == (25, 3, 28, 28)
    assert validation.x.shape == (450, 3, 28, 28)
    assert job.y.dtype == torch.int64
    assert job.y.tolist() == (schedule.training(4, 30) % 10).tolist()
    colour = torch.tensor(COLOURS[schedule.task(4) // 8], dtype=torch.float32)
    assert torch.equal(job.x, colour.view(1, 3, 1, 1).expand_as(job.x))


def test_bundled_pools_are_disjoint_and_shared():
    config = settings.Rainbow(kind="rainbow", digits="bundled", batch=100)
    one, two = Bundled(config, place(seed=1)), Bundled(config, place(seed=2))
    validation = set(one.validation(0).tolist())
    drawn = {int(row) for t in range(5) for s in range(40) for row in one.training(t, s)}
    assert len(validation) == 450
    assert len(drawn) == 1797 - 450
    assert not validation & drawn
    assert validation == set(two.validation(3).tolist())
    assert len(set(one.training(0, 0).tolist())) == 100
    assert one.training(0, 0).tolist() != two.training(0, 0).tolist()
    assert one.training(0, 0).tolist() != one.training(0, 1).tolist()


def test_bundled_tasks_come_with_replacement_and_all_of_them():
    schedule = Bundled(settings.Rainbow(kind="rainbow", digits="bundled"), place(rounds=5600))
    counts = np.bincount([schedule.task(t) for t in range(5600)], minlength=56)
    assert len(counts) == 56
    chi_squared = ((counts - 100) ** 2 / 100).sum()
    assert chi_squared < 100  # 55 degrees of freedom: 99.98 % of fair draws


def test_bundled_job_shows_the_right_digits():
    one = task(BUNDLED, slots=1000, rounds=10_000)
    schedule = Bundled(settings.Rainbow(kind="rainbow", digits="bundled", batch=10), place())
    rows = schedule.training(9_999, 999)
    job = one.job(9_999, 999)
    assert job.y.tolist() == datasets.bundled().labels[rows].tolist()
    assert torch.equal(job.x, render(datasets.bundled().images[rows], schedule.task(9_999)))
    assert one.validation_batch == 450


def test_any_order_of_calls_gives_the_same_bits():
    one = task(BUNDLED)
    for round_, slot in [(3, 5), (0, 1), (3, 0), (3, 5)]:
        assert torch.equal(one.job(round_, slot).x, task(BUNDLED).job(round_, slot).x)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (MNIST, {"rounds": 169}, "rounds is 169, the limit is 168: Rainbow MNIST has 3 passes of 56 tasks"),
        (MNIST, {"slots": 32}, "slots x batch is 800, the limit is 775"),
        (MNIST, {"users": 57}, "users is 57, the limit is 56"),
        ({**MNIST, "validation": 451}, {}, "validation is 451, the limit is 450"),
        ({**BUNDLED, "validation": 451}, {}, "validation is 451, the limit is 450"),
        ({**BUNDLED, "batch": 1348}, {}, "batch is 1348, the limit is 1347"),
        (
            {**MNIST, "feedback": {"holdout": 1}},
            {"slots": 31},
            r"slots x \(batch \+ holdout\) is 806, the limit is 775",
        ),
        ({**BUNDLED, "feedback": {"holdout": 301}}, {}, "holdout is 301, the limit is 300"),
        ({**BUNDLED, "batch": 1048, "feedback": {"holdout": 1}}, {}, "batch is 1048, the limit is 1047"),
    ],
)
def test_refusals(config, changes, message):
    with pytest.raises(ValueError, match=message):
        task(config, **changes)


def test_missing_mnist_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("EQUIRAN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        task(MNIST)
    assert 'MNIST is not here: run "equiran data fetch mnist"' in str(error.value)
    assert str(tmp_path / "mnist") in str(error.value)
