"""Carry an event stream on a socket of ours: the answer has no length, and ends with its connection."""

import socket
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import hdrs

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports.event_stream import WIRE, AnswerHead, EventStream, first_line, last_event
from beaconfire_gateway.transports.socket_connection import SLOTS, SocketConnection
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.tcp_acks import acknowledges
from beaconfire_gateway.wire.messages import Connect
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.web import error_answer, harden

MAX_UNASKED_BYTES = 65_536
"""Of what a client sends after its request, which nothing asks for. It is thrown away, and then the connection ends."""


class SocketEventStream(SocketConnection, EventStream):
    """See the module. Raises OSError if the descriptor cannot be served; it is closed then."""

    __slots__ = (*SLOTS, "_head", "_unasked")

    def __init__(
        self,
        gateway: Gateway,
        sockets: Sockets,
        descriptor: int,
        *,
        address: str,
        head: AnswerHead,
        request: Connect,
    ) -> None:
        self._head: AnswerHead | None = head
        self._unasked = 0
        self._serve(sockets, descriptor)
        super().__init__(gateway, WIRE, address=address)
        self.start(request)

    def data_received(self, data: bytes) -> None:
        self._unasked += len(data)
        if self._unasked > MAX_UNASKED_BYTES:
            self.abort()

    def write(self, data: bytes) -> None:
        """Write bytes, now; nothing before the client is let in, and nothing after the last event."""
        if self._head is None:
            super().write(data)

    def _begin(self) -> None:
        head, self._head = self._head, None
        assert head is not None
        self.write(_encode_head(200, head.stream_headers) + first_line())

    def _refuse(self, error: BeaconfireError) -> None:
        head = self._head
        assert head is not None
        if head.refuses_in_a_stream(error):
            self._finish(_encode_head(200, head.stream_headers) + last_event(error))
            return
        answer = error_answer(error)
        harden(answer)
        body = answer.body
        assert isinstance(body, bytes)
        headers = [*answer.headers.items(), *head.headers, (hdrs.CONTENT_LENGTH, str(len(body)))]
        self._finish(_encode_head(answer.status, headers) + body)

    def _finish(self, data: bytes) -> None:
        self._say_goodbye(data)
        if self._sockets.is_open(self._descriptor):
            self._sockets.end_writing(self._descriptor)

    def _acknowledges(self, since: float) -> bool:
        with socket.socket(fileno=self._descriptor) as end:
            try:
                return acknowledges(end, since)
            finally:
                end.detach()


def _encode_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of an answer that ends with its connection."""
    own = ((hdrs.DATE, formatdate(usegmt=True)), (hdrs.CONNECTION, "close"))
    lines = [f"{name}: {value}" for name, value in (*headers, *own)]
    return "\r\n".join([f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *lines, "", ""]).encode()
