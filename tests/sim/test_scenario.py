"""Loading, expanding, comparing and writing back scenarios."""

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge_server.config import Constant, Custom, OwoFmtl
from sim.advice import advice
from sim.effective import effective
from sim.scenario import Loaded, ScenarioErrors, compared, load
from user_client.config import Arrays

SHIPPED = sorted(
    path for path in (Path(__file__).parents[2] / "scenarios").rglob("*.yaml") if "\nrounds:" in path.read_text()
)
USER: dict[str, Any] = {
    "name": "a",
    "task": {"kind": "rainbow", "digits": "bundled", "batch": 5},
    "adversary": [{"kind": "ping_pong", "labels": "nine_minus", "block": 3}],
    "front": {"kind": "conv_pool", "channels": 10},
    "head": {"kind": "mlp", "hidden": [8, 8], "step": 0.1},
}
TREE: dict[str, Any] = {
    "schema": 1,
    "name": "tiny",
    "rounds": 2,
    "slots": 4,
    "threads": {"edge": 1},
    "users": [USER, {**USER, "name": "b", "adversary": {"kind": "ping_pong", "labels": "permutation"}}],
    "edge": {
        "encoder": {"kind": "lenet", "width": 50},
        "aggregator": {"kind": "owo_fmtl", "u_max": 3.3, "scale": {"sum": 1}},
        "primal": {"step": 0.1, "domain": {"box": 2}},
        "meta": {"rule": {"step": 0.5}, "domain": {"ball": 3}},
    },
    "record": {"slots": True},
}


def written(folder: Path, tree: Any) -> Path:
    file = folder / "s.yaml"
    file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(copy(tree), sort_keys=False), encoding="utf-8")
    return file


def loaded(folder: Path, tree: Any, *sets: str) -> Loaded:
    return load(written(folder, tree), sets)


def copy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: copy(child) for key, child in tree.items()}
    return [copy(child) for child in tree] if isinstance(tree, list) else tree


def places(tree: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value below the root."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = [((*path, key), child) for key, child in children]
    return [here for here, _ in found] + [deep for here, child in found for deep in places(child, here)]


def at(tree: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        tree = tree[step]
    return tree


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.stem))
def test_every_shipped_scenario_loads_and_round_trips(path: Path, tmp_path: Path) -> None:
    first = load(path)
    again = load(written(tmp_path, effective(first.scenario)))
    assert again.scenario == first.scenario
    assert [(n, c.scenario) for n, c in compared(again)] == [(n, c.scenario) for n, c in compared(first)]


def test_the_issue_s_scenarios_are_shipped() -> None:
    names = {str(path.relative_to(Path(__file__).parents[2] / "scenarios")) for path in SHIPPED}
    assert names >= {"quickstart.yaml", "cluster/rainbow.yaml", "owo_fmtl/golden.yaml", "stress/half.yaml"}
    assert names >= {"stress/conflict.yaml", "stress/pingpong_64_users.yaml"}
    assert {name[9:13] for name in names if name.startswith("owo_fmtl/fig")} == {"fig2", "fig3", "fig4"}


def test_defaults(tmp_path: Path) -> None:
    scenario = loaded(tmp_path, TREE).scenario
    assert (scenario.seed, scenario.transport, scenario.hosts, scenario.patience) == (0, "ray", "auto", 60.0)
    assert (scenario.threads.edge, scenario.threads.user) == (1, 1)
    assert scenario.on_user_failure == "wait"
    assert (scenario.record.slots, scenario.record.parameters, scenario.record.streams) == (True, False, False)


def test_a_crowd_becomes_named_users_that_know_their_template_s_line(tmp_path: Path) -> None:
    template = {key: value for key, value in USER.items() if key != "name"}
    result = loaded(tmp_path, {**TREE, "users": {"count": 101, "template": template}})
    assert [user.name for user in result.scenario.users][::50] == ["user_000", "user_050", "user_100"]
    line = next(i for i, row in enumerate(result.path.read_text().split("\n"), 1) if "digits" in row)
    assert result.where(("users", 77, "task", "digits")) == f"{result.path}:{line}"


def test_a_template_s_name_begins_its_users_names(tmp_path: Path) -> None:
    result = loaded(tmp_path, {**TREE, "users": {"count": 2, "template": {**USER, "name": "car"}}})
    assert [user.name for user in result.scenario.users] == ["car_00", "car_01"]


def test_where_names_the_nearest_known_ancestor(tmp_path: Path) -> None:
    result = loaded(tmp_path, TREE, "edge.primal.step=0.2")
    rows = result.path.read_text().split("\n")
    assert result.where(("edge", "aggregator", "dual")) == f"{result.path}:{rows.index('  aggregator:') + 1}"
    assert result.where(("edge", "primal", "step")) == "--set edge.primal.step=0.2"
    assert result.where(("nowhere",)) == f"{result.path}:1"


def test_seed_and_transport_options_win(tmp_path: Path) -> None:
    scenario = load(written(tmp_path, TREE), ["seed=3"], seed=5, transport="memory").scenario
    assert (scenario.seed, scenario.transport) == (5, "memory")
    with pytest.raises(ScenarioErrors, match=r"^--transport grcp: transport: expected memory"):
        load(written(tmp_path, TREE), transport="grcp")


def test_paths_are_relative_to_the_file_and_absolute_in_the_effective_scenario(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).touch()
    task = {"kind": "arrays", "path": "a.npz", "loss": "cross_entropy"}
    compare = [{"name": "other", "users.a.task.path": "b.npz"}, {"name": "whole", "users.a.task": {**task}}]
    result = loaded(tmp_path, {**TREE, "users": [{**USER, "task": task}], "compare": compare})
    assert result.scenario.users[0].task == Arrays(kind="arrays", path=str(tmp_path / "a.npz"), loss="cross_entropy")
    (tmp_path / "elsewhere").mkdir()
    again = loaded(tmp_path / "elsewhere", effective(result.scenario))
    assert again.scenario == result.scenario
    tasks = [each.scenario.users[0].task for _, each in compared(again)]
    assert [task.path for task in tasks if isinstance(task, Arrays)] == [str(tmp_path / n) for n in ("b.npz", "a.npz")]


def test_compared_keeps_what_scores_the_run_and_empties_compare(tmp_path: Path) -> None:
    tree = copy(TREE)
    tree["edge"]["aggregator"] |= {"alpha": 2.0, "u_min": 0.5}
    tree["compare"] = [
        {"name": "equal", "edge.aggregator": {"kind": "constant", "weights": [1, 2]}},
        {"name": "both", "edge.aggregator.alpha": 3, "rounds": 7, "users.*.task.batch": 2},
    ]
    (first, equal), (second, both) = compared(loaded(tmp_path, tree))
    assert (first, second) == ("equal", "both")
    rule = Constant(kind="constant", weights=(1.0, 2.0), alpha=2.0, u_min=0.5, u_max=3.3)
    assert equal.scenario.edge.aggregator == rule
    assert isinstance(both.scenario.edge.aggregator, OwoFmtl)
    assert both.scenario.edge.aggregator.alpha == 3
    assert (both.scenario.rounds, [user.task.batch for user in both.scenario.users]) == (7, [2, 2])  # type: ignore[union-attr]
    assert equal.scenario.compare == both.scenario.compare == ()


def test_your_own_encoder(tmp_path: Path) -> None:
    args = {"radio": 1, "deadline": 0.5, "step": "guess", "kind": True}
    tree = {**TREE, "edge": {**TREE["edge"], "encoder": {"kind": "mine.nets:Net", "args": args}}}
    assert loaded(tmp_path, tree).scenario.edge.encoder == Custom(kind="mine.nets:Net", args=args)
    with pytest.raises(ScenarioErrors, match=r"edge\.encoder\.args\.x: expected a whole number \| a number \| text"):
        loaded(tmp_path, tree, "edge.encoder.args.x=[1]")


@given(st.data())
def test_an_unknown_key_anywhere_is_found_at_its_line(tmp_path_factory: Any, data: st.DataObject) -> None:
    tree = copy(TREE)
    mappings = [(), *(path for path in places(tree) if isinstance(at(tree, path), dict))]
    path = data.draw(st.sampled_from(mappings))
    key = data.draw(st.from_regex(r"zz_[a-z0-9]{1,8}", fullmatch=True))
    at(tree, path)[key] = data.draw(st.sampled_from([1, "x", [1], {"y": 2}, None]))
    text = yaml.safe_dump(tree, sort_keys=data.draw(st.booleans()))
    line = next(i for i, row in enumerate(text.split("\n"), 1) if row.lstrip("- ").startswith(f"{key}:"))
    file = written(tmp_path_factory.getbasetemp(), text)
    with pytest.raises(ScenarioErrors) as caught:
        load(file)
    dotted = ".".join(map(str, (*path, key)))
    assert [e.startswith(f"{file}:{line}: {dotted}: unknown key") for e in caught.value.errors] == [True]


NOISE = ("Input should", "validation error", "Value error", "pydantic", "literal_error", "constrained-")
JUNK: list[Any] = [None, True, -1, 0, 2, 10**30, 1e300, "", "none", "theory", "kind", [], [1, "x"], [[]], {}]
JUNK += [{"kind": "x"}, {"kind": []}]


def complaints(file: Path) -> list[str]:
    try:
        load(file)
    except ScenarioErrors as error:
        return error.errors
    return []


def test_any_value_in_any_place_gives_a_scenario_or_plain_errors(tmp_path: Path) -> None:
    """Junk values in places all over the tree, alone and in pairs."""
    every = list(itertools.product(places(TREE), JUNK))
    shuffled = random.Random(7)
    pairs = [shuffled.sample(every, 2) for _ in range(150)]
    refused = 0
    for changes in [[change] for change in shuffled.sample(every, 350)] + pairs:
        tree = copy(TREE)
        for path, value in sorted(changes, key=lambda change: -len(change[0])):
            at(tree, path[:-1])[path[-1]] = copy(value)
        file = written(tmp_path, tree)
        found = complaints(file)
        refused += bool(found)
        assert all(line.startswith(f"{file}:") and "\n" not in line for line in found)
        assert not [line for line in found if any(noise in line for noise in NOISE)]
    assert refused > 250


@pytest.mark.parametrize("name", ["1e3", "0x1F", "null", "no", "true", "1_000", "007", "0o17", "12", "on"])
def test_names_that_look_like_something_else_stay_text(tmp_path: Path, name: str) -> None:
    scenario = loaded(tmp_path, TREE, f"name='{name}'").scenario
    assert scenario.name == name
    assert loaded(tmp_path, effective(scenario)).scenario == scenario


def test_advice_is_silent_for_the_quickstart_and_speaks_where_it_should(tmp_path: Path) -> None:
    assert advice(load(next(path for path in SHIPPED if path.stem == "quickstart")).scenario) == []
    raw = advice(loaded(tmp_path, TREE, "users.*.front=none").scenario)
    assert [line.startswith("front: none sends the raw inputs of a, b to the edge") for line in raw] == [True]
    sharp = loaded(tmp_path, TREE, "edge.aggregator.alpha=3", "edge.aggregator.u_max=4.5").scenario
    assert [line.split(":")[0] for line in advice(sharp)] == ["u_max/u_min is 4.5 and alpha is 3"]
    calm = loaded(tmp_path, TREE, "edge.aggregator.alpha=3", "edge.aggregator.dual=follow_the_leader").scenario
    assert advice(calm) == []


def test_who_is_heard_too_seldom_for_duals_of_a_round_is_told(tmp_path: Path) -> None:
    sets = ("participation={users: 1, per: slot}", "slots=12")
    (said,) = advice(loaded(tmp_path, TREE, *sets).scenario)
    assert said.startswith("a round hears a user in 6 slots in the mean")
    others = ("participation.per=round",), ("edge.aggregator.horizon=run",), ("slots=16",)
    assert all(advice(loaded(tmp_path, TREE, *sets, *more).scenario) == [] for more in others)


def test_polynomial_features_are_not_raw_inputs() -> None:
    said = advice(load(next(path for path in SHIPPED if path.stem == "fig2_stochastic")).scenario)
    assert not [line for line in said if line.startswith("front")]
    assert len([line for line in said if "simulation only" in line]) == 2
