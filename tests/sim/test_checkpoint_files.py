"""Checkpoints on disk: whole or not there, three kept, every damage named, nothing of another run taken."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sim import checkpoint_files
from sim.checkpoint_files import CheckpointFolder, NoCheckpoint, NotSaved, differences, manifest_hash

SCENARIO = {"name": "a", "seed": 1, "edge": {"server_tasks": [{"rate": 0.001, "stages": [5, 5]}]}}
FILES = {"state.bin": bytes(range(256)) * 40, "clock.json": b"{}"}


def folder(tmp_path: Path, scenario: Any = SCENARIO) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "checkpoints", scenario, {"torch": "2"})


def newest(tmp_path: Path, scenario: Any = SCENARIO) -> tuple[int | None, list[str]]:
    said: list[str] = []
    found = folder(tmp_path, scenario).newest(said.append)
    return (found.number if found else None), said


def saved(tmp_path: Path, *numbers: int) -> Path:
    for number in numbers:
        folder(tmp_path).save(number, {**FILES, "number": str(number).encode()})
    return tmp_path / "checkpoints"


def test_what_was_saved_comes_back_and_none_before_the_first(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    saved(tmp_path, 7)
    found = folder(tmp_path).newest(pytest.fail)
    assert found is not None
    assert (found.number, found.files, found.versions) == (7, {**FILES, "number": b"7"}, {"torch": "2"})


def test_the_last_three_are_kept_and_what_lies_ahead_goes(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 10, 100)
    assert folder(tmp_path).numbers() == [2, 10, 100]
    saved(tmp_path, 50)
    assert folder(tmp_path).numbers() == [2, 10, 50]


def test_a_checkpoint_can_be_saved_again(tmp_path: Path) -> None:
    saved(tmp_path, 5)
    folder(tmp_path).save(5, {"other": b"x"})
    found = folder(tmp_path).newest(pytest.fail)
    assert found is not None
    assert found.files == {"other": b"x"}


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = [
    ("state.bin", truncate, "state.bin has 10,239 bytes, it was written with 10,240"),
    ("state.bin", flip, "state.bin is damaged: its SHA-256"),
    ("state.bin", Path.unlink, "state.bin is missing"),
    ("manifest.json", truncate, "manifest.json is missing or damaged"),
    ("manifest.json", flip, "manifest.json"),
    ("manifest.json", Path.unlink, "manifest.json is missing or damaged"),
]


@pytest.mark.parametrize(("name", "damage", "said"), DAMAGE, ids=[f"{n}-{d.__name__}" for n, d, _ in DAMAGE])
def test_a_damaged_one_is_named_and_the_one_before_is_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None], said: str
) -> None:
    place = saved(tmp_path, 1, 2)
    damage(place / "000000000002" / name)
    number, notes = newest(tmp_path)
    assert number == 1
    (note,) = notes
    assert said in note
    assert str(place / "000000000002") in note
    damage(place / "000000000001" / name)
    with pytest.raises(NoCheckpoint, match=r"no checkpoint in .* is whole: .*000000000002.*; run the scenario again"):
        newest(tmp_path)


def test_every_single_flipped_bit_of_a_manifest_is_noticed(tmp_path: Path) -> None:
    manifest = saved(tmp_path, 1, 2) / "000000000002" / "manifest.json"
    whole = manifest.read_bytes()
    for at in range(0, len(whole), 7):
        manifest.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        if json_of(manifest) != json.loads(whole):
            assert newest(tmp_path)[0] == 1, at


def json_of(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def test_another_scenario_is_refused_with_the_field(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    other = json.loads(json.dumps(SCENARIO))
    other["edge"]["server_tasks"][0]["rate"] = 0.01
    with pytest.raises(NoCheckpoint, match=r"edge\.server_tasks\.0\.rate is 0\.01 here and 0\.001 in the checkpoint"):
        newest(tmp_path, other)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    manifest = saved(tmp_path, 1) / "000000000001" / "manifest.json"
    content = json.loads(manifest.read_bytes())
    del content["sha256"]
    content["schema"] = 2
    manifest.write_text(json.dumps({**content, "sha256": manifest_hash(content)}))
    with pytest.raises(NoCheckpoint, match="schema is 3 here and 2 in the checkpoint"):
        newest(tmp_path)


def test_one_that_was_never_finished_is_left_out_and_then_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = saved(tmp_path, 1)

    def power_cut(_folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "_sync", power_cut)
        with pytest.raises(KeyboardInterrupt):
            saved(tmp_path, 2)
    number, notes = newest(tmp_path)
    assert (number, notes) == (1, [f"{place / 'partial-2'} was never finished; it is left out"])
    saved(tmp_path, 3)
    assert sorted(path.name for path in place.iterdir()) == ["000000000001", "000000000003"]


def test_a_full_disk_is_one_line_and_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 1)

    def full(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "_write_through", full)
        with pytest.raises(NotSaved) as raised:
            saved(tmp_path, 2)
    free = f"{shutil.disk_usage(tmp_path).free:,}"[:3]
    assert "checkpoint 2 could not be saved" in str(raised.value)
    assert f"No space left on device; it needs 10,243 bytes, {free}" in str(raised.value)
    assert newest(tmp_path)[0] == 1


def test_differences_are_paths() -> None:
    found = [*differences({"a": [1, {"b": 2}], "c": 1, "d": [1]}, {"a": [1, {"b": 3}], "e": 4, "d": [1, 2]})]
    assert found == [("a.1.b", 2, 3), ("c", 1, None), ("d", [1], [1, 2]), ("e", None, 4)]


def test_the_same_checkpoint_again_leaves_the_files_alone(tmp_path: Path) -> None:
    saved(tmp_path, 5)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    saved(tmp_path, 5)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    assert before
