"""What a servicer with a message type of its own sees of bytes that are no message, and what its peer is told.

python docs/decisions/measured/bad_bytes.py
"""

import asyncio
import sys
from typing import Any

import grpc

from protos import LIVE
from protos import edge_pb2 as pb

SERVICE, METHOD = LIVE[1:].split("/")


async def _live(_: Any, context: Any) -> None:
    sys.stdout.write("the servicer is called\n")
    try:
        sys.stdout.write(f"the servicer reads {await context.read()!r}\n")
    except BaseException as error:
        sys.stdout.write(f"the servicer sees {type(error).__name__}: {error}\n")
        raise


async def _main() -> None:
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(_live, request_deserializer=pb.UserMessage.FromString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.stream_stream(LIVE)()
        await call.write(b"\xff\xff")
        sys.stdout.write(f"the peer is told {(await call.code()).name}: {await call.details()}\n")
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_main())
