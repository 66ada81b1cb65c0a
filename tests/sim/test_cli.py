"""The command as users call it: exit codes, what goes to stdout, and that bad input starts nothing."""

import json
import socket
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import runs
from sim.cli import app


def equiran(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(folder: Path, tree: runs.Tree, *options: str) -> list[str]:
    """The lines on stderr of a run that must not start: exit 2, empty stdout, no run directory."""
    file = runs.write(folder / "in", tree)
    result = equiran("run", file, "--out", folder / "out", "--quiet", *options)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert not (folder / "out").exists()
    assert [path.name for path in folder.iterdir()] == ["in"]
    return [line.replace(str(file), "s.yaml") for line in result.stderr.splitlines()]


def line_of(folder: Path, text: str) -> int:
    lines = (folder / "in" / "scenario.yaml").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.strip().startswith(text))


def test_done_is_0_and_json_is_one_object_alone(tmp_path: Path) -> None:
    file = runs.write(tmp_path, {**runs.kernel(), "compare": [{"name": "equal", "slots": 3}]})
    result = equiran("run", file, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    summary = runs.read_json(tmp_path / "out" / "summary.json")
    assert {**told, **summary} == told
    assert (told["dir"], told["status"]) == (str(tmp_path / "out"), "done")
    assert told["digest"] == runs.read_json(tmp_path / "out" / "manifest.json")["digest"]
    (equal,) = told["compare"]
    assert (equal["dir"], equal["name"]) == (str(tmp_path / "out" / "equal"), "equal")
    assert equal["digest"] not in (told["digest"], None)


def test_without_json_the_last_line_is_the_run_directory_and_quiet_is_quiet(tmp_path: Path) -> None:
    file = runs.write(tmp_path, runs.kernel())
    result = equiran("run", file, "--out", tmp_path / "out", "--quiet")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == str(tmp_path / "out")
    assert result.stderr == ""


def test_the_table_is_whole_at_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    file = runs.write(tmp_path, runs.digits(compare=[{"name": "equal_same_sum", "slots": 3}]))
    result = equiran("run", file, "--out", tmp_path / "out", "--quiet")
    table = result.stdout
    assert "…" not in table
    assert max(len(line) for line in table.splitlines()[:-1]) <= 80
    summary = runs.read_json(tmp_path / "out" / "summary.json")
    (row,) = (line for line in table.splitlines() if line.split()[:1] == ["digits"])
    numbers = (summary[name] for name in ("fairness_mean", "val_fairness_mean", "worst_utility", "jain", "sum_w_mean"))
    assert row.split()[1:6] == [f"{number:.4g}" for number in numbers]
    assert row.split()[-1] == summary["digest"][:8]


def test_seed_set_and_transport_override_the_file_and_are_written_down(tmp_path: Path) -> None:
    file = runs.write(tmp_path, runs.kernel())
    options = ("--seed", "9", "--set", "rounds=3", "--set", "edge.aggregator.alpha=2", "--transport", "grpc")
    assert equiran("run", file, "--out", tmp_path / "out", *options).exit_code == 0
    manifest = runs.read_json(tmp_path / "out" / "manifest.json")
    assert (manifest["seed"], manifest["transport"]) == (9, "grpc")
    assert runs.read_json(tmp_path / "out" / "summary.json")["rounds"] == 3


def test_the_default_directory_is_runs_name_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = runs.write(tmp_path, runs.kernel())
    monkeypatch.chdir(tmp_path)
    told = json.loads(equiran("run", file, "--json").stdout)
    assert Path(told["dir"]).parent == Path("runs")
    assert Path(told["dir"]).name.startswith("kernel-20")
    assert (tmp_path / told["dir"] / "manifest.json").is_file()


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "a.yaml", "--sett", "x=1"], ["fly"], ["data", "fetch", "cifar"]]
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    result = equiran(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


def test_a_missing_file_is_2(tmp_path: Path) -> None:
    result = equiran("run", tmp_path / "no.yaml", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path / 'no.yaml'}: cannot be read: No such file or directory\n"
    assert not (tmp_path / "out").exists()


def test_all_errors_come_at_once_one_line_each(tmp_path: Path) -> None:
    tree = runs.changed(runs.kernel(), rounds=0, edge__aggregator__alpha=-1.0, sluts=3, users__count=0)
    lines = refused(tmp_path, tree)
    assert [line.split(": ", 2)[1] for line in lines] == ["rounds", "users.count", "edge.aggregator.alpha", "sluts"]
    assert [int(line.split(":")[1]) for line in lines] == sorted(int(line.split(":")[1]) for line in lines)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("rounds=0", "--set rounds=0: rounds: must be at least 1, got 0"),
        ("slotz=3", "--set slotz=3: slotz: unknown key"),
        ("edge.aggregator.u_min=4", "edge.aggregator: u_min (4) must be below u_max (4)"),
        ("edge.aggregator.alpha=11", "edge.aggregator.alpha: must be at most 10, got 11"),
        ("edge.aggregator.alpha=.nan", "edge.aggregator.alpha: must be finite, got nan"),
        ("transport=smoke", "transport: expected memory | grpc | ray"),
        ("rounds", "--set rounds: "),
    ],
)
def test_a_bad_override_is_refused(tmp_path: Path, setting: str, said: str) -> None:
    (line,) = refused(tmp_path, runs.kernel(), "--set", setting)
    assert said in line


def npz(folder: Path, **arrays: np.ndarray) -> runs.Tree:
    x, y = np.zeros((2, 4, 2, 1, 3)), np.zeros((2, 4, 2, 1))
    tree = runs.arrays(folder / "in", x, y)
    np.savez(folder / "in" / "u1.npz", **arrays)
    return tree


X, Y = np.zeros((2, 4, 1, 3)), np.zeros((2, 4, 1))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": X}, "has no array y"),
        ({"x": X, "y": Y[:, :3]}, "y has shape [2, 3, 1], x needs [2, 4, 1]"),
        ({"x": X[0], "y": Y[0]}, "x has shape [4, 1, 3], needs [T, m, B, ...]"),
        ({"x": X.astype(int), "y": Y}, "x has dtype int64, needs float32 or float64"),
        ({"x": X, "y": Y + np.nan}, "y[0, 0, 0] is nan, must be finite"),
        ({"x": X[:1], "y": Y[:1]}, "x has 1 rounds, the scenario needs 2"),
        ({"x": X[:, :3], "y": Y[:, :3]}, "x has 3 slots, the scenario needs 4"),
        ({"x": X.astype("f4"), "y": Y}, "the data are torch.float32, but those of 'u0' are torch.float64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_data_that_do_not_fit_are_refused_at_their_line(tmp_path: Path, arrays: dict, said: str) -> None:
    (line,) = refused(tmp_path, npz(tmp_path, **arrays))
    assert line.startswith(f"s.yaml:{line_of(tmp_path, '- name: u1') + 1}: users.1.task: ")
    assert said in line


def test_features_that_differ_between_users_are_refused(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, npz(tmp_path, x=np.zeros((2, 4, 1, 5)), y=Y))
    assert line.startswith(f"s.yaml:{line_of(tmp_path, '- name: u1')}: users.1: ")
    assert "features per sample are [5], but those of 'u0' are [3]; one encoder serves all users" in line


MISFITS = [
    ({"edge__encoder": {"kind": "lenet"}}, "encoder:", "edge.encoder: encoder lenet: features have shape [4]"),
    ({"users__template__front": {"kind": "conv_pool"}}, "front:", "users.0.front: front conv_pool needs images"),
    ({"edge__encoder": {"kind": "mlp", "width": 3}}, "head:", "users.0.head: head identity needs [1]"),
    ({"edge__encoder": {"kind": "linear", "outputs": 2}}, "head:", "users.0.head: head identity needs [1]"),
    ({"users__template__head": {"kind": "linear", "outputs": 3}}, "head:", "users.0.head: head outputs is 3"),
    (
        {"edge__encoder": {"kind": "no_such_place:Net"}},
        "encoder:",
        "edge.encoder: encoder no_such_place:Net: cannot import",
    ),
    ({"edge__encoder": {"kind": "torch.nn:Net"}}, "encoder:", "torch.nn has no class 'Net'"),
    ({"edge__encoder": {"kind": "math:pi"}}, "encoder:", "pi is not a torch.nn.Module class"),
    ({"edge__encoder": {"kind": "torch.nn:Linear"}}, "encoder:", "its constructor failed with {}"),
    (
        {"edge__encoder": {"kind": "torch.nn:BatchNorm1d", "args": {"num_features": 4}}},
        "encoder:",
        "which mixes samples of different users",
    ),
    (
        {"edge__encoder": {"kind": "torch.nn:Softmax", "args": {"dim": 0}}},
        "encoder:",
        "edge.encoder: encoder torch.nn:Softmax: it has no parameters",
    ),
]


@pytest.mark.parametrize(("change", "where", "said"), MISFITS, ids=[row[2][:40] for row in MISFITS])
def test_parts_that_do_not_fit_are_refused_at_their_line(tmp_path: Path, change: dict, where: str, said: str) -> None:
    (line,) = refused(tmp_path, runs.changed(runs.kernel(), **change))
    assert line.startswith(f"s.yaml:{line_of(tmp_path, where)}: ")
    assert said in line


def test_an_encoder_that_mixes_samples_unseen_is_refused_too(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mixing_encoder.py").write_text(
        "from torch import nn\n"
        "class Centred(nn.Linear):\n"
        "    def __init__(self): super().__init__(4, 1)\n"
        "    def forward(self, x): return super().forward(x - x.mean(0))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    (tmp_path / "here").mkdir()
    (line,) = refused(tmp_path / "here", runs.changed(runs.kernel(), edge__encoder={"kind": "mixing_encoder:Centred"}))
    assert "the output of one sample depends on the others in the batch" in line


def test_a_missing_data_set_names_the_command_that_fetches_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("EQUIRAN_DATA", str(tmp_path / "nothing"))
    tree = runs.digits(many=2)
    tree["users"][0]["task"]["digits"] = "mnist"
    (tmp_path / "here").mkdir()
    (line,) = refused(tmp_path / "here", tree)
    assert line.startswith(f"s.yaml:{line_of(tmp_path / 'here', '- name: u0') + 1}: users.0.task: MNIST is not here")
    assert 'run "equiran data fetch mnist"' in line


def test_a_run_that_is_refused_says_so_before_anything_else(tmp_path: Path) -> None:
    tree = runs.changed(runs.digits(many=2), users__0__front="none")
    file = runs.write(tmp_path, tree)
    (line,) = equiran("run", file, "--out", tmp_path / "out").stderr.splitlines()
    assert "one encoder serves all users" in line
    valid = runs.write(tmp_path, runs.changed(tree, users__1__front="none"))
    notes = [line for line in equiran("run", valid, "--out", tmp_path / "out").stderr.splitlines() if "note:" in line]
    assert notes == ["note: front: none sends the raw inputs of u0, u1 to the edge; a front keeps them with the user"]
    refused = equiran("run", valid, "--out", tmp_path / "out").stderr.splitlines()
    assert refused == [f"{tmp_path / 'out'} holds a run already; give another --out"]


def test_a_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """A folder of runs would be taken for one of them; a file is no folder."""
    file = runs.write(tmp_path, runs.kernel())
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "manifest.json").write_text("{}")
    among = equiran("run", file, "--out", tmp_path / "runs")
    advice = f"holds runs in folders of their own; give another --out, such as {tmp_path / 'runs' / 'one'}"
    assert (among.exit_code, among.stderr) == (2, f"{tmp_path / 'runs'} {advice}\n")
    taken = equiran("run", file, "--out", file)
    assert (taken.exit_code, taken.stderr) == (2, f"--out {file}: this is a file, give a folder\n")


def test_a_directory_that_holds_a_run_is_not_written_into(tmp_path: Path) -> None:
    file = runs.write(tmp_path, runs.kernel())
    assert equiran("run", file, "--out", tmp_path / "out").exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    result = equiran("run", file, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [f"{tmp_path / 'out'} holds a run already; give another --out"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = equiran("run", runs.write(tmp_path, runs.kernel()), "--out", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"--out {tmp_path / 'file' / 'out'}: Not a directory"


def test_a_run_that_diverges_fails_with_1_and_one_line(tmp_path: Path) -> None:
    tree = runs.changed(runs.kernel(slots=60), edge__primal={"step": 1.7e308}, edge__meta={"rule": "continue"})
    result = equiran("run", runs.write(tmp_path, tree), "--out", tmp_path / "out", "--quiet", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("kernel: theta after the step of round 0, slot 0 is not finite; nothing was changed: lower")
    assert runs.read_json(tmp_path / "out" / "manifest.json")["status"] == "failed"


def test_a_theory_step_without_theory_fails_with_1(tmp_path: Path) -> None:
    tree = runs.changed(runs.kernel(rounds=1), edge__primal={"step": "theory", "domain": {"box": 1.0}})
    result = equiran("run", runs.write(tmp_path, tree), "--out", tmp_path / "out", "--quiet")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "edge.primal.step: theory needs rounds whose best models differ" in line


def test_a_cluster_out_of_reach_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unheard.getsockname()[1]}"
        options = ["--transport", "ray", "--address", address, "--out", tmp_path / "out", "--quiet", "--json"]
        result = equiran("run", runs.write(tmp_path, runs.kernel()), *options)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"cannot reach Ray at {address}: ")
    assert "refused" in line


def test_an_address_without_ray_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    options = ["--transport", "memory", "--address", "10.0.0.1:6379", "--out", tmp_path / "out"]
    result = equiran("run", runs.write(tmp_path, runs.kernel()), *options)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == ["--address 10.0.0.1:6379: a cluster is for transport ray, this is memory"]
    assert not (tmp_path / "out").exists()


def test_version() -> None:
    result = equiran("--version")
    assert result.exit_code == 0
    assert result.stdout.strip() == f"equiran {version('equiran')}"


def test_validate_says_all_and_writes_nothing(tmp_path: Path) -> None:
    file = runs.write(tmp_path, runs.kernel())
    told = json.loads(equiran("validate", file, "--json").stdout)
    assert told["valid"] is True
    assert told["scenario"]["users"][1]["name"] == "user_01"
    assert told["estimate"]["encoder_parameters"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["scenario.yaml"]
    bad = equiran("validate", file, "--set", "edge.encoder.kind=lenet")
    assert bad.exit_code == 2
    assert "encoder lenet: features have shape [4]" in bad.stderr


def test_what_validate_prints_runs_as_it_is(tmp_path: Path) -> None:
    file = runs.write(tmp_path, runs.kernel())
    (tmp_path / "printed.yaml").write_text(equiran("validate", file).stdout)
    a, b = (
        json.loads(equiran("run", f, "--out", tmp_path / f.stem, "--json").stdout)
        for f in (file, tmp_path / "printed.yaml")
    )
    assert a["digest"] == b["digest"]


def test_schema_is_one_json_object() -> None:
    assert "users" in json.loads(equiran("schema").stdout)["properties"]
