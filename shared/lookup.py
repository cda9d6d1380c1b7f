"""Looking up which messages the stream has, by their `Nats-Msg-Id`: for what the duplicate window no longer covers.

Read through a tick acknowledged just now: that exists. Headers alone are sent.
"""

import secrets
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from shared import broker
from shared.broker import STREAM, TICK, TICK_TTL_S
from shared.reading import HEARTBEAT_S, Deliveries, ReadFailed, create

SILENT_S = 2 * HEARTBEAT_S + 0.5
API_TIMEOUT_S = 2.0


def consumer(service: str) -> str:
    """The name of a service's consumer for this: its broker user may make and delete it, and no other."""
    return f"outbox-{service}"


async def find(nc: Client, service: str, subjects: Iterable[str], *, since: datetime) -> dict[str, int]:
    """The offset of every message stored on these subjects since then, by its `Nats-Msg-Id`.

    Needs to publish `tick`, and to make and delete `consumer(service)`. One at a time for each service.
    Waits for the broker as long as it takes; bound it with `asyncio.timeout`. Raises ReadFailed: nothing is known
    then, ask again.
    """
    headers = {"Nats-TTL": f"{TICK_TTL_S}s"}
    body = secrets.token_bytes(8)  # no two ticks are alike, so that those of a restored stream are told apart
    # The rows were written by our clock, and the stream goes by the broker's.
    off = datetime.now(UTC) - datetime.fromtimestamp((await broker.stream_state(nc)).asked_at, UTC)
    since -= max(off, timedelta(0))
    upto = await broker.publish(nc, TICK, body, message_id=f"lookup-{uuid.uuid4().hex}", headers=headers)
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
        await subscription.unsubscribe()  # the server deletes the consumer when nobody listens any more


async def _collect(subscription: Subscription, upto: int) -> dict[str, int]:
    found: dict[str, int] = {}
    deliveries = Deliveries()
    while True:
        broker.check_cancelled()
        message = await subscription.next_msg(timeout=SILENT_S)
        delivery = deliveries.take(message.reply.encode())
        if delivery is None:
            continue
        offset, _ = delivery
        message_id = (message.headers or {}).get("Nats-Msg-Id")
        if message_id and offset <= upto:
            found[message_id] = offset
        if offset >= upto:
            return found
