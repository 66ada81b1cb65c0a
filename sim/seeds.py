"""One seed, many streams: each is dealt by name, so that adding one never moves another."""

from hashlib import blake2b


def stream_seed(seed: int, *names: str | int) -> int:
    """The seed of the stream that `names` (role, user, ...) pick: 63 bits, the same on every machine."""
    text = "/".join(str(name) for name in (seed, *names))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
