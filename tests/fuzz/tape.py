"""Bytes as a program: what a fuzzer makes up is read as numbers and pieces."""

_LONGEST = 400
"""Characters of a reason."""


class Tape:
    """Reads `data` from its start; past its end come zeros and nothing."""

    def __init__(self, data: bytes):
        self._data, self._at = data, 0

    @property
    def over(self) -> bool:
        """Everything was read."""
        return self._at >= len(self._data)

    def number(self, below: int = 256) -> int:
        """The next byte, as a number in [0, below)."""
        return (self.piece(1) or b"\0")[0] % below

    def piece(self, length: int) -> bytes:
        """The next bytes, fewer at the end."""
        piece = self._data[self._at : self._at + length]
        self._at += length
        return piece

    def rest(self) -> bytes:
        """All that is left."""
        return self.piece(len(self._data))

    def spoiled(self, honest: bytes) -> bytes:
        """`honest` with some bytes written over, cut out or put in."""
        spoiled = bytearray(honest)
        for _ in range(1 + self.number(3)):
            at = (self.number() | self.number() << 8) % (len(spoiled) + 1)
            spoiled[at : at + self.number(4)] = self.piece(self.number(5))
        return bytes(spoiled)


def require_one_line(error: Exception) -> None:
    """What a refusal says is short, whatever was refused."""
    assert "\n" not in str(error)
    assert len(str(error)) < _LONGEST
