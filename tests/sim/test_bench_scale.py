import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sim.bench.scale
from edge_server.aggregators import Slot, build_aggregator
from edge_server.config import OwoFmtl
from sim.bench.commands import app
from sim.bench.scale import AGGREGATORS, BLOCK, Load, design_of, measure, report
from sim.bench.scale_edge import Watched
from sim.bench.scale_memory import forget_peak, peak, resident

pytestmark = pytest.mark.alone

KERNEL = Load(users=3, hosts=1, encoder="linear", aggregator="owo_fmtl", slots=4)
LENET = Load(users=4, hosts=1, encoder="lenet", aggregator="mgda", slots=2)
LARGEST_LAYER = 320 * 50
ROW = {"users", "ms_per_slot", "user_steps_per_s", "echo_ms", "ratio_to_echo", "edge_rss_mb", "host_rss_mb", "join_s"}

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from Linux's /proc")


@pytest.fixture(scope="module")
def kernel():
    return measure(KERNEL, design_of(KERNEL))


@pytest.fixture(scope="module")
def lenet():
    return measure(LENET, design_of(LENET))


def test_every_slot_is_timed_beside_the_echo(kernel, lenet):
    for load, measured in ((KERNEL, kernel), (LENET, lenet)):
        for seconds in (measured.wire, measured.echo, measured.edge, measured.rule):
            assert seconds.shape == (load.blocks, load.block)
            assert (seconds > 0).all()
        assert (measured.rule < measured.edge).all()
        assert (measured.edge < measured.wire).all()


def test_parameters_are_those_of_the_encoder(kernel, lenet):
    assert (kernel.parameters, lenet.parameters) == (4, 21_830)


@linux
def test_a_gramian_rule_takes_gradients_and_owo_fmtl_takes_none(kernel, lenet):
    held = LENET.users * LARGEST_LAYER * 8 / 1e6
    assert held < lenet.rule_peak < held + 5
    assert kernel.rule_peak < 0.1


@linux
def test_the_peak_of_the_edge_lies_above_what_it_began_with(kernel, lenet):
    for measured in (kernel, lenet):
        assert 50 < measured.edge_base < measured.edge_peak < 5000
        assert 50 < measured.host_base < measured.host_peak < 5000
        assert 0 < measured.join < 60


def test_a_row_is_made_of_medians(kernel):
    found = json.loads(json.dumps(report([(KERNEL, kernel)]), allow_nan=False))
    (row,) = found["rows"]
    assert row.keys() >= ROW
    assert row["ms_per_slot"] == pytest.approx(1e3 * np.median(kernel.wire))
    assert row["user_steps_per_s"] == pytest.approx(KERNEL.users / np.median(kernel.wire))
    assert row["ratio_to_echo"] == pytest.approx(np.median(kernel.wire) / np.median(kernel.echo))
    assert {"cores", "torch", "grpc"} <= found["machine"].keys()


def test_a_load_becomes_whole_blocks_a_warm_up_and_a_block_to_weigh():
    plan = design_of(Load(users=5, hosts="auto", encoder="lenet", aggregator="cagrad", slots=2 * BLOCK + 1)).plan
    assert (plan.rounds, plan.slots, len(plan.users)) == (5, BLOCK, 5)
    assert plan.users[0].features.shape == (1, 3, 28, 28)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_every_built_in_rule_can_be_asked_for(aggregator):
    load = Load(users=2, hosts=1, encoder="linear", aggregator=aggregator, slots=1)
    assert design_of(load).scenario.edge.aggregator.kind == aggregator


def test_a_watched_rule_gives_the_weights_that_it_would_give():
    rule = build_aggregator(OwoFmtl(kind="owo_fmtl", u_max=4.0))
    watched = Watched(rule, weighed=2)
    bare, state = rule.begin_round(rule.start(2)), watched.begin_round(watched.start(2))
    for losses in ([1.0, 2.0], [0.5, 0.1], [2.5, 1.0]):
        slot = Slot.of(torch.tensor(losses, dtype=torch.float64), 4.0)
        assert torch.equal(rule.weights(bare, slot), watched.weights(state, slot))
        bare, state = rule.step(bare, slot), watched.step(state, slot)
    assert (len(watched.seconds), len(watched.mb)) == (3, 0)
    watched.weights(watched.begin_round(state), slot)
    assert (len(watched.seconds), len(watched.mb)) == (3, 1)


_WEIGH = """
import numpy
from sim.allocator import keep_buffers
from sim.bench.scale_edge import weighed
keep_buffers()
numpy.ones(12_500_000).sum()
print(weighed(lambda: numpy.ones(5_000_000).sum())[1], weighed(lambda: numpy.ones(10).sum())[1])
"""


@linux
def test_what_is_taken_for_a_moment_is_weighed_even_where_the_heap_has_been_larger():
    done = subprocess.run([sys.executable, "-c", _WEIGH], capture_output=True, text=True, check=True)
    large, small = map(float, done.stdout.split())
    assert large == pytest.approx(40, abs=1)
    assert small < 0.2


def test_a_process_that_is_gone_has_no_memory():
    gone = 2**22 + 1
    assert (resident(gone), peak(gone), forget_peak(gone)) == (None, None, False)


@pytest.fixture
def asked(kernel, monkeypatch):
    loads = []
    monkeypatch.setattr(sim.bench.scale, "measure", lambda load, design: loads.append(load) or kernel)
    return loads


def test_command_measures_what_it_is_asked_and_prints_one_json_object(asked):
    options = ["--users", "3, 7", "--hosts", "2", "--encoder", "mlp", "--aggregator", "afl", "--slots", "5"]
    result = CliRunner().invoke(app, ["scale", *options, "--json"])
    assert result.exit_code == 0, result.output
    assert asked == [Load(users, hosts=2, encoder="mlp", aggregator="afl", slots=5) for users in (3, 7)]
    assert [row["users"] for row in json.loads(result.stdout)["rows"]] == [3, 7]
    assert "afl, 7 users on 2 hosts" in result.stderr


def test_command_tells_people_and_can_be_quiet(asked):
    result = CliRunner().invoke(app, ["scale", "--users", "3", "--quiet"])
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for word in ("ms_per_slot", "ratio_to_echo", "edge_rss_mb", "rule_mb", "d = 4"):
        assert word in result.stdout


def test_command_says_so_where_the_system_does_not_tell_of_memory(asked, kernel, monkeypatch):
    blind = kernel._replace(edge_base=None, edge_peak=None, rule_peak=None, host_peak=None)
    monkeypatch.setattr(sim.bench.scale, "measure", lambda load, design: blind)
    assert CliRunner().invoke(app, ["scale", "--users", "3"]).exit_code == 0
    (row,) = json.loads(CliRunner().invoke(app, ["scale", "--users", "3", "--json"]).stdout)["rows"]
    assert (row["edge_rss_mb"], row["rule_mb"]) == (None, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--users", "2,many"], "--users 2,many: give numbers of users"),
        (["--users", "0"], "--users 0: give numbers of users, each from 1"),
        (["--users", ""], "give numbers of users"),
        (["--users", "2,-3"], "give numbers of users"),
        (["--aggregator", "mdga"], "no such rule; there are: owo_fmtl, "),
        (["--aggregator", "mdga"], '; did you mean "mgda"?'),
        (["--hosts", "many"], "--hosts many: give auto, per_user or a number"),
        (["--users", "65", "--hosts", "per_user"], "65 processes for 65 users, at most 64"),
    ],
)
def test_command_refuses_nonsense_in_one_line(asked, options, said):
    result = CliRunner().invoke(app, ["scale", *options])
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert not asked


def test_command_names_the_extra_where_torchjd_is_missing(asked, monkeypatch):
    monkeypatch.setitem(sys.modules, "edge_server.aggregators.from_torchjd", None)
    monkeypatch.delattr(sys.modules["edge_server.aggregators"], "from_torchjd", raising=False)
    result = CliRunner().invoke(app, ["scale", "--users", "2", "--aggregator", "pcgrad"])
    assert result.exit_code == 2
    assert result.stderr == "--aggregator pcgrad: pcgrad needs TorchJD: pip install 'equiran[rivals]'\n"
