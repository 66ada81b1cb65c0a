"""What a user shows the edge: nothing, a token on every stream, or a certificate when it connects."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import grpc

from protos import AUTHORIZATION, BEARER

Options = list[tuple[str, Any]]


class Channel(Protocol):
    """A connection on which streams can be opened."""

    def stream_stream(self, method: str) -> Any:
        """What opens a stream of `method` when it is called."""
        ...

    async def close(self, grace: float | None) -> None:
        """Ends every stream at once, without a grace."""
        ...


class Credentials(Protocol):
    """Opens channels that show them."""

    def channel(self, address: str, options: Options) -> Channel:
        """A channel to host:port."""
        ...


@dataclass(frozen=True)
class Nothing:
    """Plain text, and no word about who one is."""

    def channel(self, address: str, options: Options) -> Channel:
        """An open channel."""
        channel: Any = grpc.aio.insecure_channel(address, options=options)
        return channel  # type: ignore[no-any-return]  # stubs want serializers


NOTHING = Nothing()


@dataclass(frozen=True)
class Token:
    """Plain text, and on every stream a token."""

    token: str = field(repr=False)

    def channel(self, address: str, options: Options) -> Channel:
        """A channel whose streams say the token."""
        return _Saying(NOTHING.channel(address, options), ((AUTHORIZATION, BEARER + self.token),))


class _Saying:
    def __init__(self, channel: Channel, metadata: tuple[tuple[str, str], ...]):
        self._channel, self._metadata = channel, metadata

    def stream_stream(self, method: str) -> Any:
        return partial(self._channel.stream_stream(method), metadata=self._metadata)

    async def close(self, grace: float | None) -> None:
        await self._channel.close(grace)


@dataclass(frozen=True)
class Certificate:
    """TLS, with a certificate that names whom one speaks for; the edge must have one of `authority` for its address.

    authority, chain, key: PEM.
    """

    authority: str
    chain: str
    key: str = field(repr=False)

    def channel(self, address: str, options: Options) -> Channel:
        """A channel with TLS on both sides."""
        shown = grpc.ssl_channel_credentials(self.authority.encode(), self.key.encode(), self.chain.encode())
        channel: Any = grpc.aio.secure_channel(address, shown, options=options)
        return channel  # type: ignore[no-any-return]  # stubs want serializers
