import math

import pytest
import torch

from edge_server.routed_mtl.design import Design
from edge_server.routed_mtl.losses import joint_loss
from edge_server.routed_mtl.networks import ArchitectureError, TaskNetwork
from edge_server.routed_mtl.p3_delay import P3Delay
from edge_server.routed_mtl.p4_capacity import P4Capacity
from edge_server.routed_mtl.progress import Progress
from edge_server.routed_mtl.publishing import locked_tasks
from edge_server.routed_mtl.samples import Samples, draw_samples
from edge_server.routed_mtl.tasks import Tasks
from edge_server.routed_mtl.training import Diverged, Trainer

P3, P4 = P3Delay(), P4Capacity()
TASKS = Tasks.grid([P3, P4], [2, 4])
SAMPLES = draw_samples(TASKS, 200, 0, places=4)

DESIGNS = [
    Design(places=4, batch=4, stages=(6, 8)),
    Design(places=4, batch=4, stages=(6, 8), second_stage="reinit", schedule="cosine", skip=True, inputs="log_gain"),
    Design(places=4, batch=4, stages=(6, 8), straight_through=True, tasks_per_step=2, dual="printed"),
    Design(places=4, batch=4, stages=(14, 0), scheme="single", inputs="power"),
    Design(places=4, batch=4, stages=(14, 0), scheme="naive", index="one_hot"),
    Design(places=4, batch=4, stages=(14, 0), scheme="zero_padding"),
    Design(places=4, batch=4, stages=(14, 0), scheme="equivariant", skip=True),
]


def name_of(design: Design) -> str:
    return f"{design.scheme}-{design.second_stage}-{design.tasks_per_step}"


@pytest.mark.parametrize("stop", [3, 6, 9])
@pytest.mark.parametrize("design", DESIGNS, ids=name_of)
def test_continuing_from_a_state_gives_the_same_bits(design: Design, stop: int) -> None:
    whole, first = Trainer(TASKS, design, SAMPLES), Trainer(TASKS, design, SAMPLES)
    whole.train()
    first.train(stop)
    state = first.state_dict()
    first.train(2)
    second = Trainer(TASKS, design, SAMPLES)
    second.load_state_dict(state)
    assert second.taken == stop
    second.train()
    expected, found = whole.state_dict(), second.state_dict()
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


@pytest.mark.parametrize("design", DESIGNS, ids=name_of)
def test_every_trained_number_moves_and_lambda_stays_positive(design: Design) -> None:
    trainer = Trainer(TASKS, design, SAMPLES)
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    trainer.train()
    after = dict(trainer.network.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert trainer.done
    assert float(trainer.dual.min()) >= 0
    assert float(trainer.dual[:2].abs().max()) == 0
    with pytest.raises(ValueError, match="all 14 steps are taken"):
        trainer.step()


def test_masks_harden_once_at_the_end_of_stage_one() -> None:
    trainer = Trainer(TASKS, DESIGNS[0], SAMPLES)
    network = trainer.network
    assert isinstance(network, TaskNetwork)
    trainer.train(5)
    assert (trainer.stage, network.masks) == (1, None)
    trainer.train(1)
    masks = network.masks
    assert trainer.stage == 2
    assert masks is not None
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    router = [parameter.clone() for parameter in network.router.parameters()]  # type: ignore[union-attr]
    trainer.train()
    assert network.masks is masks
    assert all(torch.equal(a, b) for a, b in zip(router, network.router.parameters(), strict=True))  # type: ignore[union-attr]


def test_reinit_draws_the_bdnn_anew_and_continue_keeps_it() -> None:
    kept, drawn = (
        Trainer(TASKS, Design(places=4, batch=4, stages=(6, 8), second_stage=second), SAMPLES)  # type: ignore[arg-type]
        for second in ("continue", "reinit")
    )
    kept.train(6)
    drawn.train(6)
    assert isinstance(kept.network, TaskNetwork)
    assert isinstance(drawn.network, TaskNetwork)
    assert not torch.equal(kept.network.trunk.weights[2], drawn.network.trunk.weights[2])
    assert torch.equal(kept.network.masks, drawn.network.masks)  # type: ignore[arg-type]
    assert torch.equal(kept.dual, drawn.dual)


def test_one_step_of_the_trainer_is_adam_on_the_mean_over_tasks() -> None:
    design = Design(places=4, batch=4, stages=(2, 0))
    trainer, twin = Trainer(TASKS, design, SAMPLES), Trainer(TASKS, design, SAMPLES)
    loss = trainer.step()
    chosen, groups = twin._drawer.choose()
    batch = twin._drawer.batch(chosen)
    total = joint_loss(groups, twin.network(batch.features, None, batch.presence, None), batch, twin.dual, 10.0).total
    assert loss == pytest.approx(float(total.detach()) / 4, rel=1e-6)
    gradient = torch.autograd.grad(total / 4, list(twin.network.parameters()))
    for before, after, slope in zip(twin.network.parameters(), trainer.network.parameters(), gradient, strict=True):
        expected = before - 1e-3 * slope / (slope.abs() + 1e-8)
        torch.testing.assert_close(after, expected, rtol=1e-4, atol=2e-5)


def test_cosine_starts_each_stage_at_the_rate_and_ends_near_zero() -> None:
    trainer = Trainer(TASKS, Design(places=4, stages=(4, 6), schedule="cosine", batch=2), SAMPLES)
    rates = []
    while not trainer.done:
        trainer.step()
        rates.append(trainer._optimiser.param_groups[0]["lr"] if trainer.taken != 4 else math.nan)
    assert rates[0] == pytest.approx(1e-3)
    assert rates[4] == pytest.approx(1e-3)
    assert rates[2] == pytest.approx(0.5e-3)
    assert rates[-1] == pytest.approx(0.5e-3 * (1 + math.cos(math.pi * 5 / 6)))


def test_a_non_finite_loss_stops_and_restores_the_last_good_state() -> None:
    trainer = Trainer(TASKS, Design(places=4, batch=4, stages=(150, 50)), SAMPLES)
    trainer.train(100)
    good = trainer.state_dict()
    trainer.train(10)
    broken = SAMPLES.gains.clone()
    broken[2] = torch.nan
    trainer._drawer.samples = Samples(broken, SAMPLES.labels, SAMPLES.presence)
    with pytest.raises(Diverged, match=r"loss is nan at step 110.*state of step 100") as caught:
        trainer.train()
    assert (caught.value.step, caught.value.restored, trainer.taken) == (110, 100, 100)
    restored = trainer.state_dict()
    assert [name for name in good if name.startswith("network") and not torch.equal(good[name], restored[name])] == []
    trainer._drawer.samples = SAMPLES
    trainer.train(20)
    assert trainer.taken == 120


def test_a_run_that_goes_on_has_a_good_state_from_the_start() -> None:
    first, second = (Trainer(TASKS, Design(places=4, batch=4, stages=(200, 100)), SAMPLES) for _ in range(2))
    first.train(130)
    good = first.state_dict()
    second.load_state_dict(good)
    second.train(5)
    second._drawer.samples = Samples(SAMPLES.gains * torch.nan, SAMPLES.labels, SAMPLES.presence)
    with pytest.raises(Diverged, match=r"at step 135.*state of step 130"):
        second.train()
    restored = second.state_dict()
    assert [name for name in good if not torch.equal(good[name], restored[name])] == []


def test_restoring_over_the_hardening_softens_the_masks_again() -> None:
    trainer = Trainer(TASKS, Design(places=4, batch=4, stages=(5, 50)), SAMPLES)
    trainer.train(7)
    assert trainer.stage == 2
    trainer._drawer.samples = Samples(SAMPLES.gains * torch.nan, SAMPLES.labels, SAMPLES.presence)
    with pytest.raises(Diverged, match=r"at step 7.*state of step 0"):
        trainer.step()
    assert (trainer.taken, trainer.stage) == (0, 1)


def test_a_state_of_another_design_is_one_clear_error() -> None:
    state = Trainer(TASKS, DESIGNS[0], SAMPLES).state_dict()
    for design in DESIGNS[1:]:
        with pytest.raises(ArchitectureError, match="another design or other tasks"):
            Trainer(TASKS, design, SAMPLES).load_state_dict(state)
    with pytest.raises(ValueError, match=r"\[tasks, places\] is \[4, 4\].*need \[4, 20\]"):
        Trainer(TASKS, Design(), SAMPLES)


def test_progress_is_told_every_so_often_and_at_the_end() -> None:
    told: list[Progress] = []
    trainer = Trainer(TASKS, Design(places=4, batch=4, stages=(7, 3), tasks_per_step=1), SAMPLES)
    trainer.train(on_progress=told.append, every=4)
    assert [(p.taken, p.steps, p.stage) for p in told] == [(4, 10, 1), (8, 10, 2), (10, 10, 2)]
    assert [task.task for task in told[0].tasks] == [str(task) for task in TASKS]
    assert math.isfinite(told[-1].loss)
    assert told[-1].worst_violation >= 0


def test_two_hundred_tasks_with_sampling() -> None:
    many = Tasks.grid([P3, P4], range(1, 101))
    samples = draw_samples(many, 20, 0, places=100)
    trainer = Trainer(many, Design(places=100, batch=4, stages=(20, 10), tasks_per_step=14), samples)
    trainer.train()
    assert trainer.dual.shape == (200, 100)
    assert int((trainer.smoothed.seen > 0).sum()) > 150


def test_a_task_without_power_is_named_as_locked() -> None:
    trainer = Trainer(TASKS, Design(places=4, batch=4, stages=(1, 1), scheme="naive"), SAMPLES)
    assert isinstance(trainer.network, TaskNetwork)
    with torch.no_grad():
        trainer.network.trunk.biases[-1].fill_(-20.0)
    assert locked_tasks(trainer) == ("p4_capacity/2", "p4_capacity/4")
    with torch.no_grad():
        trainer.network.trunk.biases[-1].fill_(20.0)
    assert locked_tasks(trainer) == ()


@pytest.mark.parametrize(("calibrate", "locked"), [(False, ("p4_capacity/3",)), (True, ())])
def test_a_task_that_is_published_with_its_power_is_not_locked(calibrate: bool, locked: tuple[str, ...]) -> None:
    tasks = Tasks.of([(P4, 3)])
    design = Design(scheme="single", inputs="power", stages=(100, 0), calibrate=calibrate)
    trainer = Trainer(tasks, design, draw_samples(tasks, 400, 0))
    trainer.train()
    assert isinstance(trainer.network, TaskNetwork)
    with torch.no_grad():
        trainer.network.trunk.biases[-1].sub_(20.0)
    assert locked_tasks(trainer) == locked


def test_one_task_learns_to_meet_its_limit() -> None:
    tasks = Tasks.of([(P4, 5)])
    samples = draw_samples(tasks, 5000, 0)
    trainer = Trainer(tasks, Design(scheme="single", inputs="power", stages=(1500, 0)), samples)
    trainer.train()
    last = trainer.progress(0.0).tasks[0]
    assert last.objective > 2.15
    assert abs(last.violation) < 0.08
    assert locked_tasks(trainer) == ()


def test_moments_of_cut_weights_never_become_denormal() -> None:
    trainer = Trainer(TASKS, Design(places=4, batch=4, stages=(1200, 0)), SAMPLES)
    with torch.no_grad():
        trainer.network.router.last_bias[:2000].fill_(-1.0)  # type: ignore[union-attr,index]
    trainer.train(1100)
    moments = {name: value.abs() for name, value in trainer.state_dict().items() if name.startswith("adam.exp")}
    tiny = torch.finfo(torch.float32).tiny
    assert sum(int(((value > 0) & (value < tiny)).sum()) for value in moments.values()) == 0
    assert int((moments["adam.exp_avg.router.last"] == 0).sum()) > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_missing_gpu_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="device is 'cuda', but torch sees no GPU here"):
        Trainer(TASKS, Design(places=4, device="cuda"), SAMPLES)
