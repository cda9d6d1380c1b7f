"""Links over the network: a WebSocket, and its replacements over plain HTTP. Each runs until its end."""

import asyncio
import codecs
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import urljoin, urlsplit, urlunsplit

import aiohttp

from beaconfire_client.core.event_stream import EventStreamReader
from beaconfire_client.core.http_link import HttpLink, LinkEnded, Request
from beaconfire_client.core.protocol import BATCHING_SUBPROTOCOL, BROKE_OFF, SUBPROTOCOL, Frame, Message, read_frames
from beaconfire_client.core.sizes import encode
from beaconfire_client.core.ways import Way

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Far more than a gateway sends at once. It bounds what a broken one can make the client hold."""
CLOSE_S = 1.0
"""How long to wait for the answer to a close frame."""
_BUSY = frozenset({429, 503})
"""The statuses with which a gateway, or what is in front of it, says to come back later."""

Result = TypeVar("Result")


class Report(Protocol):
    """What a link tells the client."""

    def opened(self) -> None: ...
    async def received(self, frames: Sequence[Frame]) -> None: ...


@dataclass(frozen=True, slots=True)
class End:
    """How a link has ended: the close code, and its reason."""

    code: int = BROKE_OFF
    reason: str = ""


def websocket_address(url: str) -> str:
    """Return the address of the gateway's WebSockets. Raises ValueError if `url` is none of ws, wss, http and https.

    An address without a path gets `/ws`.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"url: expected an address such as 'wss://live.example/ws', got {url!r}")
    path = "/ws" if parts.path in ("", "/") else parts.path
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


class Carrier(ABC):
    """One link, from its opening to its end."""

    @abstractmethod
    def send(self, message: Message) -> None:
        """Send a message, as soon as the network takes it."""

    @abstractmethod
    async def run(self) -> End:
        """Open the link, and report what comes until it ends. Raises aiohttp.ClientError, OSError or TimeoutError."""


def carrier_of(way: Way, url: str, http: aiohttp.ClientSession, report: Report) -> Carrier:
    """Return a carrier that has not started."""
    if way == "websocket":
        return WebSocketCarrier(url, http, report)
    return HttpCarrier(way, url, http, report)


class WebSocketCarrier(Carrier):
    """A WebSocket. It answers the gateway's pings while it reads."""

    def __init__(self, url: str, http: aiohttp.ClientSession, report: Report) -> None:
        self._url = url
        self._http = http
        self._report = report
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()  # bounded by the core, which waits for answers

    def send(self, message: Message) -> None:
        self._outbox.put_nowait(message)

    async def run(self) -> End:
        try:
            async with self._http.ws_connect(
                self._url,
                protocols=[BATCHING_SUBPROTOCOL, SUBPROTOCOL],
                max_msg_size=MAX_MESSAGE_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
            ) as socket:
                self._report.opened()
                writing = asyncio.create_task(self._write(socket))
                try:
                    return await self._read(socket)
                finally:
                    writing.cancel()
                    await asyncio.gather(writing, return_exceptions=True)
        except aiohttp.WSServerHandshakeError as error:
            return await self._refused(error)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> End:
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                await self._report.received(read_frames(message.data))
            elif message.type is aiohttp.WSMsgType.CLOSE:
                return End(message.data or BROKE_OFF, message.extra or "")
            elif message.type is not aiohttp.WSMsgType.BINARY:
                return End(reason=str(message.data or "The connection broke off"))

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await socket.send_str(encode(await self._outbox.get()))

    async def _refused(self, error: aiohttp.WSServerHandshakeError) -> End:
        reason = f"HTTP {error.status} instead of a WebSocket"
        if error.status not in _BUSY:
            return End(reason=reason)  # this way may be blocked
        after = "" if error.headers is None else error.headers.get("Retry-After", "")
        if after.isdecimal():
            await self._report.received([{"type": "error", "retryAfterMs": int(after) * 1000}])
        return End(4000 + error.status, reason)


class HttpCarrier(Carrier):
    """Streams of server-sent events, or long polls."""

    def __init__(self, way: Literal["sse", "poll"], url: str, http: aiohttp.ClientSession, report: Report) -> None:
        self._url = url.replace("ws", "http", 1)
        self._http = http
        self._report = report
        self._link = HttpLink(way)
        self._has_connect = asyncio.Event()
        self._saying: set[asyncio.Task[None]] = set()
        """Messages on their way beside the stream."""
        self._is_stale = False
        """Whether something is to be sent since the request was made."""
        self._waiting: asyncio.Task[Any] | None = None
        """What may be given up for something that is to be sent."""

    def send(self, message: Message) -> None:
        request = self._link.beside(message)
        if request is not None:
            saying = asyncio.create_task(self._say(request, message))
            self._saying.add(saying)
            saying.add_done_callback(self._saying.discard)
        elif self._link.send(message):
            self._interrupt()
        self._has_connect.set()

    def _interrupt(self) -> None:
        self._is_stale = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def run(self) -> End:
        self._report.opened()  # there is nothing to open before the first message
        await self._has_connect.wait()
        try:
            while True:
                while frames := self._link.ready():
                    await self._report.received(frames)
                self._is_stale = False
                await self._ask(self._link.next_request())
        except LinkEnded as end:
            await self._report.received(list(self._link.last_words(end)))
            return End(end.code, end.reason)
        finally:
            for saying in self._saying:
                saying.cancel()
            await asyncio.gather(*self._saying, return_exceptions=True)

    async def _say(self, request: Request, message: Message) -> None:
        try:
            async with asyncio.timeout(request.timeout_s), await self._post(request) as response:
                is_taken = response.status == 202
        except (aiohttp.ClientError, OSError, TimeoutError):
            is_taken = False
        if not is_taken:
            self._link.went_wrong(message)
            self._interrupt()

    async def _ask(self, request: Request) -> None:
        # What is sent must be answered. Only a request that merely waits is given up.
        may_wait = "messages" not in request.body
        response = await self._or_interrupted(lambda: self._post(request), request.timeout_s, may_wait=may_wait)
        if response is None:
            return
        try:
            if response.status != 200:
                raise self._link.refused(response.status, await _error_in(response))
            if request.path == "sse":
                await self._listen(response, request.timeout_s)
            else:
                await self._take(response, request.timeout_s, may_wait=may_wait)
        finally:
            response.close()

    async def _take(self, response: aiohttp.ClientResponse, timeout_s: float, *, may_wait: bool) -> None:
        answer = await self._or_interrupted(response.json, timeout_s, may_wait=may_wait)
        if answer is None:
            return
        frames, end = self._link.polled(answer)
        await self._report.received(frames)
        if end is not None:
            raise end

    async def _listen(self, response: aiohttp.ClientResponse, silence_s: float) -> None:
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise LinkEnded(BROKE_OFF, "The answer is no event stream")
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        events = EventStreamReader()
        while (piece := await self._or_interrupted(response.content.readany, silence_s)) is not None:
            if not piece:
                raise LinkEnded(BROKE_OFF, "The stream has ended")
            for event in events.read(decoder.decode(piece)):
                await self._report.received(self._link.heard(event))

    async def _post(self, request: Request) -> aiohttp.ClientResponse:
        return await self._http.post(
            urljoin(self._url, request.path),
            data=encode(request.body),
            headers={"Authorization": f"Bearer {self._link.token}", "Content-Type": "application/json"},
        )

    async def _or_interrupted(
        self, ask: Callable[[], Awaitable[Result]], timeout_s: float, *, may_wait: bool = True
    ) -> Result | None:
        """Await what `ask` returns, at most for so long. Returns None if it was given up to send something.

        Only the network is interrupted, never the handling of what came: that would lose events.
        """
        if may_wait and self._is_stale:
            return None
        task = asyncio.create_task(_within(ask, timeout_s))
        self._waiting = task if may_wait else None
        try:
            await asyncio.wait({task})
        finally:
            self._waiting = None
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        return None if task.cancelled() else task.result()


async def _within(ask: Callable[[], Awaitable[Result]], timeout_s: float) -> Result:
    async with asyncio.timeout(timeout_s):
        return await ask()


async def _error_in(response: aiohttp.ClientResponse) -> object:
    """The error that the answer to a refused request carries, or None."""
    try:
        async with asyncio.timeout(CLOSE_S):
            body = await response.json()
    except (aiohttp.ClientError, ValueError, TimeoutError):
        return None
    return body.get("error") if isinstance(body, dict) else None
