"""A TCP proxy that misbehaves on demand: real connections, real bytes lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import cycle


class Proxy:
    """Passes bytes on to a port on loopback. With several ports, connections go to each in turn, if it accepts them.

    `swallow` decides of each chunk from the client whether it is lost. While `flowing` is not set, chunks from the
    server are held back. While `refusing`, all connections are refused. `delay_s` is how long each chunk is kept.
    `rewrite` changes each chunk from the client. `port` 0 is a free one.
    """

    def __init__(
        self, *target_ports: int, port: int = 0, rewrite: Callable[[bytes], bytes] = lambda chunk: chunk
    ) -> None:
        self.send_to(*target_ports)
        self._rewrite = rewrite
        self.swallow: Callable[[bytes], bool] = lambda _chunk: False
        self.swallowed = asyncio.Event()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.refusing = False
        self.delay_s: Callable[[], float] = lambda: 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.port = port

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            self.flowing.set()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def send_to(self, *target_ports: int) -> None:
        """Have new connections go to these ports from now on."""
        self._targets = cycle(target_ports)
        self._target_count = len(target_ports)

    @property
    def is_used(self) -> bool:
        """Whether a client is connected through here."""
        return bool(self._writers)

    def cut(self) -> None:
        """Reset every connection that goes through here."""
        for writer in self._writers:
            writer.transport.abort()

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Reset every connection, and refuse new ones until the end of the block."""
        self.refusing = True
        self.cut()
        try:
            yield
        finally:
            self.refusing = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        for _ in range(self._target_count):
            with suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", next(self._targets))
                break
        else:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        both = {writer, far_writer}
        self._writers |= both
        try:
            await asyncio.gather(
                self._pass(reader, far_writer, is_from_client=True),
                self._pass(far_reader, writer, is_from_client=False),
            )
        finally:
            self._writers -= both
            self._serving.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_from_client: bool) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65536):
                if is_from_client and self.swallow(chunk):
                    self.swallowed.set()
                    continue
                if not is_from_client:
                    await self.flowing.wait()
                if delay_s := self.delay_s():
                    await asyncio.sleep(delay_s)
                writer.write(self._rewrite(chunk) if is_from_client else chunk)
                await writer.drain()
        writer.close()
