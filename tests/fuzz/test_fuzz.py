"""Codec and stream state machine under a coverage-guided fuzzer: 100,000 inputs, ten times as many in the slow one.

The corpus lies beside this file and is replayed first. It keeps what a longer run finds:
`PYTHONPATH=.:tests python -m fuzz TARGET tests/fuzz/corpus/TARGET -runs=1000000 -max_len=160`.
"""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.targets import TARGETS

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RUNS = {"tensor": 60_000, "values": 10_000, "frame": 20_000, "edge": 8_000, "user": 3_000}
LONGEST = 160
"""Bytes of an input."""
no_fuzzer = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or sys.version_info >= (3, 15),
    reason="there is no wheel of the fuzzer for this machine",
)


def corpus(name: str) -> Path:
    return HERE / "corpus" / name


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_says_what_it_always_did(name: str) -> None:
    files = sorted(corpus(name).iterdir())
    assert files
    for file in files:
        TARGETS[name](file.read_bytes())


def test_honest_programs_of_the_corpus_run_to_their_end() -> None:
    assert sum(TARGETS["edge"](file.read_bytes()) is True for file in corpus("edge").iterdir()) >= 3


def fuzzed(name: str, runs: int, folder: Path) -> None:
    found = folder / "found"
    found.mkdir()
    command = [sys.executable, "-m", "fuzz", name, str(found), str(corpus(name))]
    limits = [f"-runs={runs}", "-seed=1", f"-max_len={LONGEST}", f"-artifact_prefix={folder}/", "-timeout=20"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [*command, *limits], cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    again = re.search(r"Base64: (\S+)", done.stderr)
    reproduce = f"PYTHONPATH=.:tests {sys.executable} -m fuzz.again {name} {again[1]}" if again else ""
    assert done.returncode == 0, f"{reproduce}\n{done.stderr[-3000:]}"
    counted = re.search(r"^Done (\d+) runs", done.stderr, re.MULTILINE)
    assert counted, done.stderr[-3000:]
    assert int(counted[1]) >= runs


@no_fuzzer
@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_look_for_new_code_raise_nothing(name: str, tmp_path: Path) -> None:
    assert sum(RUNS.values()) >= 100_000
    fuzzed(name, RUNS[name], tmp_path)


@no_fuzzer
@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_ten_times_as_many_raise_nothing_either(name: str, tmp_path: Path) -> None:
    fuzzed(name, 10 * RUNS[name], tmp_path)
