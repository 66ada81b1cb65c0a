"""JSON files of a run directory."""

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, content: dict[str, Any], *, in_order: bool = False) -> None:
    """Write a JSON file, whole or not at all. in_order: keys by name, so that two such files compare line by line."""
    partial = path.with_suffix(".tmp")
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=2, sort_keys=in_order, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
