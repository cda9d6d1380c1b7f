"""Socket.IO clients for tests: unmodified ones from npm, and raw ones that send what no client library would."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from tests.javascript import install_from_lock, node

FOLDER = Path(__file__).parent
WAIT_S = 30.0


class Driver:
    """A process of Node that runs any number of clients."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._clients: dict[int, NpmClient] = {}
        self._numbers = count(1)

    def open(
        self,
        url: str,
        *,
        namespace: str = "",
        auth: dict[str, Any] | None = None,
        version: int = 4,
        transports: tuple[str, ...] = ("websocket",),
        **options: Any,
    ) -> "NpmClient":
        """Make a client, which connects at once. Its reconnection delays are short, unless options say otherwise."""
        number = next(self._numbers)
        client = self._clients[number] = NpmClient(self, number)
        quick = {"reconnectionDelay": 20, "reconnectionDelayMax": 200, "transports": transports}
        self.command(
            number, "open", url=url + namespace, version=version, auth=auth or {}, options={**quick, **options}
        )
        return client

    def command(self, client: int, do: str, **fields: Any) -> None:
        """Have a client do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"client": client, "do": do, **fields}).encode() + b"\n")

    async def read(self) -> None:
        """Give each line to its client, until the process ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            happened = json.loads(line)
            self._clients[happened.pop("client")].happened(happened)


class NpmClient:
    """One client of the `socket.io-client` package. `seen` is everything that happened to it, in order."""

    def __init__(self, driver: Driver, number: int) -> None:
        self._driver = driver
        self._number = number
        self._acks = count(1)
        self._arrived = asyncio.Event()
        self._read = 0
        self.seen: list[dict[str, Any]] = []

    def happened(self, what: dict[str, Any]) -> None:
        self.seen.append(what)
        self._arrived.set()

    async def next(self, got: str, **fields: Any) -> dict[str, Any]:
        """The next thing of this kind that happens, with these fields. Others are passed over."""
        async with asyncio.timeout(WAIT_S):
            while True:
                while self._read < len(self.seen):
                    what = self.seen[self._read]
                    self._read += 1
                    if what["got"] == got and fields.items() <= what.items():
                        return what
                self._arrived.clear()
                await self._arrived.wait()

    async def saw(self, got: str) -> dict[str, Any]:
        """The first thing of this kind, which may have happened before others that a test has waited for."""
        async with asyncio.timeout(WAIT_S):
            while (first := next((one for one in self.seen if one["got"] == got), None)) is None:
                self._arrived.clear()
                await self._arrived.wait()
        return first

    async def nth(self, got: str, number: int) -> dict[str, Any]:
        """The thing of this kind that happens after `number` others. Waits for as long as it takes."""
        while len(found := [one for one in self.seen if one["got"] == got]) <= number:
            self._arrived.clear()
            await self._arrived.wait()
        return found[number]

    async def event(self, name: str) -> list[Any]:
        """The arguments of the next event of this name."""
        arguments: list[Any] = (await self.next("event", name=name))["args"]
        return arguments

    def events(self, name: str) -> list[list[Any]]:
        """The arguments of all events of this name so far."""
        return [one["args"] for one in self.seen if one["got"] == "event" and one["name"] == name]

    async def all_events(self, name: str, count: int) -> list[list[Any]]:
        """The arguments of all events of this name, once there are at least so many."""
        async with asyncio.timeout(WAIT_S):
            while len(events := self.events(name)) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return events

    def emit(self, name: str, *args: Any) -> None:
        """Emit without an acknowledgement."""
        self._driver.command(self._number, "emit", name=name, args=args, ack=None)

    async def ask(self, name: str, *args: Any) -> Any:
        """Emit with an acknowledgement, and return its last argument: the only one, unless the client may time out."""
        ack = next(self._acks)
        self._driver.command(self._number, "emit", name=name, args=args, ack=ack)
        return await self._answer(ack)

    async def ask_binary(self, name: str, data: bytes) -> Any:
        """The same with a binary argument."""
        ack = next(self._acks)
        self._driver.command(self._number, "emitBinary", name=name, bytes=list(data), ack=ack)
        return await self._answer(ack)

    async def _answer(self, ack: int) -> Any:
        async with asyncio.timeout(WAIT_S):
            while True:
                for what in self.seen:
                    if what["got"] == "ack" and what["ack"] == ack:
                        return what["answer"][-1]
                self._arrived.clear()
                await self._arrived.wait()

    def use(self, **auth: Any) -> None:
        """What its `auth` function gives from the next connection on."""
        self._driver.command(self._number, "auth", auth=auth)

    def upgrade(self) -> None:
        """Try to go over to a WebSocket, with a client that has the option `upgrade=False`."""
        self._driver.command(self._number, "upgrade")

    def connect(self) -> None:
        self._driver.command(self._number, "connect")

    def disconnect(self) -> None:
        self._driver.command(self._number, "disconnect")

    def drop(self) -> None:
        """End its connection as a lost network does: it connects again by itself."""
        self._driver.command(self._number, "drop")


@asynccontextmanager
async def npm_clients() -> AsyncIterator[Driver]:
    """Run clients of the `socket.io-client` package."""
    await asyncio.to_thread(install_from_lock, FOLDER)
    process = await asyncio.create_subprocess_exec(
        node(),
        str(FOLDER / "driver.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=16_777_216,
    )
    driver = Driver(process)
    reading = asyncio.create_task(driver.read())
    try:
        yield driver
    finally:
        reading.cancel()
        if process.returncode is None:
            process.kill()
        await process.wait()


class RawClient:
    """A WebSocket to `/socket.io/` that hides nothing: it answers no ping by itself."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, *packets: str | bytes) -> None:
        """Send packets of text, and binary messages."""
        for packet in packets:
            if isinstance(packet, str):
                await self.socket.send_str(packet)
            else:
                await self.socket.send_bytes(packet)

    async def hear(self) -> str | bytes:
        """The next packet. Fails if the gateway closes."""
        message = await self.socket.receive(WAIT_S)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        heard: str | bytes = message.data
        return heard

    async def hear_that(self, start: str) -> str:
        """The next packet of text that starts so. Others are passed over."""
        while True:
            packet = await self.hear()
            if isinstance(packet, str) and packet.startswith(start):
                return packet

    def answer_pings(self) -> "asyncio.Task[None]":
        """Answer each ping until it is cancelled. What else comes is thrown away."""

        async def answer() -> None:
            while True:
                await self.hear_that("2")
                await self.say("3")

        return asyncio.create_task(answer())

    async def closed(self) -> int | None:
        """Wait for the end, and return the close code."""
        while not self.socket.closed:
            await self.socket.receive(WAIT_S)
        return self.socket.close_code


@asynccontextmanager
async def raw_client(
    url: str, query: str = "EIO=4&transport=websocket", *, path: str = "/socket.io/", **headers: str
) -> AsyncIterator[RawClient]:
    """Open a WebSocket to a gateway's door for Socket.IO clients."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}{path}?{query}", headers=headers, autoclose=True, max_msg_size=0) as socket,
    ):
        yield RawClient(socket)
