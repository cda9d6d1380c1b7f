"""Answer `/sse`: server-sent events for clients without WebSockets (PROTOCOL.md, "Server-sent events").

`GET /sse?rooms=…` and `POST /sse` have the token in their `Authorization` header. A browser's own `EventSource` cannot
send one. Its page asks for a ticket at `POST /sse/tickets`, and opens `GET /sse/stream?ticket=…`. `sse_messages` takes
what the client of a stream says.
"""

import asyncio
import time
from functools import partial

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports import aiohttp_event_stream
from beaconfire_gateway.transports.admission import OPENED, Admission, is_own_origin, required_token
from beaconfire_gateway.transports.event_stream import AnswerHead, refusal_in_a_stream
from beaconfire_gateway.transports.handover import hand_over
from beaconfire_gateway.transports.socket_event_stream import SocketEventStream
from beaconfire_gateway.transports.sockets import Sockets
from beaconfire_gateway.transports.sse_tickets import Page, Subscription, Tickets
from beaconfire_gateway.transports.wanted import Wanted, read_wanted
from beaconfire_gateway.transports.write_buffers import WriteBuffers
from beaconfire_gateway.wire.messages import Connect
from beaconfire_kit.errors import BeaconfireError, Retry
from beaconfire_kit.web import json_answer, read_body

EVENT_SOURCES = "GET /sse/stream"
"""The route of browsers' own `EventSource`s, in `for_event_sources`."""
LAST_EVENT_ID = "Last-Event-ID"
TICKET_MESSAGES = 10
"""A ticket counts as so many messages of its user: once it is used, the broker keeps it for as long as its token."""


def for_event_sources(handler: Handler) -> Handler:
    """A handler whose clients are `EventSource`s: errors that will pass do not stop them from connecting again."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except BeaconfireError as error:
            if error.code.retry is not Retry.BACKOFF:
                raise
            return refusal_in_a_stream(request, error)

    return handle


class Sse:
    """The handlers of `/sse`. Without `sockets`, aiohttp carries the streams."""

    def __init__(
        self,
        gateway: Gateway,
        admission: Admission,
        tickets: Tickets,
        *,
        sockets: Sockets | None,
        buffers: WriteBuffers,
    ) -> None:
        self._gateway = gateway
        self._admission = admission
        self._tickets = tickets
        self._sockets = sockets
        self._buffers = buffers

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """`GET /sse` and `POST /sse`. Answers 400, 401, 403, 429 or 503, or streams until the session ends."""
        self._admission.check_origin(request)
        wanted = await read_wanted(request, Wanted)
        asked = wanted.connect(required_token(request), last_event_id=request.headers.get(LAST_EVENT_ID))
        address = self._admission.enter(request)
        return await self._stream(request, address, asked, AnswerHead.of(request))

    async def issue(self, request: web.Request) -> web.StreamResponse:
        """`POST /sse/tickets`. Answers 201 with a ticket, or 400, 401, 403, 413, 429 or 503."""
        self._admission.check_origin(request)
        wanted = await read_body(request, Wanted)
        token = required_token(request)
        wanted.connect(token)  # raises for what the stream would be refused for
        claims = await self._admission.user_of(request)
        self._gateway.users.of(claims.user_id).spend_message(time.monotonic(), worth=TICKET_MESSAGES)
        page = Page(request.headers.get(hdrs.ORIGIN, ""), is_own=is_own_origin(request))
        ticket = await self._tickets.issue(Subscription(token, wanted, claims.expires_at, page))
        body = {"ticket": ticket, "url": f"sse/stream?ticket={ticket}", "expiresInS": self._tickets.ticket_s}
        return json_answer(body, status=201)

    async def redeem(self, request: web.Request) -> web.StreamResponse:
        """`GET /sse/stream?ticket=…`. Answers 401 or 403, or streams until the session ends.

        An error that will pass is sent in a stream that ends at once: after any other status than 200, an `EventSource`
        never connects again.
        """
        self._admission.check_origin(request)
        address = self._admission.enter(request)
        try:
            redeemed = await self._tickets.redeem(request.query.get("ticket", ""), request.cookies)
            subscription = redeemed.subscription
            asked = subscription.wanted.connect(subscription.token, last_event_id=request.headers.get(LAST_EVENT_ID))
        except BaseException:
            self._admission.refuse_entered(address, "ticket")
            raise
        head = AnswerHead.of(request, cookies=redeemed.cookies, is_event_source=True)
        return await self._stream(request, address, asked, head)

    async def _stream(self, request: web.Request, address: str, asked: Connect, head: AnswerHead) -> web.StreamResponse:
        transport = request.transport
        if transport is None or transport.is_closing():
            self._admission.refuse_entered(address, "gone")
            raise asyncio.CancelledError
        if self._sockets is not None:
            make = partial(SocketEventStream, self._gateway, self._sockets, address=address, head=head, request=asked)
            hand_over(request, self._admission, address, make, b"")
        OPENED.inc()
        return await aiohttp_event_stream.serve(
            self._gateway,
            request,
            address=address,
            head=head,
            asked=asked,
            buffers=self._buffers,
        )
