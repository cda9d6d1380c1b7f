"""Keep a durable consumer on the stream alive, with a FastStream handler.

FastStream's pull subscriber needs the stream when it starts, and never makes a lost consumer again. So the consumer is
made here, before the subscriber starts. It is made again if it is gone because the stream was deleted and declared
again.

Messages are handled in the order of the stream, one at a time. That holds over all instances that share the durable
name: the broker sends the next message when this one is acknowledged (`max_ack_pending` 1).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import nats.errors
import nats.js.errors
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from faststream.nats.subscriber.usecases import PullStreamSubscriber
from faststream.security import SASLPlaintext
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy as BrokerAckPolicy
from nats.js.api import ConsumerConfig, DeliverPolicy
from sqlalchemy.exc import DataError

from beaconfire_kit import broker, logs, metrics, tracing
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.progress import STUCK_S, Progress
from beaconfire_kit.seams.faststream_broker import FastStreamBroker
from beaconfire_kit.settings import Settings

log = logs.get(__name__)

DELIVERED = metrics.Counter(
    "beaconfire_consumer_messages_total",
    "Messages that the broker gave to a durable consumer, by consumer and result.",
    ["consumer", "result"],
)

ACK_WAIT_S = 5.0
"""A message that is not acknowledged for this long is redelivered. After a crash the consumer waits this long."""
RETRY_S = 1.0
WATCH_S = 1.0
PULL_S = 2.0
STOP_S = 5.0
"""Time for the current message when the service stops."""
TRIES = 3
"""How often a message is tried before it is set aside because of its content."""
CONTENT_ERRORS = (ValueError, ArithmeticError, RecursionError, DataError)
"""Errors that a message's content causes: they would be raised again and again."""

Handle = Callable[[NatsMessage], Awaitable[None]]


class DurableConsumer:
    """One durable consumer, shared by all processes that use its name.

    A message is acknowledged when `handle` has returned. If it raises, the error is logged. The message comes again
    `RETRY_S` seconds later, before any other. A message on whose content `handle` fails (`CONTENT_ERRORS`) is set aside
    after `TRIES` attempts: counted, logged with its offset, and acknowledged. On any other error the message is tried
    until it is handled, and after `stuck_s` seconds without progress the consumer is not ready.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        *,
        subjects: Sequence[str],
        handle: Handle,
        on_closed: Callable[[], None],
        ack_wait_s: float = ACK_WAIT_S,
        stuck_s: float = STUCK_S,
    ) -> None:
        self._settings = settings
        self._name = name
        self._subjects = list(subjects)
        self._handle = handle
        self._on_closed = on_closed
        self._why_not: str | None = "starting"
        self._ack_wait_s = ack_wait_s
        self._progress = Progress(name, stuck_s=stuck_s)

    def why_not_ready(self) -> str | None:
        """Return why no message is being consumed, or None."""
        return self._why_not

    async def run(self, nc: Client) -> None:
        """Consume, forever. `nc` is asked about stream and consumer. Owned by the app."""
        while True:
            broker.check_cancelled()
            try:
                await self._consume(nc)
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
                log.warning("consumer failed, restarting it", consumer=self._name, error=type(error).__name__)
            except Exception:
                log.exception("consumer failed, restarting it", consumer=self._name)
            await asyncio.sleep(RETRY_S)

    async def _consume(self, nc: Client) -> None:
        self._why_not = f"waiting for the stream {broker.STREAM}"
        await broker.stream_state(nc)
        # Also if it exists: its subjects may have changed.
        await nc.jetstream().add_consumer(broker.STREAM, self._config())
        stopping = False

        async def closed() -> None:
            if not stopping:
                log.error("broker connection closed for good")
                self._on_closed()

        options = faststream_options(self._settings, self._name)
        faststream = FastStreamBroker(**options, graceful_timeout=STOP_S, closed_cb=closed)
        subscriber = self._subscriber(faststream, options.get("inbox_prefix", "_INBOX"))
        connection = await broker.cancellable(faststream.connect())
        try:
            await broker.cancellable(faststream.start())
            while True:
                broker.check_cancelled()
                await self._restore(nc)
                if not connection.is_connected:
                    self._why_not = "the broker is not reachable"
                await asyncio.sleep(WATCH_S)
        finally:
            stopping = True
            # Not `faststream.stop`: it drains, and waits for a broker that may be away.
            with contextlib.suppress(nats.errors.Error):
                await subscriber.stop()
            await broker.close(connection)

    def _subscriber(self, faststream: NatsBroker, inbox_prefix: str) -> PullStreamSubscriber:
        subscriber = faststream.subscriber(
            stream=JStream(broker.STREAM, declare=False),
            durable=self._name,
            config=self._config(),
            pull_sub=PullSub(timeout=PULL_S),
            inbox_prefix=f"{inbox_prefix}.".encode(),
            ack_policy=AckPolicy.MANUAL,
            decoder=_undecoded,
            no_reply=True,
        )
        subscriber(self._deliver)
        return subscriber

    def _config(self) -> ConsumerConfig:
        return ConsumerConfig(
            name=self._name,
            durable_name=self._name,
            filter_subjects=self._subjects,
            ack_policy=BrokerAckPolicy.EXPLICIT,
            deliver_policy=DeliverPolicy.ALL,
            ack_wait=self._ack_wait_s,
            max_ack_pending=1,
        )

    async def _restore(self, nc: Client) -> None:
        """Create the consumer again if it is gone. The subscriber asks for it by its name, and continues."""
        try:
            info = await nc.jetstream().consumer_info(broker.STREAM, self._name)
        except nats.js.errors.NotFoundError:
            self._why_not = "the consumer is gone, creating it again"
            log.warning("the consumer is gone, creating it again", consumer=self._name)
            await broker.stream_state(nc)
            await nc.jetstream().add_consumer(broker.STREAM, self._config())
        except (nats.errors.Error, nats.js.errors.Error):
            self._why_not = "the broker does not answer"
            return
        else:
            self._why_not = self._progress.why_stuck(info)
            return
        self._why_not = None

    async def _deliver(self, message: NatsMessage) -> None:
        try:
            with tracing.handling(self._name, message.raw_message.subject, message.raw_message.data):
                await self._handle(message)
        except BeaconfireError as error:
            log.warning("could not handle a message, trying again", **self._what(message), reason=error.message)
        except CONTENT_ERRORS:
            if message.raw_message.metadata.num_delivered >= TRIES:
                log.exception("set aside a message that cannot be handled", **self._what(message))
                DELIVERED.labels(self._name, "set_aside").inc()
                await message.ack()
                return
            log.exception("could not handle a message, trying again", **self._what(message))
        except Exception:
            log.exception("could not handle a message, trying again", **self._what(message))
        else:
            DELIVERED.labels(self._name, "handled").inc()
            await message.ack()
            return
        DELIVERED.labels(self._name, "failed").inc()
        await message.nack(delay=RETRY_S)

    def _what(self, message: NatsMessage) -> dict[str, Any]:
        raw = message.raw_message
        return {"consumer": self._name, "offset": raw.metadata.sequence.stream, "subject": raw.subject[:200]}


def identity(message: Msg) -> str:
    """Return what identifies a message of the stream: its offset and the time when it was stored.

    The offset alone is not enough: a recreated stream uses the same offsets again.
    """
    metadata = message.metadata
    return f"{metadata.stream}:{metadata.sequence.stream}:{metadata.timestamp.isoformat()}"


def faststream_options(settings: Settings, name: str) -> dict[str, Any]:
    """Return the options of a FastStream connection: those of every connection, under FastStream's names."""
    chosen = broker.options(settings, name)
    if "user" in chosen:
        chosen["security"] = SASLPlaintext(chosen.pop("user"), chosen.pop("password"))
    return {**chosen, "error_cb": broker.report, "apply_types": False, "logger": None}


async def _undecoded(message: NatsMessage) -> NatsMessage:
    """Return the message as it came. FastStream's own decoding would leave a malformed request without an answer."""
    return message
