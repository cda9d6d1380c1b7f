"""Answer the requests of other services over the broker: `auth.authorize`, `auth.grant`, and `auth.access.*`.

Every request is answered, with `error` if something is wrong; otherwise the caller would wait for its whole timeout. A
message that is not a request (see `broker_requests`) gets no answer.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import nats.errors
from faststream.nats import NatsMessage
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import BaseModel, ValidationError

from beaconfire_auth.backends import Backends, Caller
from beaconfire_auth.decisions import Decisions
from beaconfire_auth.service_tokens import ServiceTokens
from beaconfire_auth.settings import Settings
from beaconfire_kit import broker, errors, logs, metrics
from beaconfire_kit.authorization import (
    AUTHORIZE,
    GRANT,
    QUEUE,
    AuthorizeRequest,
    GrantRequest,
)
from beaconfire_kit.backend import ACCESS, PREFIX, Call, subject_of
from beaconfire_kit.broker_requests import is_request
from beaconfire_kit.consumer import faststream_options
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.seams.faststream_broker import FastStreamBroker
from beaconfire_kit.web import describe

log = logs.get(__name__)

ANSWERED = metrics.Counter(
    "beaconfire_auth_broker_requests_total",
    "Requests that arrived over the broker, by subject and result.",
    ["subject", "result"],
)

WORKERS = 64
"""Requests answered at the same time. One that waits for the projection or an authorizer must not delay the others."""

STOP_S = 1.0
"""How long answers in progress may take when auth stops."""

R = TypeVar("R", bound=BaseModel)
Handle = Callable[[bytes], Awaitable[bytes]]
"""Reads a request and returns its reply. Raises ValidationError, BeaconfireError."""


class Rpc:
    """Subscribes to the questions, on a connection of its own, in the queue group that auth's processes share.

    `auth.authorize` is asked for each request of each service and each join, so nats-py calls us without FastStream.
    """

    def __init__(
        self,
        settings: Settings,
        decisions: Decisions,
        service_tokens: ServiceTokens,
        backends: Backends,
        *,
        on_closed: Callable[[], None],
    ) -> None:
        """`on_closed` is called if the connection has ended for good."""
        self._settings = settings
        self._decisions = decisions
        self._service_tokens = service_tokens
        self._backends = backends
        self._on_closed = on_closed
        self._broker: FastStreamBroker | None = None
        self._is_stopping = False
        self._decide = _handling(AuthorizeRequest, decisions.authorize)
        self._asked: Subscription | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._free = asyncio.Semaphore(WORKERS)

    async def start(self, _nc: Client) -> None:
        """Connect, and answer from now on. Waits for the broker."""
        options = faststream_options(self._settings, "auth-rpc")
        self._broker = rpc = FastStreamBroker(**options, closed_cb=self._closed)

        async def answering(subject: str, message: NatsMessage, handle: Handle) -> None:
            await _reply(rpc, subject, message.raw_message, handle)

        @rpc.subscriber(GRANT, queue=QUEUE, decoder=_undecoded, no_reply=True, max_workers=WORKERS)
        async def answer_grant(message: NatsMessage) -> None:
            await answering(GRANT, message, _handling(GrantRequest, self._decisions.grant))

        @rpc.subscriber(ACCESS, queue=QUEUE, decoder=_undecoded, no_reply=True, max_workers=WORKERS)
        async def answer_access(message: NatsMessage) -> None:
            call = message.raw_message.subject.removeprefix(PREFIX)
            await answering(subject_of(call), message, partial(self._access, call))

        await broker.cancellable(rpc.start())
        assert rpc.nc is not None, "it has started"
        self._asked = await rpc.nc.subscribe(AUTHORIZE, queue=QUEUE, cb=self._take)

    async def _take(self, message: Msg) -> None:
        """Begin to answer a question. Called for one after the other, so the next one waits while too many are open."""
        await self._free.acquire()
        answering = asyncio.create_task(self._authorize(message))
        self._answering.add(answering)
        answering.add_done_callback(self._answered)

    async def _authorize(self, message: Msg) -> None:
        if self._broker is not None:
            await _reply(self._broker, AUTHORIZE, message, self._decide)

    def _answered(self, answering: asyncio.Task[None]) -> None:
        self._free.release()
        self._answering.discard(answering)
        if not answering.cancelled() and (error := answering.exception()) is not None:
            log.error("could not answer", subject=AUTHORIZE, exc_info=error)

    async def _access(self, call: str, body: bytes) -> bytes:
        """Answer a backend's call."""
        asked = Call.model_validate_json(body)
        service = await self._service_tokens.shown_by(asked.service_token)
        caller = Caller(service, asked.correlation_id)
        answer = await self._backends.answer(call, json.dumps(asked.request).encode(), caller)
        return json.dumps(answer).encode()

    async def stop(self) -> None:
        """Finish the answers in progress, answer no more, and disconnect."""
        self._is_stopping = True
        if self._broker is None:
            return
        connection = self._broker.nc
        with contextlib.suppress(nats.errors.Error, TimeoutError):  # it drains, and the broker may be away
            async with asyncio.timeout(STOP_S if connection is not None and connection.is_connected else 0):
                if self._asked is not None:
                    await self._asked.drain()  # type: ignore[no-untyped-call]
                while self._answering:
                    await asyncio.wait(set(self._answering))
                await self._broker.stop()
        for answering in self._answering:
            answering.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        if connection is not None:
            await broker.close(connection)

    async def _closed(self) -> None:
        if not self._is_stopping:
            log.error("broker connection closed for good")
            self._on_closed()


def _handling(request: type[R], handle: Callable[[R], Awaitable[BaseModel]]) -> Handle:
    """Return what reads a request of this model and writes its reply."""

    async def read_and_write(body: bytes) -> bytes:
        answer = await handle(request.model_validate_json(body))
        return answer.model_dump_json(exclude_none=True).encode()

    return read_and_write


async def _answer(counted: str, body: bytes, handle: Handle) -> bytes:
    """Return the bytes of the reply, whatever happens."""
    try:
        answer = await handle(body)
        ANSWERED.labels(counted, "answered").inc()
        return answer
    except ValidationError as error:
        refusal = BeaconfireError(errors.BAD_REQUEST, describe(error))
    except BeaconfireError as error:
        refusal = error
    except Exception:
        log.exception("could not answer", subject=counted)
        refusal = BeaconfireError(errors.INTERNAL, "something went wrong in auth, see its log")
    ANSWERED.labels(counted, refusal.code.code).inc()
    return json.dumps({"error": refusal.body()}).encode()


async def _reply(broker: FastStreamBroker, subject: str, message: Msg, handle: Handle) -> None:
    """Answer a request at the inbox that it names. Any other message on the subject is only counted.

    The answer repeats no header of the request: see SECURITY.md.
    """
    counted = ACCESS if subject.startswith(PREFIX) else subject
    if not is_request(message, subject):
        ANSWERED.labels(counted, "no_request").inc()
        log.warning("ignored a message that is not a request", subject=message.subject[:200], reply=message.reply[:200])
        return
    answer = await _answer(counted, message.data, handle)
    assert broker.nc is not None, "a request arrived, so there is a connection"
    try:
        await broker.nc.publish(message.reply, answer)
    except nats.errors.Error as error:
        log.warning("could not send an answer", subject=subject, error=type(error).__name__)


async def _undecoded(message: NatsMessage) -> NatsMessage:
    """Return the message as it came. FastStream's own decoding would leave a malformed request without an answer."""
    return message
