"""What a run leaves behind, as contract.md has it: files, columns, types, and numbers recomputed from other files."""

import json
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import reference as ref
import runs
import sim.runner
from sim.caller import Result, Watcher
from sim.local import Outcome, run_in_memory
from sim.scenario import load

F, N, T, B = pa.float64(), (pa.int32(), pa.int64()), pa.string(), pa.bool_()
SLOTS = {
    "round": N, "slot": N, "user": (T,), "loss": (F,), "utility": (F,), "out_of_range": (B,), "weight": (F,),
    "bytes_up": N, "bytes_down": N, "t_slot": (F,), "t_user": (F,), "t_edge": (F,), "status": (T,),
}  # fmt: skip
ROUNDS = {
    "round": N, "user": (T,), "mean_utility": (F,), "mean_loss": (F,), "val_loss": (F,), "val_accuracy": (F,),
    "w_mean": (F,), "fairness": (F,), "slot_fairness": (F,), "val_fairness": (F,), "sum_w": (F,),
    "oracle_fairness": (F,), "regret": (F,), "bound": (F,), "residual": (F,),
}  # fmt: skip
MANIFEST = {
    "schema", "name", "equiran", "python", "torch", "ray", "grpc", "numpy", "seed", "transport", "threads", "device",
    "started", "finished", "status", "digest",
}  # fmt: skip
SUMMARY = {
    "fairness_mean", "regret_mean", "utility_mean", "jain", "worst_utility", "price_of_fairness", "bytes",
    "wall_seconds", "virtual_seconds", "slots_per_second", "digest",
}  # fmt: skip
MANY, ROUNDS_RUN, SLOTS_RUN = 3, 2, 4
NEVER = {"seconds": 3600}
SETTING = ref.Setting(alpha=1.0, u_min=1.0, u_max=3.3, l_max=3.3, eta=0.1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Outcome]:
    """A run over the bundled digits that records all there is, and the parties' own hashes."""
    folder = tmp_path_factory.mktemp("run")
    outcomes: list[Outcome] = []
    go = sim.runner._go
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sim.runner, "_go", lambda *args: outcomes.append(go(*args)) or outcomes[-1])
        tree = runs.digits(many=MANY, record={"slots": True, "parameters": True, "streams": True}, checkpoints=NEVER)
        result = runs.run(folder, tree, "grpc")
    return result, outcomes[0]


@pytest.fixture(scope="module")
def folder(finished: tuple[Result, Outcome]) -> Path:
    return finished[0].folder


def grid(values: np.ndarray) -> np.ndarray:
    return values.reshape(ROUNDS_RUN, SLOTS_RUN, MANY)


def test_these_files_and_no_others(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "scenario.yaml", "manifest.json", "slots.parquet", "rounds.parquet", "parameters.npz", "streams.npz",
        "events.jsonl", "summary.json",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), [("slots", SLOTS), ("rounds", ROUNDS)])
def test_columns_and_types(folder: Path, name: str, expected: dict) -> None:
    schema = pq.read_schema(folder / f"{name}.parquet")
    assert expected.keys() <= {*schema.names}
    for column, kinds in expected.items():
        assert schema.field(column).type in kinds, column


def test_rows_are_in_round_slot_user_order(folder: Path) -> None:
    rows = runs.slots(folder)
    expected = [(t, i, f"u{k}") for t in range(ROUNDS_RUN) for i in range(SLOTS_RUN) for k in range(MANY)]
    assert [*zip(rows["round"], rows["slot"], rows["user"], strict=True)] == expected
    rows = runs.rounds(folder)
    assert [*zip(rows["round"], rows["user"], strict=True)] == [
        (t, f"u{k}") for t in range(ROUNDS_RUN) for k in range(MANY)
    ]


def test_slot_columns_agree_with_each_other(folder: Path) -> None:
    rows = runs.slots(folder)
    np.testing.assert_allclose(rows["utility"], 3.3 - rows["loss"], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(rows["out_of_range"], (rows["utility"] < 1.0) | (rows["utility"] > 3.3))
    assert ((rows["weight"] >= 1 / 3.3 - 1e-12) & (rows["weight"] <= 1.0)).all()
    assert {*rows["status"]} == {"applied"}
    assert (rows["bytes_up"] > 5 * 4 * 12 * 12 * 4).all()
    assert (rows["bytes_down"] > 5 * 4 * 12 * 12 * 4).all()
    for name in ("t_slot", "t_user", "t_edge"):
        assert (rows[name] > 0).all()
        assert (rows[name] <= rows["t_slot"] + 1e-9).all()


def test_rounds_are_means_over_slots(folder: Path) -> None:
    slots, rounds = runs.slots(folder), runs.rounds(folder)
    utility, weight = grid(slots["utility"]), grid(slots["weight"])
    shape = (ROUNDS_RUN, MANY)
    close = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(rounds["mean_utility"].reshape(shape), utility.mean(1), **close)
    np.testing.assert_allclose(rounds["mean_loss"].reshape(shape), grid(slots["loss"]).mean(1), **close)
    np.testing.assert_allclose(rounds["w_mean"].reshape(shape), weight.mean(1), **close)
    np.testing.assert_allclose(rounds["sum_w"].reshape(shape)[:, 0], weight.sum(2).mean(1), **close)
    validation = 3.3 - rounds["val_loss"].reshape(shape)
    for t in range(ROUNDS_RUN):
        expected = {
            "fairness": ref.extended(utility[t].mean(0), SETTING),
            "slot_fairness": np.mean([ref.extended(u, SETTING) for u in utility[t]]),
            "val_fairness": ref.extended(validation[t], SETTING),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(rounds[name].reshape(shape)[t], value, **close)
    for name in ("oracle_fairness", "regret", "bound", "residual"):
        assert np.isnan(rounds[name]).all()


def test_the_summary_is_recomputed_from_the_slots(folder: Path) -> None:
    summary, rows, rounds = runs.read_json(folder / "summary.json"), runs.slots(folder), runs.rounds(folder)
    assert summary.keys() >= SUMMARY
    u = grid(rows["utility"]).mean((0, 1))
    assert summary["utility_mean"] == pytest.approx({f"u{k}": u[k] for k in range(MANY)}, rel=1e-12)
    assert summary["jain"] == pytest.approx(u.sum() ** 2 / (MANY * (u**2).sum()), rel=1e-12)
    assert summary["worst_utility"] == pytest.approx(u.min(), rel=1e-12)
    assert summary["fairness_mean"] == pytest.approx(rounds["fairness"][::MANY].mean(), rel=1e-12)
    assert (summary["regret_mean"], summary["price_of_fairness"], summary["virtual_seconds"]) == (None, None, None)
    for k in range(MANY):
        sums = {way: int(grid(rows[f"bytes_{way}"])[:, :, k].sum()) for way in ("up", "down")}
        assert summary["bytes"][f"u{k}"] == sums
    assert summary["slots_per_second"] == pytest.approx(ROUNDS_RUN * SLOTS_RUN / summary["wall_seconds"])


def test_the_digest_is_what_the_contract_says(finished: tuple[Result, Outcome]) -> None:
    result, outcome = finished
    rows = runs.slots(result.folder)
    triples = np.stack([rows["loss"], rows["utility"], rows["weight"]], axis=1).astype("<f8")
    hash_ = sha256(b"".join([outcome.edge, *outcome.users, triples.tobytes()]))
    assert result.digest == hash_.hexdigest()
    for name in ("summary.json", "manifest.json"):
        assert runs.read_json(result.folder / name)["digest"] == result.digest
    with np.load(result.folder / "parameters.npz") as found:
        assert outcome.edge == sha256(found["theta"][-1, -1].astype("<f4").tobytes()).digest()


def test_the_manifest(folder: Path) -> None:
    manifest = runs.read_json(folder / "manifest.json")
    assert manifest.keys() >= MANIFEST
    expected = {
        "schema": 1, "name": "digits", "seed": 7, "transport": "grpc", "threads": {"edge": 1, "user": 1},
        "device": "cpu", "status": "done",
    }  # fmt: skip
    assert {name: manifest[name] for name in expected} == expected
    assert manifest["started"] <= manifest["finished"]


def test_parameters(folder: Path) -> None:
    d = 4 * 20 * 25 + 20 + 320 * 16 + 16
    with np.load(folder / "parameters.npz") as found:
        shapes = {name: found[name].shape for name in found.files}
        assert shapes == {"theta": (2, 5, d), "x": (3, d), "w": (2, 5, MANY)}
        assert (found["w"] < 0).all()
        np.testing.assert_array_equal(-found["w"][:, :4].ravel(), runs.slots(folder)["weight"])
        np.testing.assert_array_equal(found["theta"][:, 0], found["x"][:2])
        np.testing.assert_array_equal(found["x"][1:], found["theta"][:, -1])


def test_events_are_json_lines_with_time_and_kind(folder: Path) -> None:
    joins = runs.events(folder, "join")
    assert sorted(event["user"] for event in joins) == ["u0", "u1", "u2"]
    assert all("time" in event for event in runs.events(folder))


def test_the_effective_scenario_runs_to_the_same_digest(finished: tuple[Result, Outcome], tmp_path: Path) -> None:
    result, _ = finished
    again = sim.runner.run(load(result.folder / "scenario.yaml"), tmp_path / "again", None, Watcher())
    assert again.digest == result.digest
    texts = [(place / "scenario.yaml").read_text() for place in (result.folder, again.folder)]
    assert texts[0] == texts[1]


def test_streams_fed_back_as_arrays_give_the_same_losses(folder: Path, tmp_path: Path) -> None:
    tree = runs.digits(many=MANY)
    with np.load(folder / "streams.npz") as streams:
        assert {*streams.files} == {f"u{k}.{name}" for k in range(MANY) for name in ("x", "y", "x_val", "y_val")}
        assert streams["u0.x"].shape == (2, 4, 5, 3, 28, 28)
        for k, user in enumerate(tree["users"]):
            names = ("x", "y", "x_val", "y_val")
            np.savez(tmp_path / f"{k}.npz", **{name: streams[f"u{k}.{name}"] for name in names})
            user["task"] = {"kind": "arrays", "path": str(tmp_path / f"{k}.npz"), "loss": "cross_entropy"}
            user["head"]["outputs"] = 10
            user.pop("adversary", None)
    again = runs.run(tmp_path, tree).folder
    np.testing.assert_array_equal(runs.slots(again)["loss"], runs.slots(folder)["loss"])
    np.testing.assert_array_equal(runs.rounds(again)["val_accuracy"], runs.rounds(folder)["val_accuracy"])


def test_records_that_are_not_wanted_are_not_written(tmp_path: Path) -> None:
    with_slots = runs.run(tmp_path / "a", runs.kernel())
    without = runs.run(tmp_path / "b", runs.kernel(record={"slots": False}))
    names = {path.name for path in without.folder.iterdir()}
    assert names == {"scenario.yaml", "manifest.json", "rounds.parquet", "events.jsonl", "summary.json"}
    assert without.digest == with_slots.digest


def test_a_living_run_can_be_read(tmp_path: Path) -> None:
    seen: list[tuple[int, str]] = []

    def look(record) -> None:
        status = runs.read_json(tmp_path / "out" / "manifest.json")["status"]
        with pa.ipc.open_stream(tmp_path / "out" / "slots.arrows") as journal:
            seen.append((len(next(iter(journal))), status))

    runs.run(tmp_path, runs.kernel(), watcher=Watcher(on_round=look))
    assert seen == [(8, "running"), (8, "running")]


def test_comparisons_get_folders_of_their_own(tmp_path: Path) -> None:
    zero = {"name": "efficient", "edge.aggregator.alpha": 0}
    result = runs.run(tmp_path, runs.kernel(compare=[zero]))
    efficient = result.folder / "efficient"
    base, other = (runs.read_json(place / "summary.json") for place in (result.folder, efficient))
    price = 1 - sum(base["utility_mean"].values()) / sum(other["utility_mean"].values())
    assert base["price_of_fairness"] == pytest.approx(price, rel=1e-12)
    assert runs.read_json(efficient / "manifest.json")["digest"] != result.digest
    assert json.loads((efficient / "manifest.json").read_text())["name"] == "efficient"


def test_a_price_needs_the_same_run_beside_it(tmp_path: Path) -> None:
    other = {"name": "efficient", "edge.aggregator.alpha": 0, "seed": 4}
    runs.run(tmp_path, runs.kernel(compare=[other]))
    assert runs.read_json(tmp_path / "out" / "summary.json")["price_of_fairness"] is None


def test_ray_starts_where_only_a_comparison_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str | None] = []

    class Nodes:
        run = staticmethod(run_in_memory)

    def cluster(address: str | None) -> nullcontext[Nodes]:
        started.append(address)
        return nullcontext(Nodes())

    monkeypatch.setattr(sim.runner, "_cluster", cluster)
    for transport, starts in (("memory", 0), ("ray", 1)):
        runs.run(tmp_path / transport, runs.kernel(compare=[{"name": "other", "transport": transport}]))
        assert len(started) == starts
