"""Bytes of a message inside another one."""

from google.protobuf.message import Message


def field_size(message: Message) -> int:
    """Bytes of `message` as a field with a number below 16: its tag, its length, and itself."""
    size = message.ByteSize()
    return 1 + max(1, -(-size.bit_length() // 7)) + size
