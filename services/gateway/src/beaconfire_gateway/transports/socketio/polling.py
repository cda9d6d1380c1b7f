"""Answer the requests of Engine.IO's polling, for connections of this process and of others.

A client opens a connection with its first poll. Later requests name its sid, which begins with the id of the process
that has it. That process is asked (`relay`) if it is not this one, so load balancers need no sticky sessions.
"""

import asyncio
import re
import secrets
from collections.abc import Callable
from typing import TypeAlias

from aiohttp import hdrs, web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports.admission import OPENED, Admission
from beaconfire_gateway.transports.socketio.answers import BAD_METHOD, BAD_REQUEST, TOO_LARGE, UNKNOWN_SID, Answer
from beaconfire_gateway.transports.socketio.connection import EngineCarrier, EngineConnection
from beaconfire_gateway.transports.socketio.polling_carrier import Carriers, PollingCarrier
from beaconfire_gateway.transports.socketio.relay import ANSWER_BYTES, OwnerGone, Question, Relay
from beaconfire_gateway.wire.engineio import open_packet
from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.web import read_bytes, when_client_leaves

log = logs.get(__name__)

MakeConnection: TypeAlias = Callable[[EngineCarrier, str, str, web.Request], EngineConnection]
"""(carrier, sid, address, request): the connection of a new client, which the door has counted."""

POLL, POST = "poll", "post"
"""The calls of the relay."""
POLL_S = 330.0
"""The longest time that a poll may take at another process: more than any interval between two pings."""
POST_S = 10.0
UPGRADES = ["websocket"]
MAX_POST_BYTES = ANSWER_BYTES - 1_024
"""A relayed request is one message of the broker."""
_SID_BYTES = 15
_STAMP_BYTES = 64
_sid = re.compile(r"([0-9a-f]{1,32})\.[A-Za-z0-9_-]{1,64}").fullmatch


def new_sid(gateway: Gateway) -> str:
    """A name that only its client knows, and that names the process."""
    return f"{gateway.process_id}.{secrets.token_urlsafe(_SID_BYTES)}"


def owner_of(sid: str) -> str | None:
    """The id of the process that a sid names. None if it is not a sid."""
    parts = _sid(sid)
    return parts and parts[1]


def _cancel_me() -> Callable[[], object]:
    """What ends the handler that asks for it."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancel


class Polling:
    """See the module. One for each gateway process."""

    def __init__(self, gateway: Gateway, admission: Admission, relay: Relay, make: MakeConnection) -> None:
        self._gateway = gateway
        self._admission = admission
        self._relay = relay
        self._make = make
        self.carriers: Carriers = {}
        self.max_payload = min(gateway.limits.max_frame_bytes, MAX_POST_BYTES)
        self._posting: set[str] = set()
        relay.answers(POLL, self._on_poll)
        relay.answers(POST, self._on_post)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The handler of requests with `transport=polling`. The caller has checked their origin and version.

        Raises LimitReached.
        """
        sid = request.query.get("sid")
        if sid is None:
            answer = await self._open(request) if request.method == hdrs.METH_GET else BAD_METHOD
        elif request.method == hdrs.METH_GET:
            answer = await self._poll(request, sid)
        elif request.method == hdrs.METH_POST:
            answer = await self._post(request, sid)
        else:
            answer = BAD_METHOD
        return answer.response()

    # The client's requests.

    async def _open(self, request: web.Request) -> Answer:
        address = self._admission.enter(request)
        OPENED.inc()
        sid = new_sid(self._gateway)
        carrier = PollingCarrier(self._gateway, self.carriers, sid)
        connection = self._make(carrier, sid, address, request)
        carrier.write(
            open_packet(
                sid,
                upgrades=UPGRADES,
                ping_interval_s=connection.heartbeat_s,
                ping_timeout_s=connection.patience_s,
                max_payload=self.max_payload,
            )
        )
        return await self._wait(request, carrier, "")

    async def _poll(self, request: web.Request, sid: str) -> Answer:
        stamp = request.query.get("t", "")[:_STAMP_BYTES]
        carrier = self.carriers.get(sid)
        if carrier is not None:
            return await self._wait(request, carrier, stamp)
        with when_client_leaves(request, _cancel_me()):
            return await self._ask(sid, POLL, stamp.encode(errors="replace"), POLL_S)

    async def _wait(self, request: web.Request, carrier: PollingCarrier, stamp: str) -> Answer:
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def answer(given: Answer) -> None:
            if not answered.done():
                answered.set_result(given)

        with when_client_leaves(request, _cancel_me()):
            try:
                carrier.poll(answer, stamp)
                return await answered
            except asyncio.CancelledError:
                carrier.abandon()
                raise

    async def _post(self, request: web.Request, sid: str) -> Answer:
        is_broken = request.content_type == "application/octet-stream" or sid in self._posting
        if (
            is_broken
        ):  # two at a time, or binary packets as Engine.IO 3 sends them: an empty payload ends the connection
            return await self._take(sid, b"")
        self._posting.add(sid)
        try:
            return await self._take(sid, await read_bytes(request, limit=self.max_payload))
        except BeaconfireError as error:
            return TOO_LARGE if error.code is errors.TOO_LARGE else BAD_REQUEST
        finally:
            self._posting.discard(sid)

    async def _take(self, sid: str, body: bytes) -> Answer:
        carrier = self.carriers.get(sid)
        return carrier.post(body) if carrier is not None else await self._ask(sid, POST, body, POST_S)

    # Between processes.

    async def _ask(self, sid: str, call: str, data: bytes, timeout_s: float) -> Answer:
        """Ask the process that has the connection. Without an answer, its client has to connect again."""
        owner = owner_of(sid)
        if owner is None or owner == self._gateway.process_id:
            return UNKNOWN_SID
        try:
            return Answer.decode(await self._relay.ask(owner, call, sid.encode() + b"\n" + data, timeout_s=timeout_s))
        except OwnerGone as gone:
            log.info("could not relay a request", call=call, reason=str(gone))
            return UNKNOWN_SID

    def _on_poll(self, question: Question) -> None:
        carrier, stamp = self._asked_about(question)
        if carrier is None:
            question.answer(UNKNOWN_SID.encode())
            return
        question.on_abandoned = carrier.abandon
        carrier.poll(lambda answer: question.answer(answer.encode()), stamp.decode())

    def _on_post(self, question: Question) -> None:
        carrier, body = self._asked_about(question)
        question.answer((UNKNOWN_SID if carrier is None else carrier.post(body)).encode())

    def _asked_about(self, question: Question) -> tuple[PollingCarrier | None, bytes]:
        sid, _, rest = question.body.partition(b"\n")
        return self.carriers.get(sid.decode()), rest
