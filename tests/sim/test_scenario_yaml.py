"""The YAML that a scenario may use: YAML 1.2 scalars, true lines, nothing that can explode."""

import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.scenario import ScenarioErrors, load
from sim.yaml_lines import Unreadable, parse, plain, read, scalar, where


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e-3", 0.001), (".5", 0.5), ("-1.", -1.0), ("+12", 12), ("0x1F", 31), ("0o17", 15), ("007", 7)],
        *[("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None), ("-.inf", -math.inf)],
        *[(word, word) for word in ("no", "on", "Yes", "1:30", "1_000", "tRUE", "2026-01-01", "1e", ".", "0b1", "=")],
    ],
)
def test_plain_scalars_as_in_yaml_1_2(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)
    assert plain(parse(f"a: {text}", "t")[0]) == {"a": value}


def test_nan_and_quoted_text() -> None:
    assert math.isnan(float(scalar(".nan") or 0))
    assert plain(parse("a: '1e-3'\nb: \"true\"\non: x", "t")[0]) == {"a": "1e-3", "b": "true", "on": "x"}


def test_lines() -> None:
    root, _ = parse("# top\na:\n  b: [1,\n    2]\n\nc: |\n  text\nd:\n  - x: 1\n    y: 2\n", "t")
    assert where(root, ("a",)) == "t:2"
    assert where(root, ("a", "b", 1)) == "t:4"
    assert where(root, ("c",)) == "t:6"
    assert where(root, ("d", 0, "y")) == "t:10"
    assert where(root, ("d", 5, "y")) == "t:8"


def test_every_duplicate_key_at_its_line() -> None:
    root, found = parse("a: 1\nb:\n  - {x: 1,\n     x: 2}\na: 3\n", "t")
    assert [str(problem) for problem in found] == [
        "t:4: b.0.x: duplicate key; first given in line 3",
        "t:5: a: duplicate key; first given in line 1",
    ]
    assert plain(root) == {"a": 1, "b": [{"x": 1}]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: 1\nb: !!python/object/apply:os.system [ls]",
            "t:2: tag tag:yaml.org,2002:python/object/apply:os.system is not",
        ),
        ("a: 1\nb: !mine 2", "t:2: tag !mine is not allowed"),
        ("a: 1\nb: &x 2\nc: *x", "t:2: anchors and aliases are not allowed"),
        ("a: 1\n<<: *x", "t:2: anchors and aliases are not allowed"),
        (
            "a: 1\n\tb: 2",
            "t:2: while scanning for the next token found character '\\t' that cannot start any token; indent",
        ),
        ("a: 1\nb: [1, 2", "t:2: "),
        ("a: 1\n? [x]\n: 2", "t:2: a key must be text"),
        ("a: 1\n---\nb: 2", "t:2: expected a single document"),
        ("a: 1\nb: \x07", "t:2: character #x0007 is not allowed in YAML"),
        ("a: 1\nb: " + "[" * 100_000, "t:2: nested deeper than 40 levels"),
        ("a:\n  [" + "1," * 100_000 + "1]", "t:2: more than 100000 keys and values"),
    ],
)
def test_refused_at_the_line(text: str, expected: str) -> None:
    with pytest.raises(Unreadable) as caught:
        parse(text, "t")
    assert str(caught.value).startswith(expected), str(caught.value)


def test_an_alias_bomb_is_refused_at_once() -> None:
    rows = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    start = time.monotonic()
    with pytest.raises(Unreadable, match="t:1: anchors"):
        parse("\n".join(rows), "t")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xef\xbb\xbfschema: 1", ":1: starts with a byte order mark"),
        ("schema: 1\nname: é".encode("latin-1"), ":2: byte 0xe9 is not UTF-8"),
        ("schema: 1".encode("utf-16"), ":1: byte 0xff is not UTF-8"),
        (b"# " + b"x" * (1 << 20), ": is larger than 1048576 bytes"),
    ],
)
def test_files_that_are_not_scenarios(tmp_path: Path, data: bytes, expected: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_bytes(data)
    with pytest.raises(Unreadable) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}{expected}")


@pytest.mark.parametrize("text", ["", "# nothing\n", "[1, 2]", "schema", "- a: 1"])
def test_a_scenario_is_a_mapping(tmp_path: Path, text: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(ScenarioErrors, match="a scenario is a mapping"):
        load(file)


def test_a_folder_is_not_a_scenario(tmp_path: Path) -> None:
    with pytest.raises(ScenarioErrors, match="is a folder; give a scenario file"):
        load(tmp_path)


@given(st.binary(max_size=200) | st.text("ab:-{}[]&*!'\"\n\t #|>%@,?<1.e", max_size=60).map(str.encode))
def test_any_bytes_give_errors_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    file.write_bytes(data)
    with pytest.raises(ScenarioErrors) as caught:
        load(file)
    assert all(error.startswith(f"{file}") for error in caught.value.errors)
