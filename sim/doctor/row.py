"""What a check says."""

from typing import Literal, NamedTuple

Standing = Literal["ok", "note", "trouble"]


class Row(NamedTuple):
    """One check. trouble: some run fails here. note: it works, but not as well, or not everything does."""

    name: str
    standing: Standing
    found: str
    advice: str = ""


def size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
