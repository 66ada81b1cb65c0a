"""`--out` and docs/benchmarks: what `make bench` keeps has the contract's keys."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import sim.bench.commands as bench

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "benchmarks"
RULE = re.compile(r"\$\(BIN\)/equiran bench (\w+)(.*?) --out docs/benchmarks/(\w+\.json)$", re.MULTILINE)
MADE = {file: (command, options.split()) for command, options, file in RULE.findall((ROOT / "Makefile").read_text())}
POWER = "train_step_ms loop_step_ms speedup solver_us_per_instance reference_solver_us infer_us_batch1"
SLOT = {"users", "batch", "encoder", "wire_ms", "monolithic_ms", "ratio", "echo_ms"}
KEYS = {
    "slot": SLOT,
    "slot --peer-style": SLOT | {"peer_ms", "peer_ratio"},
    "scale": {"rows"},
    "power": {*POWER.split(), "infer_us_per_sample_10k"},
    "power --complexity": {"training", "scaling", "sparse", "inference", "memory"},
    "power --beside-slots": {f"{what}_{rate}_per_s" for what in ("slots", "steps") for rate in ("alone", "together")},
    "sweep": {"seconds", "runs"},
    "start": {f"{kind}_{key}" for kind in ("memory", "ray") for key in ("first_slot_s", "floor_s", "ratio")},
}
ROW = {"users", "ms_per_slot", "user_steps_per_s", "echo_ms", "ratio_to_echo", "edge_rss_mb", "host_rss_mb"}
MACHINE = {"cores", "processor", "load", "python", "torch", "grpc"}
FOUND = {"ratio": 1.5, "machine": {"torch": "2", "cores": 2}, "blocks": 1}


def expected(file: str) -> set[str]:
    command, options = MADE[file]
    named = [f"{command} {option}" for option in options]
    return next((KEYS[name] for name in named if name in KEYS), KEYS[command]) | {"machine"}


def kept(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert file.read_text(encoding="utf-8") == json.dumps(content, indent=2, sort_keys=True) + "\n"
    return content


def complete(file: str, content: dict[str, Any]) -> None:
    assert expected(file) <= content.keys(), file
    assert content["machine"].keys() >= MACHINE, file
    for row in content.get("rows", []):
        assert row.keys() >= ROW, file


def test_make_bench_keeps_what_every_one_of_its_commands_finds() -> None:
    recipe = re.search(r"^bench:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert len(MADE) == len(recipe[1].splitlines())
    assert {command for command, _ in MADE.values()} == {"slot", "scale", "power", "sweep", "start"}


def test_the_kept_files_are_those_of_make_bench_and_have_the_contracts_keys() -> None:
    files = sorted(KEPT.glob("*.json"))
    assert {file.name for file in files} == {*MADE}
    for file in files:
        complete(file.name, kept(file))


def test_a_small_run_is_kept_in_order_and_told_as_ever(tmp_path: Path) -> None:
    command, asked = MADE["scale_trunk.json"]
    out = tmp_path / "new" / "scale_trunk.json"
    said = CliRunner().invoke(bench.app, [command, *asked, "--users", "2", "--slots", "1", "--out", str(out)])
    assert said.exit_code == 0, said.output
    assert "machine: cores" in said.stdout
    complete(out.name, kept(out))


def test_it_is_the_object_that_json_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench._tell(FOUND, lambda _found: None, True, tmp_path / "x.json")
    assert json.loads(capsys.readouterr().out) == kept(tmp_path / "x.json") == FOUND


@pytest.mark.parametrize("command", ["slot", "scale", "power", "sweep", "start"])
def test_a_file_that_cannot_be_is_refused_before_anything_is_measured(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()

    def refusal(out: Path) -> str:
        said: Result = CliRunner().invoke(bench.app, [command, "--out", str(out)])
        assert said.exit_code == 2
        return said.stderr

    assert refusal(tmp_path) == f"--out {tmp_path}: this is a folder, give a file\n"
    assert refusal(tmp_path / "file" / "x.json").startswith(f"--out {tmp_path}/file/x.json: ")
