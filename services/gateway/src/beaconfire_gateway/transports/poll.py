"""Answer long polls: `GET /poll` and `POST /poll`. Each poll is a session that ends with its answer.

A poll starts at the client's cursor. So any gateway can answer it, and the next poll repeats an answer that got lost. A
poll with nothing new to ask waits for the first message. aiohttp serves the request, with tasks of its own. A poll that
waits adds a session, a future and a timer to that (ADR 0052).
"""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from beaconfire_gateway.fanout.conflation import Latest
from beaconfire_gateway.fanout.targets import CALLING, Target, Writer
from beaconfire_gateway.sessions.continuations import Continuations, Refusals, Subscribed
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.sessions.reread import held_for
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.sole_session import SoleSession
from beaconfire_gateway.transports.admission import OPENED, Admission, required_token
from beaconfire_gateway.transports.wanted import WHOLE_IN_TEXT, Wanted, encode_messages, read_wanted
from beaconfire_gateway.wire.message_list import MESSAGE_LIST, SEPARATOR
from beaconfire_gateway.wire.messages import Ack, Connect, GoAway, Message, TokenExpiring
from beaconfire_kit import errors
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.web import ROUTINE, when_client_leaves

MAX_WAIT_S = 60
"""Many proxies give up on an answer after a minute."""
PACE_S = 0.2
"""A poll that continues a subscription is not answered earlier than this: at most five answers a second."""
TAKE_S = 30.0
"""How long a client may take to read a part of an answer."""
MAX_MESSAGES = 100
"""Requests behind `connect`, as many as a session keeps while an earlier one is answered."""
_HEAD, _CURSOR, _ERROR = b'{"messages":[', b'],"cursor":%s}', b'],"error":%s}'


class WantedPoll(Wanted):
    """What a poll asks for."""

    wait_s: Annotated[int | None, WHOLE_IN_TEXT, Field(ge=0, le=MAX_WAIT_S)] = None
    """How long to wait if nothing comes. None: a heartbeat."""
    messages: Annotated[tuple[dict[str, Any], ...], Field(max_length=MAX_MESSAGES, fail_fast=True)] = ()
    """Further requests of the session, which follow its `connect`."""


class LongPolls:
    """The route `/poll`. A poll that has collected `full_bytes` is answered, or sent in part."""

    def __init__(self, gateway: Gateway, admission: Admission, *, full_bytes: int) -> None:
        self._gateway = gateway
        self._admission = admission
        self._full_bytes = full_bytes
        self._continuations = Continuations()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The aiohttp handler. Raises BeaconfireError if the poll is refused, or if its session ends."""
        request[ROUTINE] = True
        self._admission.check_origin(request)
        wanted = await read_wanted(request, WantedPoll)
        connect = wanted.connect(required_token(request))
        messages = encode_messages(wanted.messages, max_bytes=self._gateway.limits.max_frame_bytes)
        address = self._admission.enter(request)
        OPENED.inc()
        poll = Poll(
            self._gateway,
            request,
            self._continuations,
            address=address,
            wait_s=min(self._gateway.limits.heartbeat_s, MAX_WAIT_S) if wanted.wait_s is None else wanted.wait_s,
            full_bytes=self._full_bytes,
        )
        try:
            with when_client_leaves(request, poll.client_left):
                return await poll.answer(connect, messages)
        finally:
            poll.gone()


class Poll(SoleSession):
    """One poll: its session, and its answer, which is collected here.

    It continues a subscription if this gateway remembers that the user polled for the same rooms. `_is_due` decides
    when it is answered.
    """

    __slots__ = (
        "_continuations",
        "_cursor",
        "_deadline",
        "_earliest",
        "_error",
        "_full_bytes",
        "_given",
        "_has_messages",
        "_is_ending",
        "_is_first",
        "_is_full",
        "_loop",
        "_pieces",
        "_refused",
        "_refused_before",
        "_request",
        "_size",
        "_timer",
        "_until",
        "_wakes",
        "_wanted",
        "_will_look",
        "_writes",
    )

    transport = "poll"

    def __init__(
        self,
        gateway: Gateway,
        request: web.Request,
        continuations: Continuations,
        *,
        address: str,
        wait_s: int,
        full_bytes: int,
    ) -> None:
        self._request: web.Request | None = request
        self._continuations = continuations
        self._full_bytes = full_bytes
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._earliest = now + PACE_S
        self._until = now + wait_s
        self._deadline = now + max(wait_s, gateway.limits.connect_timeout_s)
        self._timer: asyncio.TimerHandle | None = None
        self._is_first = False
        self._has_messages = False
        self._wanted: Subscribed = {}  # with the rooms that the gateway added
        self._refused_before: Refusals | None = None  # not None: it continues a subscription
        self._pieces: list[bytes] = []
        self._size = 0
        self._writes = 0  # the first one is the ack
        self._is_full = False
        self._will_look = False
        self._is_ending = False
        self._wakes: asyncio.Future[None] = self._loop.create_future()
        self._given = Cursor("", 0)  # where it started or caught up
        self._refused: Refusals = frozenset()
        self._cursor = ""
        self._error: BaseException | None = None
        super().__init__(gateway, MESSAGE_LIST, address=address)

    async def answer(self, connect: Connect, messages: Sequence[bytes]) -> web.StreamResponse:
        """Run the session, and return the answer. Raises BeaconfireError, or CancelledError if the client is gone."""
        self._is_first = connect.cursor is None
        self._has_messages = bool(messages)
        self.gateway.handle(self, connect)
        for message in messages:
            self.receive(message)
        try:
            return await self._collect()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def gone(self) -> None:
        """Its request is over. The timers still know it for a while, so it keeps nothing large."""
        super().gone()
        self._pieces.clear()
        self._wanted = {}
        self._request = self._error = self.claims = None

    def client_left(self) -> None:
        """Its connection is gone."""
        self._stop(asyncio.CancelledError())

    # When it is answered.

    def _is_due(self, now: float) -> bool:
        """Whether to answer now: `_acknowledged` says how long it waits if nothing comes."""
        if self.state is State.CONNECTING:
            return False
        if now >= self._deadline:  # it could not catch up in time, or the gateway stops
            return True
        if self.has_unanswered:
            return False
        if self._is_full:
            return True
        if self.state is State.LIVE and now >= self._until:
            return True
        return self._writes > 1 and now >= self._earliest

    def _look_soon(self) -> None:
        if not self._will_look:
            self._will_look = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._will_look = False
        if self._is_ending or self._wakes.done() or self.state is State.CLOSED:
            return
        now = self._loop.time()
        if self._is_due(now):
            self._end_soon()
        elif self._is_full:
            self._wakes.set_result(None)  # what is here is sent, and more is collected
        else:
            self._look_at(min(due for due in (self._earliest, self._until, self._deadline) if due > now))

    def _look_at(self, due: float) -> None:
        if self._timer is not None:
            if self._timer.when() == due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._on_due)

    def _on_due(self) -> None:
        self._timer = None
        self._look()

    # How it ends.

    def _end_soon(self) -> None:
        """Answer when everything that is queued for it is written."""
        self._is_ending = True
        behind, epoch = self.behind, self.gateway.epoch
        self.gateway.outbound.after(lambda: self._finish(behind, epoch))

    def _finish(self, behind: object, epoch: str) -> None:
        if self.state is State.CLOSED:
            return
        if self.behind is not behind:  # something else may have been queued for it since
            self._end_soon()
            return
        offset = self.gateway.outbound.settled if self.behind is None else self.behind.offset
        # `settled` may be lower than where it started or caught up.
        self._cursor = str(Cursor(epoch, max(offset, self._given.offset) if epoch == self._given.epoch else offset))
        if self.behind is None:
            self._pieces += self._held()
        self._remember()
        self.lost()
        self._wake()

    def _held(self) -> list[bytes]:
        """The events that are held back. They come now, so that the next poll does not have to ask for them."""
        held = held_for(self.gateway, self.rooms.values())
        return [Latest(entry, self._cursor).frame(self.wire) for entry in held]

    def _stop(self, error: BaseException) -> None:
        """End it with an error and without messages: the next poll starts at the cursor that the client has."""
        self._error = error
        self.lost()
        self._wake()

    def _wake(self) -> None:
        if not self._wakes.done():
            self._wakes.set_result(None)

    # Its answer.

    async def _collect(self) -> web.StreamResponse:
        response: web.StreamResponse | None = None
        while True:
            await self._wakes
            if self._cursor or self._error is not None:
                break
            self._wakes = self._loop.create_future()
            response = await self._send_part(response)
        if response is not None:
            return await self._send_rest(response)
        if self._error is not None:
            raise self._error
        body = _HEAD + self._take() + _CURSOR % json.dumps(self._cursor).encode()
        answer = web.Response(body=body, content_type="application/json", charset="utf-8")
        if self.gateway.goaways is not None:
            answer.force_close()  # so that the next poll may reach another gateway
        return answer

    async def _send_part(self, response: web.StreamResponse | None) -> web.StreamResponse:
        """Send what was collected, and collect more: a request of this poll needs more than fits."""
        start = SEPARATOR
        if response is None:
            start = _HEAD
            response = web.StreamResponse()
            response.content_type, response.charset = "application/json", "utf-8"
            assert self._request is not None
            await response.prepare(self._request)
        await self._write_out(response, start + self._take())
        self._deadline = max(self._deadline, self._loop.time() + self.gateway.limits.connect_timeout_s)
        self._is_full = False
        self.drained()
        self._look_soon()
        return response

    async def _send_rest(self, response: web.StreamResponse) -> web.StreamResponse:
        if isinstance(self._error, BeaconfireError):
            end = _ERROR % json.dumps(self._error.body()).encode()
        elif self._error is not None:
            raise self._error
        else:
            end = _CURSOR % json.dumps(self._cursor).encode()
        await self._write_out(response, (SEPARATOR + self._take() if self._pieces else b"") + end)
        return response

    async def _write_out(self, response: web.StreamResponse, data: bytes) -> None:
        try:
            async with asyncio.timeout(TAKE_S):
                await response.write(data)
        except (TimeoutError, ConnectionError):
            self.abort()
            raise asyncio.CancelledError from None

    def _take(self) -> bytes:
        """The items that were collected, without the separator behind the last one."""
        data = b"".join(self._pieces).removesuffix(SEPARATOR)
        self._pieces.clear()
        self._size = 0
        return data

    # What it continues.

    def continues(self, user_id: str, request: Connect) -> bool:
        self._wanted = {room: request.types.get(room) for room in request.rooms}
        self._refused_before = self._continuations.find(user_id, self._wanted, time.monotonic())
        return self._refused_before is not None

    def _remember(self) -> None:
        """Let the next poll for the same rooms, or for those it is in now, continue this one."""
        wanted, now = self._wanted, time.monotonic()
        cursor = self._cursor if self.behind is None or self.behind.is_complete else None
        self._continuations.note(self.user_id, wanted, self._refused, now, cursor)
        held = {name: None if one.types is None else tuple(one.types) for name, one in self.rooms.items()}
        if held.keys() != wanted.keys():
            self._continuations.note(self.user_id, held, frozenset(), now, cursor)

    def may_lack(self, offset: int) -> bool:
        """Not if it starts where an earlier poll for the same rooms ended."""
        cursor = str(Cursor(self.gateway.epoch, offset))
        return super().may_lack(offset) and not self._continuations.gave(self.user_id, self._wanted, cursor)

    def note(self, what: str, **fields: object) -> None:
        """Log it, unless it only repeats what an earlier poll has logged."""
        if self._refused_before is None and not self._is_ending:
            super().note(what, **fields)

    # What its session sends.

    def send(self, message: Message) -> None:
        if isinstance(message, GoAway):
            self._go_away(message)
            return
        if isinstance(message, TokenExpiring):
            self._writes -= 1  # no reason to answer: until it has a newer token, the client would poll without a pause
        super().send(message)

    def send_now(self, message: Message) -> None:
        if isinstance(message, GoAway):
            self._go_away(message)
            return
        if isinstance(message, Ack):
            self._acknowledged(message)
        super().send_now(message)

    def _acknowledged(self, ack: Ack) -> None:
        self._given = Cursor.parse(ack.cursor) or self._given
        refused = ((name, one.error.code.code) for name, one in ack.rooms.items() if one.error is not None)
        self._refused = frozenset(refused)
        if self._has_messages or self._refused != self._refused_before:  # the client has to know
            self._until = 0.0
        elif self._is_first:  # another client of the user, which has to know its cursor
            self._until = self._earliest
        else:
            self._until = max(self._until, self._earliest)

    def _go_away(self, goaway: GoAway) -> None:
        """Answer when it is its turn to leave. The client needs no word, because its next poll connects again."""
        self._deadline = min(self._deadline, self._loop.time() + goaway.after_ms / 1000)
        self._look_soon()

    def go_live(self) -> None:
        super().go_live()
        self._given = Cursor(self.gateway.epoch, self.gateway.position)
        self._look_soon()

    # connection.Connection.

    @property
    def writer(self) -> Writer:
        return CALLING

    @property
    def target(self) -> Target:
        """For `targets.CallingWriter`."""
        return self.write

    @property
    def is_full(self) -> bool:
        """Whether its answer is as large as it should get."""
        return self._is_full

    def write(self, data: bytes) -> None:
        if self.state is State.CLOSED:
            return
        self._pieces.append(data)
        self._size += len(data)
        self._writes += 1
        if self._size >= self._full_bytes and not self._is_full:
            self._is_full = True
            self.full()
        self._look_soon()

    def write_again(self, data: bytes) -> None:
        """Collect it. It is a reason to answer only if no earlier poll is known: else each poll could repeat it."""
        if self._refused_before is not None:
            self._writes -= 1
        self.write(data)

    def ping(self, session: Session, data: bytes = b"") -> None:
        """Take its open connection for the answer: if the client leaves, `client_left` is called."""
        self.heard()

    def hang_up(self, session: Session, error: BeaconfireError | None) -> None:
        self._stop(error or BeaconfireError(errors.CONFLICT, "another poll of this client took over"))

    def abort(self, session: Session | None = None) -> None:
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()
        self._stop(asyncio.CancelledError())
