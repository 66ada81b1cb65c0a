"""`--set a.b=c` and the dotted keys of `compare`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.overrides import UnknownPath, override, setting
from sim.yaml_lines import Node, Unreadable, parse, plain

TEXT = """\
rounds: 3
users:
  - {name: clean, task: {batch: 5}}
  - {name: "0", task: {batch: 6}}
  - {name: a.b, task: {batch: 7}}
edge:
  aggregator: {kind: owo_fmtl, alpha: 2, u_min: 1, u_max: 4, dual: ogd}
  primal: {domain: none}
"""
CROWD = "users: {count: 3, template: {task: {batch: 5}}}"


def tree(text: str = TEXT) -> Node:
    return parse(text, "t.yaml")[0]


def after(*sets: str, text: str = TEXT) -> Any:
    root = tree(text)
    for each in sets:
        root = override(root, *setting(each))
    return plain(root)


def batches(result: Any) -> list[int]:
    return [user["task"]["batch"] for user in result["users"]]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("users.clean.task.batch", [9, 6, 7]),
        ("users.2.task.batch", [5, 6, 9]),
        ("users.0.task.batch", [5, 9, 7]),  # a user's name comes before an index
        ("users.a.b.task.batch", [5, 6, 9]),
        ("users.*.task.batch", [9, 9, 9]),
    ],
)
def test_users_go_by_name_index_or_all(path: str, expected: list[int]) -> None:
    assert batches(after(f"{path}=9")) == expected


def test_only_the_path_changes() -> None:
    expected = plain(tree())
    expected["users"][0]["task"]["batch"] = 9
    assert after("users.clean.task.batch=9") == expected


def test_values_are_yaml_and_missing_parents_are_made() -> None:
    result = after("a.b.c={x: [1e-3, no]}", "edge.primal.domain.box=2", "rounds=")
    assert result["a"] == {"b": {"c": {"x": [0.001, "no"]}}}
    assert result["edge"]["primal"]["domain"] == {"box": 2}
    assert result["rounds"] is None


def test_a_new_aggregator_keeps_what_scores_the_run() -> None:
    scoring = {"alpha": 2, "u_min": 1, "u_max": 4}
    replaced = after("edge.aggregator={kind: constant, weights: equal, u_max: 5}")["edge"]["aggregator"]
    assert replaced == {**scoring, "kind": "constant", "weights": "equal", "u_max": 5}
    assert after("edge.aggregator.kind=constant")["edge"]["aggregator"] == {**scoring, "kind": "constant"}
    assert after("edge.aggregator.kind=owo_fmtl") == plain(tree())
    either_order = [
        after(*sets)["edge"]["aggregator"]
        for sets in (
            ("edge.aggregator.kind=constant", "edge.aggregator.weights=[1, 2]"),
            ("edge.aggregator.weights=[1, 2]", "edge.aggregator.kind=constant"),
        )
    ]
    assert either_order == [{**scoring, "kind": "constant", "weights": [1, 2]}] * 2


def test_a_crowd_stays_one_for_its_template_and_opens_for_one_user() -> None:
    assert after("users.template.task.batch=9", text=CROWD)["users"]["template"]["task"]["batch"] == 9
    assert after("users.*.task.batch=9", text=CROWD) == after("users.template.task.batch=9", text=CROWD)
    opened = after("users.user_01.task.batch=9", text=CROWD)
    assert batches(opened) == [5, 9, 5]
    assert [user["name"] for user in opened["users"]] == ["user_00", "user_01", "user_02"]
    assert batches(after("users.2.task.batch=9", text=CROWD)) == [5, 5, 9]


@pytest.mark.parametrize("path", ["users.clen.task", "users.3.task", "users.-1.task", "users.²"])
def test_a_user_that_is_not_there(path: str) -> None:
    with pytest.raises(UnknownPath, match="users has no item"):
        after(f"{path}=1")


@pytest.mark.parametrize("text", ["rounds", "=3", "a..b=3", ".a=3", ""])
def test_what_is_not_a_setting(text: str) -> None:
    with pytest.raises(UnknownPath, match=r"expected a\.b=value"):
        setting(text)


@pytest.mark.parametrize("value", ["[1", "{a: 1, a: 2}", "!!python/object:os.system x", "&a 1"])
def test_a_bad_value_is_placed_at_its_option(value: str) -> None:
    with pytest.raises(Unreadable, match=r"^--set rounds="):
        setting(f"rounds={value}")


@given(st.lists(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), min_size=1, max_size=5), st.integers())
def test_what_is_set_is_what_is_read(path: list[str], value: int) -> None:
    root = override(Node({}, "t:1"), ".".join(path), Node(value, "--set"))
    found = plain(root)
    for step in path:
        found = found[step]
    assert found == value
