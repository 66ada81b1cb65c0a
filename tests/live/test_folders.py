"""Which runs the page offers, and in which order."""

import json
from pathlib import Path

from sim.live.folders import runs_under


def put(folder: Path, started: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"status": "done", "started": started}))


def test_the_newest_comes_first_and_before_those_it_is_compared_with(tmp_path: Path) -> None:
    put(tmp_path / "old", "2026-01-01")
    put(tmp_path / "old" / "equal", "2026-01-04")
    put(tmp_path / "new", "2026-01-02")
    put(tmp_path / "new" / "equal", "2026-01-03")
    put(tmp_path / "sweep" / "runs" / "slots=8" / "seed_0", "2026-01-01")
    assert [run.name for run in runs_under(tmp_path)] == [
        "new", "new/equal", "sweep/runs/slots=8/seed_0", "old", "old/equal",
    ]  # fmt: skip
    assert [run.name for run in runs_under(tmp_path / "old")] == [".", "equal"]
