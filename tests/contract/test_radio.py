"""The radio of a run: the same times and misses on every transport, checked slot by slot by solvers of another kind."""

import json
from math import log
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.optimize import brentq, minimize

import runs
from edge_server.radio.power import Downlink, build_power
from edge_server.radio.radio import Link
from sim.caller import BadScenario, RunError
from sim.power_run import PowerWatcher, train_power
from sim.power_scenario import load_power
from sim.radio_replay import replay

BAND, RHO, P_TOT, USER_POWER = 1e6, 10.0, 10.0, 0.2
AIR = {"kind": "rayleigh", "ring": {"nearest_m": 50.0, "farthest_m": 200.0}, "sigma_db": 4.0}
COMPUTE = {"user": 0.01, "forward": 0.02, "backward": 0.03}


def over_the_air(**radio: object) -> runs.Tree:
    return {**runs.digits(many=4, rounds=2, slots=3), "radio": {**AIR, "compute": COMPUTE, **radio}}


def radio_rows(folder: Path, users: int = 4, slots: int = 3) -> dict[str, np.ndarray]:
    """Columns of radio.parquet as [T * m, K]."""
    table = pq.read_table(folder / "radio.parquet")
    rows = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    return {name: column.reshape(-1, users) for name, column in rows.items()}


def test_every_transport_gives_the_same_times(tmp_path: Path, run_on_ray) -> None:
    tree = over_the_air(power="optimal") | {"deadline": 0.6}
    found = [run_on_ray(tmp_path / name, tree, name) for name in ("memory", "grpc", "ray")]
    assert len({result.digest for result in found}) == 1
    assert len({result.summary["virtual_seconds"] for result in found}) == 1
    tables = [pq.read_table(result.folder / "radio.parquet") for result in found]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])
    assert found[0].summary["late"] > 0


@pytest.mark.parametrize("power", ["equal", "optimal", "min_max"])
def test_without_a_deadline_a_radio_changes_no_number(tmp_path: Path, power: str) -> None:
    plain = runs.run(tmp_path / "plain", over_the_air() | {"radio": None})
    with_radio = runs.run(tmp_path / "radio", over_the_air(power=power))
    assert with_radio.digest == plain.digest
    assert plain.summary["virtual_seconds"] is None
    assert with_radio.summary["virtual_seconds"] > 0


def test_the_clock_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    result = runs.run(tmp_path, over_the_air(power="optimal"))
    rows = radio_rows(result.folder)
    turn = rows["outputs_s"] + rows["compute_s"] + rows["feedback_s"]
    clock = 0.0
    for i, slot in enumerate(rows["slot_s"][:, 0]):
        waits = rows["features_s"][i].max(), turn[i].max(), rows["acknowledgement_s"][i].max()
        assert slot == waits[0] + 0.02 + waits[1] + 0.03 + waits[2]
        clock += slot
        assert rows["clock_s"][i, 0] == clock
    assert result.summary["virtual_seconds"] == clock
    assert runs.rounds(result.folder)["virtual_seconds"][-1] == clock
    bits = rows["features_bits"] + rows["feedback_bits"]
    np.testing.assert_array_equal(bits.ravel(), 8 * runs.slots(result.folder)["bytes_up"])


def test_the_bill_is_what_was_on_the_air(tmp_path: Path) -> None:
    result = runs.run(tmp_path, over_the_air(power="min_max"))
    rows, bill = radio_rows(result.folder), json.loads((result.folder / "summary.json").read_text())["bill"]
    for k, user in enumerate(bill):
        up = (rows["features_s"] + rows["feedback_s"])[:, k].sum()
        joules = (rows["outputs_s"] * rows["outputs_w"] + rows["acknowledgement_s"] * rows["acknowledgement_w"])[:, k]
        assert bill[user]["up_seconds"] == pytest.approx(up, rel=1e-12)
        assert bill[user]["up_joules"] == pytest.approx(USER_POWER * up, rel=1e-12)
        assert bill[user]["down_joules"] == pytest.approx(joules.sum(), rel=1e-12)
    paid = np.array([one["up_seconds"] + one["down_seconds"] for one in bill.values()])
    told = json.loads((result.folder / "summary.json").read_text())["bill_jain"]
    assert told["seconds"] == pytest.approx(paid.sum() ** 2 / (4 * (paid**2).sum()), rel=1e-12)
    assert 0 < told["joules"] <= 1


def delays(gain: np.ndarray, bits: np.ndarray, watts: np.ndarray) -> np.ndarray:
    return bits / (BAND / log(2) * np.log1p(RHO * gain * watts))


def test_optimal_delays_are_another_solvers(tmp_path: Path) -> None:
    rows = radio_rows(runs.run(tmp_path, over_the_air(power="optimal")).folder)
    for gain, bits, seconds in zip(rows["gain"], rows["outputs_bits"], rows["outputs_s"], strict=True):
        best = minimize(
            lambda z, gain=gain, bits=bits: delays(gain, bits, P_TOT * np.exp(z) / np.exp(z).sum()).mean() * 1e3,
            np.zeros(4),
            method="BFGS",
            options={"gtol": 1e-12},
        )
        assert seconds.mean() * 1e3 == pytest.approx(best.fun, rel=1e-6)


def test_min_max_delays_are_another_solvers(tmp_path: Path) -> None:
    rows = radio_rows(runs.run(tmp_path, over_the_air(power="min_max")).folder)
    for gain, bits, seconds in zip(rows["gain"], rows["outputs_bits"], rows["outputs_s"], strict=True):

        def excess(tau: float, gain: np.ndarray = gain, bits: np.ndarray = bits) -> float:
            return float((np.expm1(log(2) * bits / (BAND * tau)) / (RHO * gain)).sum()) - P_TOT

        slowest = seconds.max()
        assert slowest == pytest.approx(brentq(excess, slowest / 10, slowest * 10, xtol=1e-15, rtol=1e-12), rel=1e-6)


def test_who_misses_the_deadline_is_late_and_keeps_its_dual(tmp_path: Path) -> None:
    tree = over_the_air(loss_db=[0.0, 0.0, 0.0, 40.0], sigma_db=0.0) | {"deadline": 2.0}
    tree["radio"].pop("ring")
    result = runs.run(tmp_path, tree)
    rows = {name: column.reshape(-1, 4) for name, column in runs.slots(result.folder).items()}
    assert (rows["status"][:, 3] == "late").all()
    assert (rows["status"][:, :3] == "applied").all()
    assert np.isnan(rows["weight"][:, 3]).all()
    assert result.summary["late"] == 6
    events = [json.loads(line) for line in (result.folder / "events.jsonl").read_text().splitlines()]
    assert sum(event["event"] == "late" for event in events) == 6
    assert {event["of"] for event in events if event["event"] == "late"} == {"features"}


def test_a_model_that_diverged_ends_the_run_also_where_somebody_is_late(tmp_path: Path) -> None:
    tree = over_the_air(loss_db=[0.0, 0.0, 0.0, 60.0], sigma_db=0.0) | {"deadline": 2.0}
    tree["radio"].pop("ring")
    tree["edge"]["primal"] = {"step": 1e30}
    with pytest.raises(RunError, match=r"every user was rejected in round 0, slot 1 .*the model has diverged"):
        runs.run(tmp_path, tree)


def test_waiting_for_the_late_changes_nothing_but_the_count(tmp_path: Path) -> None:
    waited = runs.run(tmp_path / "wait", over_the_air() | {"deadline": 0.3, "on_user_failure": "wait"})
    assert waited.digest == runs.run(tmp_path / "plain", over_the_air()).digest
    assert waited.summary["deadline_misses"] > 0
    assert waited.summary["late"] == 0


def test_a_late_user_ends_a_run_that_may_not_fail(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"user 'u0' was late: its features came .* s after slot 0 began; raise"):
        runs.run(tmp_path, over_the_air() | {"deadline": 0.06, "on_user_failure": "fail"})


def test_who_gets_no_power_is_late_for_ever_in_events_that_are_json(tmp_path: Path) -> None:
    result = runs.run(tmp_path, over_the_air(power="sum_capacity") | {"deadline": 5.0})
    events = [json.loads(line, parse_constant=pytest.fail) for line in (result.folder / "events.jsonl").open()]
    late = [event["seconds"] for event in events if event["event"] == "late"]
    assert None in late
    assert (runs.slots(result.folder)["status"] == "late").sum() == len(late)


class Stingy:
    """A policy of one's own that forgets the first user."""

    def __init__(self, downlink: Downlink) -> None:
        self.downlink = downlink

    def power(self, gain: np.ndarray, bits: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(bits)) == 0, 0.0, self.downlink.p_tot / len(gain))


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_a_policy_that_starves_a_user_ends_the_run_in_one_line(tmp_path: Path, transport: str) -> None:
    tree = over_the_air(power={"kind": f"{__name__}:Stingy"}) | {"transport": transport}
    with pytest.raises(RunError, match=r"^digits: radio, round 0, slot 0: user 0 has no power, and would be .* end$"):
        runs.run(tmp_path, tree)


def test_gains_that_no_float_holds_are_refused_before_anything_starts(tmp_path: Path) -> None:
    far = {"exponent": 400.0, "reference_m": 1.0, "nearest_m": 100.0, "farthest_m": 200.0}
    with pytest.raises(BadScenario, match="radio: rho_db, places and shadowing give signal-to-noise ratios that no"):
        runs.run(tmp_path, over_the_air(ring=far))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for the mean delay of 2 and 5 users, hardly trained."""
    folder = tmp_path_factory.mktemp("network") / "out"
    task = "edge.server_tasks.0"
    sets = (
        f"{task}.tasks=[{{problem: p3, users: [2, 5]}}]",
        f"{task}.stages=[6, 6]",
        f"{task}.samples={{train: 40, test: 20, violation: 20}}",
    )
    train_power(load_power(runs.SCENARIOS / "power" / "radio.yaml", sets), folder, PowerWatcher())
    return folder / "policy"


def test_a_network_follows_users_who_come_and_go(tmp_path: Path, network: Path, run_on_ray) -> None:
    tree = over_the_air(power={"kind": "routed_mtl", "policy": str(network)})
    tree |= {"rounds": 6, "users": [{**user, "presence": {"churn": 0.4}} for user in tree["users"]]}
    found = [run_on_ray(tmp_path / name, tree, name) for name in ("memory", "ray")]
    assert found[0].digest == found[1].digest
    rows = radio_rows(found[0].folder)
    served = (rows["outputs_w"] > 0).sum(axis=1)
    assert len({*served}) >= 3
    np.testing.assert_allclose(rows["outputs_w"].sum(axis=1), P_TOT, rtol=1e-6)
    assert pq.read_table(found[0].folder / "radio.parquet").equals(pq.read_table(found[1].folder / "radio.parquet"))


def test_more_users_than_a_network_serves_are_refused(tmp_path: Path, network: Path) -> None:
    tree = over_the_air(power={"kind": "routed_mtl", "policy": str(network)})
    tree["users"] = [{**tree["users"][0], "name": f"u{k}"} for k in range(6)]
    with pytest.raises(BadScenario, match=r"no policy for p3_delay with N = 6; trained for N = 2, 5; `equiran"):
        runs.run(tmp_path, tree)
    result = runs.run(tmp_path / "drawn", {**tree, "participation": {"users": 5, "per": "slot"}})
    np.testing.assert_allclose(radio_rows(result.folder, users=6)["outputs_w"].sum(axis=1), P_TOT, rtol=1e-6)


@pytest.mark.parametrize("power", ["optimal", "min_max"])
def test_a_replay_is_the_run_under_that_policy(tmp_path: Path, power: str) -> None:
    recorded = runs.run(tmp_path / "equal", over_the_air()).folder
    rows = radio_rows(runs.run(tmp_path / power, over_the_air(power=power)).folder)
    made = replay(recorded, Link(RHO, BAND, P_TOT, USER_POWER), build_power(power, Downlink(P_TOT, BAND)), slots=3)
    np.testing.assert_allclose(made.clock.ravel(), rows["clock_s"][:, 0], rtol=1e-12)
    np.testing.assert_allclose(made.seconds[:, :, 1].reshape(-1, 4), rows["outputs_s"], rtol=1e-12)


def test_in_real_time_a_slot_takes_no_less_than_on_the_virtual_clock(tmp_path: Path) -> None:
    quick = {"kind": "rician", "k_factor": 20.0, "sigma_db": 0.0, "bandwidth": 1e7}
    real = runs.run(tmp_path / "real", over_the_air(realtime=True, **quick))
    assert real.digest == runs.run(tmp_path / "virtual", over_the_air(**quick)).digest
    virtual = radio_rows(real.folder)["slot_s"][:, 0]
    t_slot = runs.slots(real.folder)["t_slot"].reshape(-1, 4)[:, 0]
    assert (t_slot >= virtual).all()
    assert real.summary["wall_seconds"] >= real.summary["virtual_seconds"] == pytest.approx(virtual.sum())
