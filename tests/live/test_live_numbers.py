"""What the live page's tiles say of a run over gRPC, recomputed from its files by code that shares nothing with it."""

import shutil
from pathlib import Path

import pytest
from pages import News, served

import runs
from recomputed import USERS, Recomputed, tree
from sim.report.words import number, size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, and a copy of it without its summary, of which the page must add everything up itself."""
    folder = tmp_path_factory.mktemp("runs")
    runs.run(folder, {**tree(), "compare": []}).folder.rename(folder / "told")
    shutil.copytree(folder / "told", folder / "summed")
    (folder / "summed" / "summary.json").unlink()
    return folder


def test_the_tiles_are_what_the_files_add_up_to(folder: Path) -> None:
    run = Recomputed(folder / "told")
    up, down = (sum(run.bytes(user, way) for user in USERS) for way in ("up", "down"))
    expected = {
        "Fairness": number(run.fairness),
        "Worst utility": number(float(run.utilities.min())),
        "Regret": number(run.regret),
        "Bytes": size(up + down),
        "Missed deadlines": str(run.misses),
        "Virtual time": f"{run.virtual_seconds:.3g} s",
    }
    with served(folder) as watcher:
        for name in ("told", "summed"):
            told = News(watcher.place, name).wait(lambda told: told["head"]["done"] == 5)
            shown = {tile["label"]: tile for tile in told["tiles"]}
            assert {label: shown[label]["value"] for label in expected} == expected, name
            worst = USERS[int(run.utilities.argmin())]
            assert shown["Worst utility"]["note"] == f"{worst} · Jain {number(run.jain)}"
            assert shown["Bytes"]["note"] == f"{size(up)} up · {size(down)} down"
            assert shown["Missed deadlines"]["note"] == f"{run.of('rejected')} rejected · {run.of('absent')} absent"
