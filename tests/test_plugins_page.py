"""docs/plugins.md has every kind of part with its protocol, and the protocol says what it must."""

import importlib
import re
from pathlib import Path

import pytest

from sim.new import KINDS
from test_docs import rows

ROOT = Path(__file__).parent.parent
TABLE = rows((ROOT / "docs/plugins.md").read_text(encoding="utf-8"))


def test_it_has_every_kind() -> None:
    assert sorted(row[0].strip("`") for row in TABLE) == sorted(KINDS)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_its_protocol_is_there_and_says_how_yours_is_called(row: list[str]) -> None:
    name, file = re.fullmatch(r"`(\w+)` in `([\w/]+)\.py`", row[2]).groups()  # type: ignore[union-attr]
    protocol = getattr(importlib.import_module(file.replace("/", ".")), name)
    assert protocol._is_protocol
    said = " ".join(protocol.__doc__.split())
    assert "called with" in said
    assert "`args`" in said or "args" in said
    side = "user_client" if row[4] == "user" else "edge_server"
    assert file.startswith(side)
