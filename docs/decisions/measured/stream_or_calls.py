"""Two exchanges of 1 KiB each way per user: on one bidirectional stream, or as two unary calls.

python docs/decisions/measured/stream_or_calls.py USERS
"""

import asyncio
import multiprocessing
import statistics
import sys
import time
from typing import Any

import grpc

PAYLOAD = bytes(1024)
SLOTS, BLOCKS = 200, 5


async def _serve(ready: Any) -> None:
    server = grpc.aio.server()

    async def once(request: bytes, _: Any) -> bytes:
        return request

    async def live(_: Any, context: Any) -> None:
        while isinstance(data := await context.read(), bytes):
            await context.write(data)

    handlers: dict[str, Any] = {
        "Once": grpc.unary_unary_rpc_method_handler(once),
        "Live": grpc.stream_stream_rpc_method_handler(live),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Measured", handlers),))
    ready.send(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await server.wait_for_termination()


def _server(ready: Any) -> None:
    asyncio.run(_serve(ready))


async def _by_stream(stream: Any) -> None:
    for _ in range(2):
        await stream.write(PAYLOAD)
        await stream.read()


async def _by_calls(call: Any) -> None:
    for _ in range(2):
        await call(PAYLOAD)


async def _measure(port: int, users: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/Measured/Once")
        streams = [channel.stream_stream("/Measured/Live")() for _ in range(users)]
        seconds: dict[str, list[float]] = {"stream": [], "calls": []}
        for _ in range(BLOCKS):
            for name, work in (("stream", lambda k: _by_stream(streams[k])), ("calls", lambda _: _by_calls(call))):
                for _ in range(SLOTS // users + 5):
                    started = time.perf_counter()
                    await asyncio.gather(*(work(k) for k in range(users)))
                    seconds[name].append((time.perf_counter() - started) / users)
        for name, values in seconds.items():
            sys.stdout.write(f"{users} users, {name}: {1e3 * statistics.median(values):.3f} ms per user and slot\n")
        for stream in streams:
            stream.cancel()


def main() -> None:
    """Server in a process of its own, all users on one event loop and one connection."""
    context = multiprocessing.get_context("spawn")
    ready, told = context.Pipe()
    process = context.Process(target=_server, args=(told,), daemon=True)
    process.start()
    asyncio.run(_measure(ready.recv(), int(sys.argv[1])))
    process.terminate()
    process.join()


if __name__ == "__main__":
    main()
