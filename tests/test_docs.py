"""docs/ cannot rot: keys, defaults, choices, overrides, errors, columns and messages are those of the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import runs
from edge_server import config as edge
from edge_server import power_config as power
from edge_server import radio_config as radio
from protos import PROTOCOL
from protos import edge_pb2 as pb
from protos import reception_pb2 as reception
from sim import compression, faults, participation, security
from sim import power_scenario as power_tree
from sim import scenario as tree
from sim.power_progress import PROGRESS
from sim.power_run import PowerWatcher, train_power
from sim.records import ROUNDS, SLOTS
from sim.scenario import ScenarioErrors, load
from user_client import config as user

ROOT = Path(__file__).parent.parent
SCENARIO = (ROOT / "docs/scenario.md").read_text(encoding="utf-8")
RADIO_PAGE = (ROOT / "docs/radio.md").read_text(encoding="utf-8")
POWER_PAGE = (ROOT / "docs/power.md").read_text(encoding="utf-8")
PROTOCOL_PAGE = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
Table = list[list[str]]

MODELS: dict[type[BaseModel], str] = {
    tree.Written: "Top level",
    tree.Threads: "Threads",
    tree.Record: "Record",
    tree.Checkpoints: "Checkpoints",
    tree.Comparison: "Comparison",
    security.Token: "Security token",
    security.Mtls: "Security mtls",
    faults.UserFault: "Fault of a user",
    faults.Hang: "Fault hang",
    faults.Slow: "Fault slow",
    faults.Lie: "Fault lie",
    faults.EdgeFault: "Fault of the edge",
    faults.Place: "Place of a fault",
    compression.Compression: "Compression",
    compression.TopK: "Top k",
    tree.Crowd: "Crowd",
    tree.Template: "Template",
    user.User: "User",
    user.KernelRegression: "Task kernel_regression",
    user.Rainbow: "Task rainbow",
    user.Arrays: "Task arrays",
    user.Holdout: "Holdout",
    user.PingPong: "Adversary ping_pong",
    user.Inflation: "Adversary inflation",
    user.GradientAttack: "Adversary gradient",
    user.Privacy: "Privacy",
    user.Churn: "Churn",
    participation.Participation: "Participation",
    user.ConvPool: "Front conv_pool",
    user.MlpFront: "Front mlp",
    user.CustomFront: "Your own front",
    user.CustomHead: "Your own head",
    user.LinearHead: "Head linear",
    user.MlpHead: "Head mlp",
    user.IdentityHead: "Head identity",
    user.Custom: "Your own task or adversary",
    edge.Edge: "Edge",
    edge.Linear: "Encoder linear",
    edge.Mlp: "Encoder mlp",
    edge.Lenet: "Encoder lenet",
    edge.Custom: "Your own encoder",
    edge.OwoFmtl: "Aggregator owo_fmtl",
    edge.ParameterFree: "Aggregator parameter_free",
    edge.Constant: "Aggregator constant",
    edge.ScaleInvariant: "Aggregator scale_invariant",
    edge.QFfl: "Aggregator q_ffl",
    edge.Afl: "Aggregator afl",
    edge.Cagrad: "Aggregator cagrad",
    edge.Gramian: "Aggregator by the Gramian",
    edge.CustomAggregator: "Your own aggregator",
    edge.ScaleTo: "Scale to a sum",
    edge.Quarantine: "Quarantine",
    edge.NormClip: "Robust norm_clip",
    edge.Median: "Robust median",
    edge.TrimmedMean: "Robust trimmed_mean",
    edge.MultiKrum: "Robust multi_krum",
    edge.Primal: "Primal",
    edge.Meta: "Meta",
    edge.StepTowards: "Step towards",
    edge.CustomOuter: "Your own outer rule",
    edge.Box: "Domain box",
    edge.Ball: "Domain ball",
}
POWER_MODELS: dict[type[BaseModel], str] = {
    power_tree.PowerScenario: "Power scenario",
    power_tree.EdgeThreads: "Power threads",
    power_tree.PowerEdge: "Power edge",
    power.RoutedMtl: "Server task routed_mtl",
    power.TaskGroup: "Task group",
    power.SampleCounts: "Sample counts",
    power.Problems: "Power problems",
    power.P3: "Problem p3",
    power.P4: "Problem p4",
    power.Rayleigh: "Channel rayleigh",
    power.Rician: "Channel rician",
    power.Jakes: "Channel jakes",
    power.Cell: "Channel cell",
}
ALONE = {power_tree.PowerScenario, power_tree.EdgeThreads, power_tree.PowerEdge}
"""Of a power scenario alone."""
RADIO_MODELS: dict[type[BaseModel], str] = {
    radio.Rayleigh: "Radio rayleigh",
    radio.Rician: "Radio rician",
    radio.Jakes: "Radio jakes",
    radio.Recorded: "Radio trace",
    radio.CustomChannel: "Your own channel",
    radio.Ring: "Ring",
    radio.Compute: "Compute",
    radio.Payloads: "Payloads",
    radio.Routed: "Power routed_mtl",
    radio.CustomPower: "Your own power policy",
}
SECTIONS = [
    *((SCENARIO, model, heading) for model, heading in MODELS.items()),
    *((POWER_PAGE, model, heading) for model, heading in POWER_MODELS.items()),
    *((RADIO_PAGE, model, heading) for model, heading in RADIO_MODELS.items()),
]


def section(page: str, heading: str) -> str:
    """The text below a heading of any level, up to the next heading."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading!r}"
    return found[1]


def rows(text: str) -> Table:
    """The cells of every table row below the headings of its columns."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip().replace("\\|", "|") for cell in line] for line in lines]
    ruled = [i for i, row in enumerate(cells) if set(row[0]) == {"-"}]
    return [row for i, row in enumerate(cells) if i not in ruled and i + 1 not in ruled]


def mentioned(kind: Any) -> Iterator[type[BaseModel]]:
    """Every model inside a type."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for part in get_args(kind):
        yield from mentioned(part)


def reachable(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            for child in mentioned(field.annotation):
                reachable(child, seen)
    return seen


def choices(kind: Any) -> Iterator[Any]:
    """Every literal inside a type, but not inside its models."""
    if get_origin(kind) is Literal:
        yield from get_args(kind)
    else:
        for part in get_args(kind):
            yield from choices(part)


def default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if field.is_required():
        return "required"
    if isinstance(value, BaseModel) or (isinstance(value, tuple) and value and isinstance(value[0], BaseModel)):
        return "see there"
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return f"{[*value]}" if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else f"{value}"


def test_every_part_of_a_scenario_has_its_section() -> None:
    assert reachable(tree.Written, set()) == {*MODELS, *RADIO_MODELS, *POWER_MODELS} - ALONE
    assert reachable(power_tree.PowerScenario, set()) == set(POWER_MODELS)


@pytest.mark.parametrize(("page", "model", "heading"), SECTIONS, ids=[heading for _, _, heading in SECTIONS])
def test_every_key_is_there_with_its_default_and_its_choices(page: str, model: type[BaseModel], heading: str) -> None:
    table = rows(section(page, heading))
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    assert [row[0] for row in table] == [f"`{key}`" for key in fields]
    for key, kind, said, _ in table:
        field = fields[key.strip("`")]
        assert said == f"`{default(field)}`", key
        missing = [choice for choice in choices(field.annotation) if f"`{choice}`" not in kind]
        assert not missing, f"{key}: {missing}"


@pytest.mark.parametrize("row", rows(section(SCENARIO, "Overrides")), ids=lambda row: row[0])
def test_every_override_is_one(row: list[str]) -> None:
    file, option = runs.SCENARIOS / "cluster" / "rainbow.yaml", row[0].strip("`").removeprefix("--set ")
    assert load(file, [option]).scenario != load(file).scenario


@pytest.mark.parametrize("row", rows(section(SCENARIO, "Errors")), ids=lambda row: row[0])
def test_every_error_is_said(row: list[str]) -> None:
    with pytest.raises(ScenarioErrors) as raised:
        load(runs.GOLDEN, [row[0].strip("`").removeprefix("--set ")])
    assert any(row[1].strip("`") in error for error in raised.value.errors), raised.value.errors


def test_the_run_directory_is_as_described(tmp_path: Path) -> None:
    page = section(SCENARIO, "The run directory")
    golden = yaml.safe_load(runs.GOLDEN.read_text())
    for person in golden["users"]:
        person["task"]["path"] = str(runs.GOLDEN.parent / person["task"]["path"])
    folder = runs.run(
        tmp_path,
        {
            **golden,
            "on_user_failure": "drop",
            "checkpoints": {"seconds": 0},
            "record": {"parameters": True, "streams": True},
        },
    ).folder
    files = [row[0].strip("`") for row in rows(page.partition("`slots.parquet`:")[0])]
    assert sorted(files) == sorted(path.name for path in folder.iterdir())
    columns = [name for row in rows(page.partition("`slots.parquet`:")[2]) for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(columns) == sorted([*SLOTS.names, *ROUNDS.names])
    for file in ("summary.json", "manifest.json"):
        described = page.partition(f"`{file}`: ")[2].partition("\n\n")[0]
        for key in runs.read_json(folder / file):
            assert f"`{key}`" in described, f"{file}: {key}"
    with np.load(folder / "parameters.npz") as arrays:
        described = page.partition("`parameters.npz`: ")[2].partition("\n\n")[0]
        assert {*re.findall(r"`(\w+)`", described)} == {*arrays.files}


def test_the_power_directory_is_as_described(tmp_path: Path) -> None:
    page = section(POWER_PAGE, "The power directory")
    file = tmp_path / "power.yaml"
    file.write_text(re.findall(r"^```yaml\n(.*?)^```$", POWER_PAGE, re.MULTILINE | re.DOTALL)[0])
    task = "edge.server_tasks.0"
    sets = [f"{task}.stages=[3, 3]", f"{task}.every=2", f"{task}.samples={{train: 20, test: 10, violation: 20}}"]
    folder = train_power(power_tree.load_power(file, sets), tmp_path / "out", PowerWatcher()).folder
    files = [name for row in rows(page.partition("`progress.parquet`:")[0]) for name in re.findall(r"`(.*?)`", row[0])]
    assert sorted(files) == sorted(path.name for path in folder.iterdir())
    columns = [
        name for row in rows(page.partition("`progress.parquet`:")[2]) for name in re.findall(r"`(.*?)`", row[0])
    ]
    assert columns == PROGRESS.names
    for name in ("power.json", "manifest.json"):
        described, content = page.partition(f"\n`{name}`: ")[2].partition("\n\n")[0], runs.read_json(folder / name)
        for key in [*content, *(content["tasks"][0] if "tasks" in content else ())]:
            assert f"`{key}`" in described, f"{name}: {key}"


@pytest.mark.parametrize(
    "message",
    [message for file in (pb, reception) for message in file.DESCRIPTOR.message_types_by_name.values()],
    ids=lambda m: m.name,
)
def test_every_field_of_every_message_is_described(message: Any) -> None:
    table = rows(section(PROTOCOL_PAGE, message.name))
    assert [row[:2] for row in table] == [[str(field.number), f"`{field.name}`"] for field in message.fields]


def test_every_number_of_an_enum_is_described() -> None:
    enums = [pb.DType.DESCRIPTOR, pb.Next.Ask.DESCRIPTOR, pb.Rejected.Code.DESCRIPTOR]
    for value in (value for enum in enums for value in enum.values if value.number):
        assert f"`{value.name}` = {value.number}" in PROTOCOL_PAGE
    assert f"`protocol` = {PROTOCOL}" in PROTOCOL_PAGE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_make_target_that_a_page_names_exists(page: Path) -> None:
    text = re.sub(r"^`[\w.]+`\n\n```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for name in re.findall(r"`((?!runs/|DIR/|site/)(?:[\w.-]+/)+[\w.*-]*)`", text):
        assert [*ROOT.glob(name.rstrip("/"))], f"{page.name} names {name}"
    targets = {*re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)}
    assert {*re.findall(r"`make ([\w-]+)`", text)} <= targets
