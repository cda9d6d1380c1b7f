"""Look up which messages the stream has, by their `Nats-Msg-Id`, beyond its duplicate window.

The read goes up to a tick that was acknowledged just now, because that exists. Only headers are sent.
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from beaconfire_kit import broker, logs
from beaconfire_kit.broker import STREAM, TICK, NotAcknowledged
from beaconfire_kit.reading import HEARTBEAT_S, Deliveries, ReadFailed, create

log = logs.get(__name__)

SILENT_S = 2 * HEARTBEAT_S + 0.5
API_TIMEOUT_S = 2.0
RETRY_S = 0.1


def consumer(service: str) -> str:
    """Name the only consumer that this service's broker user may make and delete."""
    return f"outbox-{service}"


async def find(nc: Client, service: str, subjects: Iterable[str], *, since: datetime) -> dict[str, int]:
    """Find every message stored on these subjects since then: its offset by its `Nats-Msg-Id`.

    The user must be allowed to publish `tick`, and to make and delete `consumer(service)`. Call it once at a time for
    each service. Waits for the broker as long as it takes; bound it with `asyncio.timeout`. Raises ReadFailed if
    nothing is known: call it again.
    """
    # The rows have timestamps of our clock, the stream those of the broker's.
    off = datetime.now(UTC) - datetime.fromtimestamp((await broker.stream_state(nc)).asked_at, UTC)
    since -= max(off, timedelta(0))
    upto = await _end(nc)
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox)
    name = consumer(service)
    try:
        left = f"$JS.API.CONSUMER.DELETE.{STREAM}.{name}"  # by a crash, if there is one
        await nc.request(left, b"{}", timeout=API_TIMEOUT_S)
        filters = sorted({*subjects, TICK})
        await create(nc, name, inbox, start=since, subjects=filters, headers_only=True, timeout_s=API_TIMEOUT_S)
        return await _collect(subscription, upto)
    except nats.errors.Error as error:
        raise ReadFailed(str(error) or type(error).__name__) from error
    finally:
        await subscription.unsubscribe()  # then the server deletes the consumer


async def _end(nc: Client) -> int:
    """Publish ticks until the broker acknowledges one, and return its offset."""
    while True:
        broker.check_cancelled()
        try:
            return await broker.tick(nc, timeout_s=API_TIMEOUT_S)
        except NotAcknowledged as error:
            log.warning("tick not acknowledged, trying again", reason=str(error))
        await asyncio.sleep(RETRY_S)


async def _collect(subscription: Subscription, upto: int) -> dict[str, int]:
    found: dict[str, int] = {}
    deliveries = Deliveries()
    while True:
        broker.check_cancelled()
        message = await subscription.next_msg(timeout=SILENT_S)
        delivery = deliveries.check(message.reply.encode())
        if delivery is None:
            continue
        offset, _ = delivery
        message_id = (message.headers or {}).get("Nats-Msg-Id")
        if message_id and offset <= upto:
            found[message_id] = offset
        if offset >= upto:
            return found
