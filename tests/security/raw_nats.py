"""A NATS client of bytes: it sends what no library would, and hears every refusal."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.conftest import Broker

WAIT_S = 15.0


class Refused(Exception):
    """The server ended the connection, with its reason."""


class RawNats:
    """A connection to the broker. `messages` is everything it heard: (subject, reply, header block, body)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._next_sid = 0
        self.messages: list[tuple[str, str, bytes, bytes]] = []

    async def publish(
        self, subject: str | bytes, body: bytes = b"", *, reply: str = "", headers: bytes = b"", block: bytes = b""
    ) -> str:
        """Publish; the server's refusal, empty where it took it. `headers` is the block after its first line, `block`
        the whole one, as it is sent."""
        target = (subject if isinstance(subject, bytes) else subject.encode()) + (
            b" " + reply.encode() if reply else b""
        )
        if headers:
            block = b"NATS/1.0\r\n" + headers + b"\r\n"
        if block:
            return await self._tell(b"HPUB %s %d %d\r\n" % (target, len(block), len(block) + len(body)), block + body)
        return await self._tell(b"PUB %s %d\r\n" % (target, len(body)), body)

    async def subscribe(self, subject: str, queue: str = "") -> str:
        """Subscribe; the server's refusal, empty where it took it."""
        self._next_sid += 1
        return await self._tell(b"SUB %s %d\r\n" % (f"{subject} {queue}".strip().encode(), self._next_sid))

    async def hear(self) -> tuple[str, str, bytes, bytes]:
        """The next message, of those that came already or that come."""
        while not self.messages:
            await self._step()
        return self.messages.pop(0)

    async def flush(self) -> str:
        """A round trip: everything sent so far was taken or refused. The refusals."""
        self._writer.write(b"PING\r\n")
        refusals: list[str] = []
        while (answer := await self._step()) != "PONG":
            if answer.startswith("-ERR"):
                refusals.append(answer)
        return "; ".join(refusals)

    async def _tell(self, head: bytes, body: bytes | None = None) -> str:
        self._writer.write(head if body is None else head + body + b"\r\n")
        return await self.flush()

    async def _step(self) -> str:
        """Read one thing of the server. Raises Refused where it ended the connection."""
        async with asyncio.timeout(WAIT_S):
            line = await self._line()
            if not line.startswith((b"MSG ", b"HMSG ")):
                if line.startswith(b"PING"):
                    self._writer.write(b"PONG\r\n")
                return line.decode(errors="replace").strip()
            await self._take(line)
            return "MSG"

    async def _line(self) -> bytes:
        try:
            line = await self._reader.readline()
        except ConnectionResetError:
            line = b""
        if not line:
            raise Refused("the server closed the connection")
        return line

    async def _take(self, line: bytes) -> None:
        verb, subject, _sid, *rest = line.rstrip(b"\r\n").split(b" ")
        lengths = 2 if verb == b"HMSG" else 1
        sizes = [int(size) for size in rest[-lengths:]]
        reply = rest[0].decode() if len(rest) > lengths else ""
        whole = (await self._reader.readexactly(sizes[-1] + 2))[:-2]
        head = sizes[0] if verb == b"HMSG" else 0
        self.messages.append((subject.decode(errors="replace"), reply, whole[:head], whole[head:]))


@asynccontextmanager
async def raw_nats(server: Broker, user: str, password: str | None = None) -> AsyncIterator[RawNats]:
    """Connect as `user`, by default with its own password. Raises Refused if the server refuses."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    try:
        options = {"verbose": False, "pedantic": False, "headers": True, "lang": "raw", "version": "1", "protocol": 1}
        if user:
            options |= {"user": user, "pass": server.passwords[user] if password is None else password}
        await reader.readline()
        writer.write(b"CONNECT %s\r\n" % json.dumps(options).encode())
        client = RawNats(reader, writer)
        if refusals := await client.flush():
            raise Refused(refusals)
        yield client
    finally:
        writer.close()
