"""Every way into a gateway behind one interface, so that one table of cases runs on all of them.

A `Way` opens a `Visitor`: a client in its rooms. Ways say the same in different words, so each has a table `says`: what
a client sees for each of our error codes (a close code, a status of HTTP, or the packet of Socket.IO).
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args
from urllib.parse import urlencode

import aiohttp
import msgspec

from beaconfire_gateway.wire.messages import Message
from beaconfire_gateway.wire.msgpack import SUBPROTOCOL as MSGPACK_SUBPROTOCOL
from beaconfire_gateway.wire.native import BATCHING_SUBPROTOCOL, SUBPROTOCOL
from tests.event_streams import Parser

WAIT_S = 20.0
GOODBYE_S = 2.0
ROOM = "campaign:c1"
SOCKETIO = "/socket.io/"
CONNECT_ERROR = "connect_error"
CLOSED = "closed"
Said = int | str


class Refused(Exception):
    """The gateway did not let a client in, or put it out. `said` is how this way says so."""

    def __init__(self, said: Said, error: Mapping[str, Any]) -> None:
        super().__init__(f"{said}: {error}")
        self.said = said
        self.error = error


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client was sent. `kind` is its name in the native protocol, and `cursor` is the client's after it."""

    kind: str
    body: Mapping[str, Any]
    cursor: str


class Visitor(ABC):
    """A client that is in. It reads only while something is asked of it."""

    def __init__(self) -> None:
        self.cursor = ""
        self.ack: Mapping[str, Any] = {}
        self._unread: list[Heard] = []

    async def start(self) -> None:
        """Wait for the ack. Raises Refused."""
        self.ack = (await self.next("connection.ack")).body

    async def next(self, kind: str = "event") -> Heard:
        """The next message of a kind; others are passed over. Raises Refused if the gateway ends the connection."""
        return await self.find(lambda heard: heard.kind == kind)

    async def find(self, is_wanted: Callable[[Heard], bool]) -> Heard:
        """The next message that is wanted; see `next`."""
        async with asyncio.timeout(WAIT_S):
            while True:
                while self._unread:
                    heard = self._unread.pop(0)
                    self.cursor = heard.cursor or self.cursor
                    if heard.kind == "connection.ack":
                        self.ack = heard.body
                    if is_wanted(heard):
                        return heard
                self._unread += await self._read()

    async def settlements(self, count: int) -> list[str]:
        """The settlements of the next `count` events."""
        return [(await self.next()).body["payload"]["settlementId"] for _ in range(count)]

    async def ended(self) -> Said:
        """Wait until the gateway ends the connection, and return how it says so."""
        try:
            while True:
                await self.next("nothing of this kind")
        except Refused as end:
            return end.said

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Let the client read in the background, so that it answers pings. Only this may read meanwhile."""

        async def read() -> None:
            while True:
                self._unread += await self._read()

        task = asyncio.create_task(read())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @abstractmethod
    async def _read(self) -> list[Heard]:
        """Wait for what comes next. Raises Refused."""

    @abstractmethod
    async def send(self, data: str) -> None:
        """Send a message as it is."""


@dataclass(frozen=True, slots=True)
class Over:
    """What carries a way."""

    speaks: bool = True
    """Its clients send messages on an open connection."""
    crosses_origins: bool = False
    """A browser asks before a page of another origin may use it (CORS)."""
    takes_body: bool = False
    """Its first request may be a POST."""
    stays: bool = True
    """Its session lasts while its client does nothing."""
    name: str = "websocket"
    """What operators know it by."""


SOCKET = Over()
POLLED = Over(name="polling", crosses_origins=True)
OVER_HTTP = Over(name="sse", speaks=False, crosses_origins=True, takes_body=True)
OVER_POLLS = Over(name="poll", speaks=False, crosses_origins=True, takes_body=True, stays=False)


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client says to come in."""

    url: str
    token: str
    rooms: Sequence[str]
    cursor: str | None
    types: Sequence[str] | None
    headers: Mapping[str, str]
    presence: bool
    status: str | None

    @property
    def fields(self) -> dict[str, Any]:
        """In JSON, as the native `connect` and Socket.IO's `auth` have it."""
        fields: dict[str, Any] = {"token": self.token, "rooms": list(self.rooms)}
        fields |= {} if self.cursor is None else {"cursor": self.cursor}
        fields |= {} if self.types is None else {"types": dict.fromkeys(self.rooms, tuple(self.types))}
        fields |= {} if self.status is None else {"status": self.status}
        return fields | ({"presence": True} if self.presence else {})

    @property
    def query(self) -> dict[str, str]:
        """In an address, without token and cursor."""
        query = {"rooms": ",".join(self.rooms)}
        query |= {} if self.types is None else {"types": ",".join(self.types)}
        query |= {} if self.status is None else {"status": self.status}
        return query | ({"presence": "true"} if self.presence else {})

    @property
    def authorized(self) -> dict[str, str]:
        """The headers, with the token."""
        return {**self.headers, **({"Authorization": f"Bearer {self.token}"} if self.token else {})}


@dataclass(frozen=True)
class Way(ABC):
    """A way in."""

    dialect: ClassVar[str] = "beaconfire.v1"
    """What operators know its clients' protocol by."""

    name: str
    transport: str = "handover"
    """The gateway's setting."""
    path: str = "/ws"
    query: Mapping[str, str] = field(default_factory=dict)
    """The query of its first request."""
    over: Over = SOCKET
    presence: bool = False
    """Its clients ask who is in their rooms."""
    says: Mapping[str, Said] = field(default_factory=dict)
    """How it refuses a client, by our error code."""
    ends: Mapping[str, Said] = field(default_factory=dict)
    """How it ends a connection that was open."""

    def __str__(self) -> str:
        return self.name

    def open(
        self,
        url: str,
        token: str,
        rooms: Sequence[str] = (ROOM,),
        *,
        cursor: str | None = None,
        types: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
        status: str | None = None,
    ) -> AbstractAsyncContextManager[Visitor]:
        """Connect and join. The visitor has its ack, and a cursor. Raises Refused."""
        return self._open(Hello(url, token, rooms, cursor, types, headers or {}, self.presence, status))

    @abstractmethod
    def _open(self, hello: Hello) -> AbstractAsyncContextManager[Visitor]: ...

    def ping(self, number: int, name: str = "ping") -> str:
        """A message that asks for an answer, or one of this name."""
        raise NotImplementedError

    def padded(self, size: int) -> str:
        """A valid message of at least so many bytes."""
        raise NotImplementedError


# WebSockets.


class SocketVisitor(Visitor):
    """A client on a WebSocket. `_heard` reads a message."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__()
        self._socket = socket

    async def send(self, data: str) -> None:
        await self._socket.send_str(data)

    async def _read(self) -> list[Heard]:
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return await self._heard(message.data)
        raise Refused(self._socket.close_code or 0, {"message": message.extra})

    @abstractmethod
    async def _heard(self, text: str) -> list[Heard]: ...


@asynccontextmanager
async def websocket(
    url: str, path: str, headers: Mapping[str, str], *subprotocols: str, **query: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Open a WebSocket. Raises Refused with the status of HTTP."""
    address = f"{url}{path}" + (f"?{urlencode(query)}" if query else "")
    async with aiohttp.ClientSession() as http:
        try:
            socket = await http.ws_connect(
                address, protocols=subprotocols, headers=headers, max_msg_size=0, autoping=True
            )
        except aiohttp.WSServerHandshakeError as error:
            raise Refused(error.status, {"message": error.message}) from None
        try:
            yield socket
        finally:
            await socket.close()


class NativeVisitor(SocketVisitor):
    """`beaconfire.v1`."""

    async def _heard(self, text: str) -> list[Heard]:
        frame = json.loads(text)
        frames = frame["events"] if frame["type"] == "events" else [frame]
        return [native_heard(one, self.cursor.partition(":")[0]) for one in frames]


def native_heard(message: Mapping[str, Any], epoch: str) -> Heard:
    """Read a message of the native protocol. An event has its offset in this epoch."""
    at = f"{epoch}:{message['offset']}" if "offset" in message else message.get("cursor", "")
    return Heard(message["type"], message.get("event", message), at)


class Native(Way):
    subprotocol = SUBPROTOCOL
    makes_visitor: ClassVar[type[SocketVisitor]] = NativeVisitor

    @asynccontextmanager
    async def _open(self, hello: Hello) -> AsyncIterator[Visitor]:
        async with websocket(hello.url, self.path, hello.headers, self.subprotocol) as socket:
            visitor = self.makes_visitor(socket)
            await visitor.send(json.dumps({"type": "connect", "id": 1, **hello.fields}))
            await visitor.start()
            yield visitor

    def ping(self, number: int, name: str = "ping") -> str:
        return json.dumps({"type": name, "id": number})

    def padded(self, size: int) -> str:
        return json.dumps({"type": "ping", "id": 1, "padding": "x" * size})


class NativeInBatches(Native):
    """The events of one moment come as one message."""

    subprotocol = BATCHING_SUBPROTOCOL


class MsgpackVisitor(NativeVisitor):
    """`beaconfire.v1.msgpack`. What it sends is given in JSON, as that of the others."""

    async def send(self, data: str) -> None:
        await self._socket.send_bytes(msgspec.msgpack.encode(json.loads(data)))

    async def _read(self) -> list[Heard]:
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise Refused(self._socket.close_code or 0, {"message": message.extra})
        return [native_heard(msgspec.msgpack.decode(message.data), self.cursor.partition(":")[0])]


class Msgpack(Native):
    dialect = "beaconfire.v1.msgpack"
    subprotocol = MSGPACK_SUBPROTOCOL
    makes_visitor = MsgpackVisitor


# The plain protocol.


class PlainVisitor(SocketVisitor):
    """`{type, payload, timestamp, userId}`, with our cursor beside them."""

    async def _heard(self, text: str) -> list[Heard]:
        message = json.loads(text)
        cursor = message.get("cursor", "")
        if message["type"] in _GATEWAYS_OWN:
            return [Heard(message["type"], message["payload"], cursor)]
        return [Heard("event", message, cursor)]


_GATEWAYS_OWN = frozenset(one.TYPE for one in get_args(Message)) | {"pong", "subscribe.ack", "unsubscribe.ack"}


class Plain(Way):
    dialect = "plain"

    @asynccontextmanager
    async def _open(self, hello: Hello) -> AsyncIterator[Visitor]:
        query = {**hello.query, "token": hello.token, "cursor": hello.cursor or ""}
        async with websocket(hello.url, self.path, hello.headers, **query) as socket:
            visitor = PlainVisitor(socket)
            await visitor.start()
            yield visitor

    def ping(self, number: int, name: str = "ping") -> str:
        return json.dumps({"type": name, "id": number})

    def padded(self, size: int) -> str:
        return json.dumps({"type": "ping", "payload": "x" * size})


# Server-sent events.


class StreamVisitor(Visitor):
    """A client of `/sse`. What it sends goes to `url`, in a request of its own."""

    def __init__(self, http: aiohttp.ClientSession, url: str, answer: aiohttp.ClientResponse) -> None:
        super().__init__()
        self._http = http
        self._url = url
        self._answer = answer
        self._parser = Parser()

    async def send(self, data: str) -> None:
        body = {"sessionId": self.ack["sessionId"], "messages": [json.loads(data)]}
        async with self._http.post(self._url, json=body) as answer:
            if answer.status != 202:
                raise Refused(answer.status, await error_of(answer))

    async def _read(self) -> list[Heard]:
        data = await self._answer.content.readany()
        if not data:
            raise Refused(0, {"message": "the answer has ended"})
        heard = []
        for event in self._parser.feed(data):
            body = event.json
            if event.name == "close":
                raise Refused(body["code"], body)
            kind = "event" if event.name == "message" else event.name
            heard.append(Heard(kind, body.get("event", body), event.id))
        return heard


class EventStream(Way):
    @asynccontextmanager
    async def _open(self, hello: Hello) -> AsyncIterator[Visitor]:
        at = {} if hello.cursor is None else {"Last-Event-ID": hello.cursor}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), headers=hello.authorized) as http,
            http.get(f"{hello.url}{self.path}", params=hello.query, headers=at) as answer,
        ):
            if answer.status != 200:
                raise Refused(answer.status, await error_of(answer))
            visitor = StreamVisitor(http, f"{hello.url}{self.path}/messages", answer)
            await visitor.start()
            yield visitor


# Long polls.


class PollVisitor(Visitor):
    """A client of `/poll`. It has no session between two polls."""

    def __init__(self, http: aiohttp.ClientSession, url: str, query: Mapping[str, str]) -> None:
        super().__init__()
        self._http = http
        self._url = url
        self._query = dict(query)

    async def send(self, data: str) -> None:
        """Poll once, with a message."""
        rooms = self._query["rooms"].split(",")
        body = {"rooms": rooms, "cursor": self._query["cursor"], "waitS": 0, "messages": [json.loads(data)]}
        self._unread += await self._poll(self._http.post(self._url, json=body))

    async def _read(self) -> list[Heard]:
        return await self._poll(self._http.get(self._url, params=self._query))

    async def _poll(self, request: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> list[Heard]:
        try:
            async with request as answer:
                if answer.status == 503:
                    raise Refused(CLOSED, {})
                if answer.status != 200:
                    raise Refused(answer.status, await error_of(answer))
                body = await answer.json()
        except aiohttp.ClientConnectionError:  # the process has ended
            raise Refused(CLOSED, {}) from None
        self._query["cursor"] = body["cursor"]
        epoch = body["cursor"].partition(":")[0]
        heard = [native_heard(one, epoch) for one in body["messages"]]
        return [*heard, Heard("position", {}, body["cursor"])]


class Poll(Way):
    @asynccontextmanager
    async def _open(self, hello: Hello) -> AsyncIterator[Visitor]:
        query = hello.query | ({} if hello.cursor is None else {"cursor": hello.cursor})
        async with aiohttp.ClientSession(headers=hello.authorized) as http:
            visitor = PollVisitor(http, f"{hello.url}{self.path}", query)
            await visitor.start()
            if hello.cursor is None:
                await visitor.next("position")
            yield visitor


async def error_of(answer: aiohttp.ClientResponse) -> Mapping[str, Any]:
    """The error in an answer, which is ours or aiohttp's own text. With the time to retry, if the head has one."""
    text = await answer.text()
    try:
        error = json.loads(text).get("error", {})
    except ValueError:
        error = {"message": text}
    after = answer.headers.get("Retry-After")
    return {**error, **({} if after is None else {"retryAfter": after})}


# Socket.IO.


def socketio_heard(packet: str) -> Heard:
    """Read a packet of the main namespace, as `socket.io-client` does. Raises Refused for a refusal."""
    if packet.startswith("44"):
        said = json.loads(packet[2:])
        raise Refused(CONNECT_ERROR, {"message": said["message"], **said.get("data", {})})
    if packet.startswith("41"):
        raise Refused("disconnect", {})
    if packet.startswith("43"):
        return Heard("reply", json.loads(packet[packet.index("[") :])[0], "")
    name, *arguments = json.loads(packet[2:])
    cursor = arguments[-1] if isinstance(arguments[-1], str) else ""
    if name.startswith("beaconfire:"):
        kind = name.removeprefix("beaconfire:")
        return Heard("connection.ack" if kind == "ack" else kind, arguments[0], cursor)
    return Heard("event", {"type": name, "payload": arguments[0]}, cursor)


class SocketIOVisitor(SocketVisitor):
    """Engine.IO over a WebSocket."""

    async def _heard(self, text: str) -> list[Heard]:
        if text == "2":
            await self.send("3")
        return [socketio_heard(text)] if text.startswith("4") and not text.startswith("40") else []


class SocketIO(Way):
    dialect = "socketio"

    @asynccontextmanager
    async def _open(self, hello: Hello) -> AsyncIterator[Visitor]:
        async with websocket(hello.url, self.path, hello.headers, **self.query) as socket:
            visitor = SocketIOVisitor(socket)
            await visitor.send(f"40{json.dumps(hello.fields)}")
            await visitor.start()
            yield visitor

    def ping(self, number: int, name: str = "ping") -> str:
        return f'42{number}["{name}"]'

    def padded(self, size: int) -> str:
        return f'421["ping",{{"padding":"{"x" * size}"}}]'


class PollingVisitor(Visitor):
    """Engine.IO over polling."""

    def __init__(self, http: aiohttp.ClientSession, url: str, query: Mapping[str, str]) -> None:
        super().__init__()
        self._http = http
        self._url = url
        self._query = dict(query)
        self._is_over = False

    async def open(self) -> None:
        """Begin an Engine.IO connection."""
        async with self._http.get(self._url, params=self._query) as answer:
            if answer.status != 200:
                raise Refused(answer.status, await error_of(answer))
            self._query["sid"] = json.loads((await answer.text())[1:])["sid"]

    async def send(self, data: str) -> None:
        async with self._http.post(self._url, params=self._query, data=data.encode()) as answer:
            await self._check(answer)

    async def _read(self) -> list[Heard]:
        if self._is_over:
            raise Refused(CLOSED, {})
        async with self._http.get(self._url, params=self._query) as answer:
            await self._check(answer)
            packets = (await answer.text()).split("\x1e")
        self._is_over = "1" in packets
        if "2" in packets:
            await self.send("3")
        return [socketio_heard(one) for one in packets if one.startswith("4") and not one.startswith("40")]

    async def _check(self, answer: aiohttp.ClientResponse) -> None:
        """A connection that is over is unknown. A client that polls when it ends gets the packet 1 instead."""
        if answer.status == 400 and "Session ID unknown" in await answer.text():
            raise Refused(CLOSED, {})
        if answer.status != 200:
            raise Refused(answer.status, await error_of(answer))


class SocketIOPolling(SocketIO):
    @asynccontextmanager
    async def _open(self, hello: Hello) -> AsyncIterator[Visitor]:
        text = {"Content-Type": "text/plain;charset=UTF-8"}
        async with aiohttp.ClientSession(headers={**hello.headers, **text}) as http:
            visitor = PollingVisitor(http, f"{hello.url}{self.path}", self.query)
            await visitor.open()
            await visitor.send(f"40{json.dumps(hello.fields)}")
            await visitor.start()
            try:
                yield visitor
            finally:
                with suppress(
                    Refused, aiohttp.ClientError, TimeoutError
                ):  # it may be over, or the gateway gone or frozen
                    async with asyncio.timeout(GOODBYE_S):
                        await visitor.send("1")


CLOSES: Mapping[str, Said] = {"token_invalid": 4401, "too_many": 4429, "too_large": 4413, "unavailable": 4503}
BY_AIOHTTP: Mapping[str, Said] = {**CLOSES, "too_large": 1009}
"""aiohttp closes a socket with a message that is too large before we see it."""
STATUSES: Mapping[str, Said] = {"token_invalid": 401, "too_many": 429, "too_large": 413, "unavailable": 503}
ENGINE = {"EIO": "4", "transport": "websocket"}
POLLING = {"EIO": "4", "transport": "polling"}
POLLING_ENDS: Mapping[str, Said] = {**dict.fromkeys(CLOSES, CLOSED), "too_large": 413}


def _ways() -> Iterator[Way]:
    for transport, name, ends in (("handover", "", CLOSES), ("aiohttp", " on aiohttp", BY_AIOHTTP)):
        yield Native(f"native{name}", transport, says=CLOSES, ends=ends)
        yield NativeInBatches(f"native in batches{name}", transport, says=CLOSES, ends=ends)
        yield Msgpack(f"msgpack{name}", transport, says=CLOSES, ends=ends)
        plain_says, plain_ends = ({**one, "token_invalid": 1008} for one in (CLOSES, ends))
        yield Plain(f"plain{name}", transport, says=plain_says, ends=plain_ends)
        yield EventStream(f"sse{name}", transport, path="/sse", says=STATUSES, ends=CLOSES, over=OVER_HTTP)
        connect_errors = {**CLOSES, "token_invalid": CONNECT_ERROR}
        yield SocketIO(f"socketio{name}", transport, path=SOCKETIO, query=ENGINE, says=connect_errors, ends=ends)
    poll_ends = {**STATUSES, "unavailable": CLOSED}
    yield Poll("poll", path="/poll", says=STATUSES, ends=poll_ends, over=OVER_POLLS)
    polling_says = {**POLLING_ENDS, "token_invalid": CONNECT_ERROR}
    yield SocketIOPolling(
        "socketio over polling", path=SOCKETIO, query=POLLING, says=polling_says, ends=POLLING_ENDS, over=POLLED
    )


WAYS = list(_ways())
