"""The generated files are those of the protocol as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import protos
from protos import edge_pb2 as pb

PROTOS = Path(protos.__file__).parent


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, "protos/edge.proto", "protos/reception.proto"], cwd=PROTOS.parent, check=True)
    for name in ("edge_pb2.py", "edge_pb2.pyi", "reception_pb2.py", "reception_pb2.pyi"):
        assert (tmp_path / "protos" / name).read_text() == (PROTOS / name).read_text(), "run `make protos`"


def test_every_field_is_commented_or_named_by_its_type() -> None:
    """Shapes and units belong beside the field; `key`, `next` and the members of `oneof` say it by their name."""
    bare = []
    for line in (PROTOS / "edge.proto").read_text().splitlines():
        field = re.match(r"\s+(?:optional |repeated )?([\w.]+) (\w+) = \d+;(.*)", line)
        if field and field[1] not in ("Key", "Next", "Ask") and not field[3].strip().startswith("//"):
            bare.append(field[2])
    kinds = {*pb.UserMessage.DESCRIPTOR.fields_by_name, *pb.EdgeMessage.DESCRIPTOR.fields_by_name}
    kinds |= {*pb.Codings.DESCRIPTOR.fields_by_name}
    assert [name for name in bare if name not in kinds] == ["code", "round"]
