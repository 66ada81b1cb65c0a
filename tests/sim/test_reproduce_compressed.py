"""`equiran reproduce compression`, in small: bytes fall as stated, and every coding has its rows."""

from pathlib import Path

import pytest

from sim.reproduce.compressed import CODINGS, COMPRESSION, rows
from sim.reproduce.jobs import Size
from sim.reproduce.rows import MET
from sim.reproduce.run import reproduce
from sim.reproduce.runs import Runs


def test_in_small(tmp_path: Path) -> None:
    made = reproduce([COMPRESSION], 1, quick=True, out=tmp_path, note=lambda _line: None, stop=lambda: False)
    assert [picture.name for picture in made.pictures] == ["compression.png"]
    found = {row.metric: row for row in rows(Runs(tmp_path / "runs"), Size(1, quick=True))}
    assert len(found) == 1 + 3 * (len(CODINGS) - 1)
    for coding, times in (("float16", 2), ("bfloat16", 2), ("int8", 4)):
        row = found[f"bytes of a slot, whole / sent, {coding}"]
        assert row.ours == pytest.approx(times, rel=0.02)
        assert row.verdict == MET
        assert found[f"virtual seconds of a run, whole / sent, {coding}"].ours == pytest.approx(times, rel=0.1)
    top = found["bytes of a slot, whole / sent, top k"]
    assert top.ours == found["bytes of a slot, whole / sent, top k, forgetful"].ours
    assert found["virtual seconds of a run, whole / sent, top k"].ours > 1
