"""`equiran schema`: an editor that knows it accepts every scenario of ours, and marks what the loader refuses."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

import runs
from sim.cli import app
from sim.power_scenario import PowerScenario
from sim.scenario import Written
from sim.schema import json_schema
from sim.yaml_lines import plain, read

FILES = sorted(path.relative_to(runs.SCENARIOS).as_posix() for path in runs.SCENARIOS.rglob("*.yaml"))
EDITOR = jsonschema.Draft202012Validator(json_schema())


def tree_of(name: str) -> Any:
    root, problems = read(runs.SCENARIOS / name)
    assert not problems
    return json.loads(json.dumps(plain(root)))


def marked(tree: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in EDITOR.iter_errors(tree)]


def test_it_is_a_schema_and_the_command_prints_it_alone() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    result = CliRunner().invoke(app, ["schema"])
    assert json.loads(result.stdout) == json_schema()
    assert result.stdout.count("\n") == 1


def test_it_names_every_key_of_both_kinds() -> None:
    schema = json_schema()
    keys = {field.alias or name for kind in (Written, PowerScenario) for name, field in kind.model_fields.items()}
    assert schema["properties"].keys() == keys
    assert {"User", "Crowd", "OwoFmtl", "PingPong", "RoutedMtl", "SampleCounts"} <= schema["$defs"].keys()
    assert schema["$defs"]["Written"]["additionalProperties"] is False
    assert schema["$defs"]["PowerScenario"]["additionalProperties"] is False


@pytest.mark.parametrize("name", FILES)
def test_it_accepts_every_scenario_in_the_repository(name: str) -> None:
    assert marked(tree_of(name)) == []


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("power/best.yaml", {"rouns": 3}, "$: Additional properties are not allowed ('rouns' was unexpected)"),
        ("power/best.yaml", {"seed": -1}, "$.seed: -1 is less than the minimum of 0"),
        ("power/best.yaml", {"edge": {"server_tasks": [{"kind": "routed_mtl", "scheme": "rooted"}]}}, "'rooted'"),
        ("quickstart.yaml", {"rounds": 0}, "$.rounds: 0 is less than the minimum of 1"),
        ("quickstart.yaml", {"edge": {}}, "$.edge: 'encoder' is a required property"),
        ("quickstart.yaml", {"name": "a b"}, "$.name: 'a b' does not match"),
    ],
)
def test_it_marks_a_mistake_at_its_place(name: str, changes: dict[str, Any], said: str) -> None:
    assert [error for error in marked({**tree_of(name), **changes}) if said in error]


def test_a_scenario_of_neither_kind_is_held_against_the_one_with_slots(tmp_path: Path) -> None:
    assert "$: 'users' is a required property" in marked({"schema": 1, "name": "a", "rounds": 1, "slots": 1})
