"""One session over the streamed answer to an HTTP request, as server-sent events: what all of its carriers share.

The client has said everything with its request. So a transport gives the gateway a `connect` for it (`start`). Nothing
is written until the client is let in: a refusal is an answer with a status of its own.
"""

import random
import re
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiohttp import hdrs, web

from beaconfire_gateway.sessions.connection import farewell
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.sessions.sole_session import SoleSession
from beaconfire_gateway.sessions.timers import Call
from beaconfire_gateway.wire.event_stream import COMMENT, ServerSentEvents, close_event, retry
from beaconfire_gateway.wire.messages import Connect, GoAway, Message
from beaconfire_gateway.wire.native import Native
from beaconfire_gateway.wire.wire import Wire
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError, Retry
from beaconfire_kit.web import CORRELATION_HEADER, correlation_id, cross_origin_headers

CONTENT_TYPE = "text/event-stream"
HEARTBEAT_S = 15
"""HTML §9.2.7 advises a comment every 15 s or so, because many proxies end an answer that is silent for 30 s."""
RETRY_MS = (1_000, 3_000)
"""How long clients wait before they connect again. Each is sent another time, so that they do not all come at once."""
LOOK_S = 1
_stream_id = re.compile(r"[A-Za-z0-9]+-([0-9a-f]{16})").fullmatch

WIRE = Wire(Native(), ServerSentEvents())
"""The one wire of all event streams."""

_STREAM_HEADERS = {
    hdrs.CONTENT_TYPE: CONTENT_TYPE,
    hdrs.CACHE_CONTROL: "no-store, no-transform",
    "X-Accel-Buffering": "no",  # nginx, and others that follow it
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """How an answer begins: its headers, whatever its status is, and whether its client is an `EventSource`."""

    headers: Sequence[tuple[str, str]]
    is_event_source: bool = False
    """An `EventSource` connects again only after an answer with status 200. So a refusal that will pass is sent as a
    stream that ends."""

    @classmethod
    def of(cls, request: web.Request, *, cookies: Iterable[str] = (), is_event_source: bool = False) -> "AnswerHead":
        """The head of the answer to a request. `cookies` are values of `Set-Cookie`."""
        headers = {CORRELATION_HEADER: correlation_id(request), **cross_origin_headers(request)}
        return cls((*headers.items(), *((hdrs.SET_COOKIE, one) for one in cookies)), is_event_source)

    @property
    def stream_headers(self) -> list[tuple[str, str]]:
        """The headers of a stream. They keep proxies from buffering it, compressing it and caching it."""
        return [*_STREAM_HEADERS.items(), *self.headers]

    def refuses_in_a_stream(self, error: BeaconfireError) -> bool:
        """Whether an error is sent in a stream that ends at once, instead of as the status."""
        return self.is_event_source and error.code.retry is Retry.BACKOFF


def process_of(session_id: str) -> str | None:
    """Return the id of the process that has a stream, by its session's id. None if it is no stream's id."""
    found = _stream_id(session_id)
    return None if found is None else found[1]


def first_line() -> bytes:
    """The first bytes of a stream, which also show the client that it is open."""
    return retry(retry_ms(None)) + b"\n"


def refusal_in_a_stream(request: web.Request, error: BeaconfireError) -> web.Response:
    """Answer an `EventSource` with a stream that ends at once, so that it connects again."""
    return web.Response(body=last_event(error), headers=AnswerHead.of(request).stream_headers)


def last_event(error: BeaconfireError | None) -> bytes:
    """The last event of a stream, which says why it ends. None: another connection of its client took over."""
    code, reason = farewell(error)
    return close_event(code, reason, retry_ms(error))


def retry_ms(error: BeaconfireError | None) -> int:
    """How long a client should wait, or a random time of `RETRY_MS` unless the error says."""
    asked = None if error is None else error.retry_after_ms
    return random.randint(*RETRY_MS) if asked is None else asked + random.randint(0, RETRY_MS[0])  # noqa: S311


class EventStream(SoleSession):
    """See the module. A carrier mixes in the rest: how bytes are written, and `_begin`, `_refuse`, `_finish`."""

    __slots__ = ()

    transport = "sse"

    def start(self, request: Connect) -> None:
        """Ask the gateway to let the client in."""
        self.id = f"{self.id}-{self.gateway.process_id}"  # `process_of` reads it
        self.gateway.handle(self, request)

    @property
    def heartbeat_s(self) -> int:
        return min(HEARTBEAT_S, self.gateway.limits.heartbeat_s)

    @property
    def patience_s(self) -> int:
        return self.heartbeat_s

    def begun(self, session: Session) -> None:
        super().begun(session)
        self._begin()

    def send(self, message: Message) -> None:
        super().send(message)
        self._heed(message)

    def send_now(self, message: Message) -> None:
        super().send_now(message)
        self._heed(message)

    def ping(self, session: Session, data: bytes = b"") -> None:
        """Write a comment. An `EventSource` cannot answer it, but the client's TCP acknowledges it."""
        self.write(COMMENT + data)
        self._look_later(time.monotonic())

    def hang_up(self, session: Session, error: BeaconfireError | None) -> None:
        if self.user_id or error is None:
            self._finish(last_event(error))
        else:
            self._refuse(_worded(error))

    @abstractmethod
    def _begin(self) -> None:
        """Write the head of the answer, and `first_line`. The client was let in."""

    @abstractmethod
    def _refuse(self, error: BeaconfireError) -> None:
        """Answer the request with an error. Nothing was written before."""

    @abstractmethod
    def _finish(self, data: bytes) -> None:
        """Write the last bytes, and end the answer. A stuck client is not waited for."""

    @abstractmethod
    def _acknowledges(self, since: float) -> bool:
        """Whether the client's end has acknowledged what was written, or something `since` (`time.monotonic`)."""

    def _look_later(self, pinged_at: float) -> None:
        self.gateway.timers.within(LOOK_S, Call(lambda: self._look(pinged_at)))

    def _look(self, pinged_at: float) -> None:
        """Report a sign of life once the client's TCP has acknowledged something since the ping."""
        if not self.is_connected:
            return
        if not self.is_full and self._acknowledges(pinged_at):
            self.heard()
        else:
            self._look_later(pinged_at)

    def _heed(self, message: Message) -> None:
        """End the stream in time if the gateway stops, because an `EventSource` does not know `goaway`.

        That is some time after the moment at which the client should go. A client that knows the message is gone then.
        """
        goaways = self.gateway.goaways
        if isinstance(message, GoAway) and goaways is not None:
            goaways.close_at(time.monotonic() + (message.after_ms + message.within_ms / 4) / 1000, self)


def _worded(error: BeaconfireError) -> BeaconfireError:
    """Return a refusal in words of this transport: its clients send no `connect`."""
    if error.code is not errors.TIMEOUT:
        return error
    return BeaconfireError(errors.UNAVAILABLE, "the gateway could not find out whether you may connect, try again")
