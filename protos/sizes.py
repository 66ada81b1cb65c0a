"""Bytes of a message inside another one."""

from google.protobuf.message import Message

RIDING = 4096
"""Bytes of features, at most, that go in one message with feedback: for larger ones the edge need not wait."""


def field_size(message: Message) -> int:
    """Bytes of `message` as a field with a number below 16: its tag, its length, and itself."""
    size = message.ByteSize()
    return 1 + max(1, -(-size.bit_length() // 7)) + size
