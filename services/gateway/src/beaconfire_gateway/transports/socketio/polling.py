"""Answer the requests of Engine.IO's polling, for connections of this process and of others.

A client opens a connection with its first poll. Later requests name its sid, which begins with the id of the process
that has it. That process is asked (`questions`) if it is not this one, so load balancers need no sticky sessions.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from aiohttp import hdrs, web

from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.transports.admission import OPENED, Admission
from beaconfire_gateway.transports.socketio.answers import BAD_METHOD, BAD_REQUEST, TOO_LARGE, UNKNOWN_SID, Answer
from beaconfire_gateway.transports.socketio.connection import MakeConnection, first_packet, max_payload
from beaconfire_gateway.transports.socketio.polling_carrier import Carriers, PollingCarrier
from beaconfire_gateway.transports.socketio.questions import Asked, Questions
from beaconfire_gateway.transports.socketio.sealed import new_sid
from beaconfire_kit import errors, logs
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.web import ROUTINE, read_bytes, when_client_leaves

log = logs.get(__name__)

POLL, POST, RELEASE = "poll", "post", "release"
"""The calls between processes."""
POLL_S = 330.0
"""The longest time that a poll may take at another process: more than any interval between two pings."""
POST_S = 10.0
UPGRADES = ("websocket",)
_STAMP_BYTES = 64


def _cancel_me() -> Callable[[], object]:
    """What ends the handler that asks for it."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancel


class Polling:
    """See the module. One for each gateway process."""

    def __init__(
        self,
        gateway: Gateway,
        admission: Admission,
        carriers: Carriers,
        questions: Questions,
        make: MakeConnection,
    ) -> None:
        self._gateway = gateway
        self._admission = admission
        self._carriers = carriers
        self._questions = questions
        self._make = make
        self._posting: set[str] = set()
        questions.answers(POLL, _answer_poll)
        questions.answers(POST, _answer_post)
        questions.answers(RELEASE, _answer_release)

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
        sid = new_sid(self._gateway.process_id)
        carrier = PollingCarrier(self._gateway, self._carriers, sid)
        self._make(carrier, address, request)
        carrier.write(first_packet(self._gateway.limits, sid, upgrades=UPGRADES))
        return await self._wait(request, carrier, "")

    async def _poll(self, request: web.Request, sid: str) -> Answer:
        stamp = request.query.get("t", "")[:_STAMP_BYTES]
        carrier = self._carriers.get(sid)
        if carrier is not None:
            return await self._wait(request, carrier, stamp)
        elsewhere = _Elsewhere(partial(self._release, sid))
        self._gateway.connecting.add(elsewhere)
        try:
            with when_client_leaves(request, _cancel_me()):
                return await self._ask(sid, POLL, stamp.encode(errors="replace"), POLL_S)
        finally:
            self._gateway.connecting.discard(elsewhere)

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
        request[ROUTINE] = True
        is_text = request.content_type != "application/octet-stream"
        if not is_text or sid in self._posting:  # an empty payload ends the connection, as it must
            return await self._take(sid, b"")
        self._posting.add(sid)
        try:
            return await self._take(sid, await read_bytes(request, limit=max_payload(self._gateway.limits)))
        except BeaconfireError as error:
            return TOO_LARGE if error.code is errors.TOO_LARGE else BAD_REQUEST
        finally:
            self._posting.discard(sid)

    async def _take(self, sid: str, body: bytes) -> Answer:
        carrier = self._carriers.get(sid)
        return carrier.post(body) if carrier is not None else await self._ask(sid, POST, body, POST_S)

    def _release(self, sid: str) -> None:
        """Have the poll answered now that waits at another process, because this one stops. Its client polls again."""
        self._gateway.spawn(self._ask_to_release(sid))

    async def _ask_to_release(self, sid: str) -> None:
        await self._questions.ask(sid, RELEASE, b"", timeout_s=POST_S)

    async def _ask(self, sid: str, call: str, text: bytes, timeout_s: float) -> Answer:
        """Have the process that has the connection answer."""
        answer = await self._questions.ask(sid, call, text, timeout_s=timeout_s)
        return UNKNOWN_SID if answer is None else Answer.decode(answer)


class _Elsewhere:
    """A poll whose answer another process has. A gateway that stops waits for it. Implements `gateway.Pending`."""

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release

    def close(self, _error: BeaconfireError) -> None:
        self._release()


def _answer_poll(carrier: PollingCarrier, asked: Asked) -> None:
    asked.when_abandoned(carrier.abandon)
    carrier.poll(lambda answer: asked.answer(answer.encode()), asked.text.decode())


def _answer_post(carrier: PollingCarrier, asked: Asked) -> None:
    asked.answer(carrier.post(asked.text).encode())


def _answer_release(carrier: PollingCarrier, asked: Asked) -> None:
    carrier.release()
    asked.answer(b"")
