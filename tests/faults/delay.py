"""Hands on what comes to a port, a moment later: `delay.py SECONDS FROM:TO …`, run on the host."""

import asyncio
import functools
import sys


async def hand_on(seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Each piece is written so many seconds after it came, and pieces may be under way together."""
    loop = asyncio.get_running_loop()
    try:
        while data := await reader.read(65536):
            loop.call_later(seconds, writer.write, data)
    except OSError:
        pass
    loop.call_later(seconds, writer.close)


async def serve(
    seconds: float, port: int, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
) -> None:
    """One connection: both directions."""
    server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(hand_on(seconds, client_reader, server_writer), hand_on(seconds, server_reader, client_writer))


async def main(seconds: float, pairs: list[str]) -> None:
    """Listen until ended."""
    async with asyncio.TaskGroup() as group:
        for pair in pairs:
            here, there = map(int, pair.split(":"))
            server = await asyncio.start_server(functools.partial(serve, seconds, there), "127.0.0.1", here)
            group.create_task(server.serve_forever())


asyncio.run(main(float(sys.argv[1]), sys.argv[2:]))
