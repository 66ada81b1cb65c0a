import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sim.bench.slot
import sim.bench.sweep
from protos import edge_pb2 as pb
from protos.tensors import pack
from sim.bench.commands import app
from sim.bench.peer import _average, _Copy
from sim.bench.power_share import policy_share
from sim.bench.process import Worker, WorkerFailed, ended
from sim.bench.slot import BLOCK, Load, design_of, exchanges, measure, report
from sim.bench.sweep import ENVIRONMENTS, ROUNDS, SLOTS, Timed, scenario_of
from sim.bench.sweep import report as sweep_report
from sim.placement import shares
from sim.scenario import load

pytestmark = pytest.mark.alone

SCENARIOS = Path(__file__).parents[2] / "scenarios" / "owo_fmtl"
LOAD = Load(users=2, batch=3, encoder="lenet", slots=6, hosts=1, peer_style=True, mtls=True)


@pytest.fixture(scope="module")
def blocks():
    return measure(LOAD)


def test_every_slot_is_measured_in_every_way(blocks):
    ways = (blocks.wire, blocks.monolithic, blocks.echo, blocks.peer, blocks.mtls)
    for times in (*ways, blocks.forward, blocks.backward, blocks.user):
        assert times.shape == (1, LOAD.slots)
        assert (times > 0).all()


def test_the_monolith_computes_what_the_edge_and_its_users_compute(blocks):
    assert blocks.loss_difference < 1e-5


def test_the_peer_begins_with_the_same_encoder_heads_and_data(blocks):
    assert blocks.peer_difference < 1e-5


def test_the_peers_copies_part_within_a_round_and_are_averaged_after_it():
    copies = [_Copy(design_of(LOAD), k, 0.1) for k in range(2)]
    for copy, sign in zip(copies, (1.0, -1.0), strict=True):
        copy.forward(_request("features", sign * torch.rand(3, 3, 28, 28)), None)
        copy.backward(_request("feedback", torch.ones(3, 50)), None)
    before = [[p.detach().clone() for p in copy.encoder.parameters()] for copy in copies]
    assert not any(torch.equal(a, b) for a, b in zip(*before, strict=True))
    _average(copies)
    for copy in copies:
        for parameter, *parted in zip(copy.encoder.parameters(), *before, strict=True):
            assert torch.equal(parameter, torch.stack(parted).mean(0))


def _request(kind, tensor):
    message = pb.UserMessage()
    part = getattr(message, kind)
    pack(tensor, part.features if kind == "features" else part.gradient)
    return message.SerializeToString()


def test_the_parts_of_a_slot_fit_into_it(blocks):
    assert (blocks.forward + blocks.backward < blocks.wire).all()


def test_the_echo_carries_the_bytes_that_the_records_count(blocks):
    first, second = exchanges(design_of(LOAD))
    down, up = (a + b for a, b in zip(first, second, strict=True))
    assert (blocks.bytes_up[:, 1:-1] == up).all()
    assert (blocks.bytes_down[:, 1:-1] == down).all()


def test_the_ratio_is_made_of_the_times_beside_it(blocks):
    found = json.loads(json.dumps(report(LOAD, blocks), allow_nan=False))
    assert found["ratio"] == pytest.approx((found["wire_ms"] - found["monolithic_ms"]) / found["echo_ms"])
    assert found["wire_ms"] == pytest.approx(1e3 * np.median(blocks.wire))
    assert found["peer_ratio"] == pytest.approx(found["peer_ms"] / found["wire_ms"])
    assert not {"peer_ms", "peer_ratio"} & report(LOAD, blocks._replace(peer=None)).keys()
    assert found["slots"] == LOAD.slots
    assert found["mtls_cost"] == pytest.approx(found["mtls_ms"] / found["wire_ms"] - 1)
    assert "mtls_ms" not in report(LOAD, blocks._replace(mtls=None))
    assert set(found["breakdown"]) == {"user_ms", "wire_ms", "edge_forward_ms", "edge_backward_ms"}
    assert {"cores", "torch", "grpc"} <= set(found["machine"])


def test_a_load_becomes_whole_blocks_and_a_warm_up():
    plan = design_of(Load(users=3, batch=4, encoder="mlp", slots=2 * BLOCK + 1, hosts=3)).plan
    assert (plan.rounds, plan.slots, len(plan.users)) == (4, BLOCK, 3)
    assert plan.users[0].features.shape == (4, 3, 28, 28)


def test_slot_command_measures_what_it_is_asked_and_prints_and_keeps_one_json_object(blocks, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(sim.bench.slot, "measure", lambda load: asked.append(load) or blocks)
    options = ["--users", "2", "--batch", "3", "--slots", "6", "--hosts", "5", "--peer-style", "--mtls"]
    result = CliRunner().invoke(app, ["slot", *options, "--json", "--out", str(tmp_path / "slot.json")])
    assert result.exit_code == 0, result.output
    assert asked == [Load(users=2, batch=3, encoder="lenet", slots=6, hosts=5, peer_style=True, mtls=True)]
    assert {"wire_ms", "monolithic_ms", "echo_ms", "ratio", "breakdown"} <= set(json.loads(result.stdout))
    assert json.loads((tmp_path / "slot.json").read_text()) == json.loads(result.stdout)
    told = CliRunner().invoke(app, ["slot", *options])
    assert told.exit_code == 0, told.output
    assert "ratio = (wire - monolithic) / echo" in told.stdout
    assert "peer_ratio = peer / wire" in told.stdout
    assert "with mtls " in told.stdout


@pytest.mark.parametrize("options", [["--users", "0"], ["--hosts", "0"], ["--hosts", "many"], ["--hosts", "-1"]])
def test_slot_command_refuses_nonsense(options):
    assert CliRunner().invoke(app, ["slot", *options]).exit_code == 2


@pytest.mark.parametrize(
    ("users", "hosts", "cores", "placed"),
    [
        (5, "auto", 2, [[0, 1, 2], [3, 4]]),
        (2, "auto", 8, [[0], [1]]),
        (3, "per_user", 1, [[0], [1], [2]]),
        (3, 9, 1, [[0], [1], [2]]),
        (3, 1, 8, [[0, 1, 2]]),
    ],
)
def test_users_are_spread_over_hosts_as_a_scenario_says(users, hosts, cores, placed):
    assert shares(users, hosts, cores) == placed


def test_a_worker_that_dies_is_an_error_and_nobody_is_left_behind():
    worker = Worker("sim.bench.echo", {"address": "127.0.0.1:1", "exchanges": [[1, 1]], "streams": 1})
    with ended([worker]), pytest.raises(WorkerFailed, match=r"sim\.bench\.echo"):
        worker.hear()
    assert not worker.running


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_sweep_runs_what_the_scenarios_ship(environment):
    sets = ["slots=8", "edge.aggregator.alpha=2"]
    shipped = load(SCENARIOS / f"fig2_{environment}.yaml", sets)
    assert scenario_of(environment, 2.0, 8, ROUNDS) == shipped.scenario


def test_the_sweep_adds_up_and_says_when_it_is_scaled():
    timed = [Timed("stochastic", 1.0, m, pre_pass=2.0, run=1.0, digest="") for m in SLOTS]
    quick, whole = sweep_report(timed, 9.0, ROUNDS // 4), sweep_report(timed, 9.0, ROUNDS)
    assert (whole["seconds"], whole["process_seconds"], whole["pre_pass_seconds"]) == (9.0, 18.0, 12.0)
    assert (quick["seconds"], quick["measured_seconds"]) == (36.0, 9.0)
    assert (quick["scaled"], whole["scaled"]) == (True, False)
    assert math.isclose(whole["slot_us"], 6e6 / (ROUNDS * sum(SLOTS)))


def test_the_sweep_runs_every_point_of_the_figure_in_the_papers_order(monkeypatch):
    monkeypatch.setattr(sim.bench.sweep, "SLOTS", (2, 4))
    monkeypatch.setattr(sim.bench.sweep, "ALPHAS", (1.0,))
    timed, took = sim.bench.sweep.measure(rounds=2)
    assert [one[:3] for one in timed] == [(environment, 1.0, m) for environment in ENVIRONMENTS for m in (2, 4)]
    assert all(one.digest and one.run > 0 for one in timed)
    assert took > 0


@pytest.mark.parametrize("name", ["equal", "optimal", "min_max", "sum_capacity", "routed_mtl"])
def test_a_policys_share_is_of_the_slot_it_is_given(name):
    found = policy_share(name, 5, (1000, 200, 200, 10), slot_ms=2.0)
    assert found["policy"] == name
    assert 0 < found["policy_us"] < found["radio_us"] < 1e5
    assert found["policy_share"] == pytest.approx(found["policy_us"] / 2000)
    assert found["radio_share"] == pytest.approx(found["radio_us"] / 2000)
