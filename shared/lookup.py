"""Looking up which messages the stream has, by their `Nats-Msg-Id`: for what the duplicate window no longer covers.

Read with a push consumer through a tick acknowledged just now: that exists, so whichever replica delivers it had
everything below (ADR 0002). Headers alone are sent.
"""

import json
import secrets
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from shared import broker
from shared.broker import NS, STREAM, TICK

HEARTBEAT_S = 0.5
SILENT_S = 2 * HEARTBEAT_S + 0.5
MAX_IDLE = 3
API_TIMEOUT_S = 2.0
TICK_TTL_S = 120
RATE_BITS_S = 400_000_000  # a long read must not fill the broker's buffer for this connection


class LookupFailed(Exception):
    """The stream could not be read to its end: nothing is known, ask again."""


def consumer(service: str) -> str:
    """The name of a service's consumer for this: its broker user may make and delete it, and no other."""
    return f"outbox-{service}"


async def find(nc: Client, service: str, subjects: Iterable[str], *, since: datetime) -> dict[str, int]:
    """The offset of every message stored on these subjects since then, by its `Nats-Msg-Id`.

    Needs to publish `tick`, and to make and delete `consumer(service)`. One at a time for each service.
    Waits for the broker as long as it takes; bound it with `asyncio.timeout`. Raises LookupFailed.
    """
    headers = {"Nats-TTL": f"{TICK_TTL_S}s"}
    body = secrets.token_bytes(8)  # no two ticks are alike, so that those of a restored stream are told apart
    upto = await broker.publish(nc, TICK, body, message_id=f"lookup-{uuid.uuid4().hex}", headers=headers)
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox)
    try:
        await _call(nc, f"DELETE.{STREAM}.{consumer(service)}", {})  # one that a crash left behind
        config = _config(consumer(service), inbox, sorted({*subjects, TICK}), since)
        call = f"CREATE.{STREAM}.{consumer(service)}"
        answer = await _call(nc, call, {"stream_name": STREAM, "action": "create", "config": config})
        if "error" in answer:
            raise LookupFailed(f"consumer refused: {answer['error'].get('description')}")
        return await _collect(subscription, upto)
    except nats.errors.Error as error:
        raise LookupFailed(str(error) or type(error).__name__) from error
    finally:
        await subscription.unsubscribe()  # the server deletes the consumer when nobody has listened for 5 s


def _config(name: str, inbox: str, subjects: list[str], since: datetime) -> dict[str, Any]:
    return {
        "name": name,
        "deliver_subject": inbox,
        "deliver_policy": "by_start_time",
        "opt_start_time": since.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "filter_subjects": subjects,
        "ack_policy": "none",
        "max_deliver": 1,
        "mem_storage": True,
        "num_replicas": 1,
        "headers_only": True,
        "idle_heartbeat": int(HEARTBEAT_S * NS),
        "inactive_threshold": 5 * NS,
        "rate_limit_bps": RATE_BITS_S,
    }


async def _call(nc: Client, call: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await nc.request(f"$JS.API.CONSUMER.{call}", json.dumps(body).encode(), timeout=API_TIMEOUT_S)
    return dict(json.loads(answer.data))


async def _collect(subscription: Subscription, upto: int) -> dict[str, int]:
    found: dict[str, int] = {}
    expected, idle = 1, 0
    while True:
        broker.check_cancelled()
        message = await subscription.next_msg(timeout=SILENT_S)
        if not message.reply.startswith("$JS.ACK."):
            idle += 1
            if idle >= MAX_IDLE:
                raise LookupFailed("nothing is left to read")
            continue
        idle = 0
        place = message.metadata.sequence
        if place.consumer != expected:
            raise LookupFailed("the consumer jumped")
        expected += 1
        message_id = (message.headers or {}).get("Nats-Msg-Id")
        if message_id and place.stream <= upto:
            found[message_id] = place.stream
        if place.stream >= upto:
            return found
