"""A load balancer without sticky sessions: each connection goes to the next gateway that accepts it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Front:
    """Passes bytes on to the ports of gateways on loopback.

    `left_out` are the gateways that get no new connection, as if their health check failed.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._turns = count()
        self._writers: set[asyncio.StreamWriter] = set()
        self._swallowed: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.left_out: set[int] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Front"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def swallow(self) -> None:
        """Lose all bytes of the connections that are there, in both directions, and close none of them."""
        self._swallowed |= self._writers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            far = await self._reach()
            if far is None:
                writer.transport.abort()
                return
            far_reader, far_writer = far
            both = {writer, far_writer}
            self._writers |= both
            try:
                await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
            finally:
                self._writers -= both
                self._swallowed -= both
        finally:
            self._serving.discard(task)

    async def _reach(self) -> Ends | None:
        """Connect to the next gateway that accepts a connection, if any does."""
        first = next(self._turns)
        for number in range(len(self._ports)):
            gateway = (first + number) % len(self._ports)
            if gateway not in self.left_out:
                with suppress(OSError):
                    return await asyncio.open_connection("127.0.0.1", self._ports[gateway])
        return None

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65536):
                if writer in self._swallowed:
                    continue
                writer.write(chunk)
                await writer.drain()
        if writer not in self._swallowed:
            writer.close()
