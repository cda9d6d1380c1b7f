"""Reads of the stream: a part of it, single messages, and where it ends."""

import asyncio
import json
import uuid
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import nats.errors

from beaconfire_gateway.fanout.checking import Stored
from beaconfire_kit import broker, logs, metrics
from beaconfire_kit.broker import STREAM
from beaconfire_kit.reading import HEARTBEAT_S, Deliveries, ReadFailed, create
from beaconfire_kit.seams.nats_direct import DirectClient

log = logs.get(__name__)

READS = metrics.Counter("beaconfire_gateway_stream_reads_total", "Reads of the stream, by result.", ["result"])

SILENT_S = 2 * HEARTBEAT_S + 0.2  # two heartbeats missed
API_TIMEOUT_S = 1.0
GETS_AT_ONCE = 50

TICK_TIMEOUT_S = 1.0

OnMessage = Callable[[int, Stored, float], None]
"""(offset, message, stored at in Unix seconds). Must not raise."""


@dataclass(slots=True)
class _Progress:
    """What a read has received, and when (on the loop's clock)."""

    last: int
    done: "asyncio.Future[None]"
    heard_at: float


async def find_end(nc: DirectClient) -> int | None:
    """Find where the stream ends: return a tick's offset, or None if the broker does not acknowledge the tick."""
    try:
        return await broker.tick(nc, timeout_s=TICK_TIMEOUT_S)
    except (broker.BrokerRefused, broker.NotAcknowledged) as error:
        log.debug("tick not acknowledged", reason=str(error))
        return None


async def read(
    nc: DirectClient,
    *,
    upto: int,
    on_message: OnMessage,
    after: int | None = None,
    since_s: float | None = None,
    subjects: Sequence[str] = (),
    enough: Callable[[], bool] = bool,
) -> int:
    """Read the stream in order, from behind `after` (or from `since_s` seconds ago, by the broker's clock) to `upto`.

    Returns the offset through which the read is complete. `on_message` is called for each message that exists: offsets
    that it jumps over are gone. `upto` itself may be gone, because a message behind it ends the read, too. The read
    ends early if `enough` returns True after a message.

    With `subjects`, only messages on these subjects are read. `upto` must be on one of them, or the read does not end.

    Raises ReadFailed if the consumer is silent for 1.2 s, has nothing left to send, jumps, or cannot be created. The
    messages received until then count: read again from behind the last one.
    """
    name = f"read-{uuid.uuid4().hex}"
    inbox = nc.new_inbox()
    loop = asyncio.get_running_loop()
    start = after + 1 if after is not None else await _moments_ago(nc, since_s or 0)
    progress = _Progress(last=after or 0, done=loop.create_future(), heard_at=loop.time())
    deliveries = Deliveries()

    def hear(subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        progress.heard_at = loop.time()
        if progress.done.done():
            return
        try:
            delivery = deliveries.check(reply)
        except ReadFailed as error:
            progress.done.set_exception(error)
            return
        if delivery is None:
            return
        offset, stored_at = delivery
        if offset <= upto:
            on_message(offset, Stored.of(subject, body, headers), stored_at)
        progress.last = min(offset, upto)
        if offset >= upto or enough():
            progress.done.set_result(None)

    subscription = await nc.subscribe_direct(inbox, hear)
    try:
        await create(nc, name, inbox, start=start, subjects=subjects, timeout_s=API_TIMEOUT_S)
        await _watch(progress)
        READS.labels("complete").inc()
        return progress.last
    except (ReadFailed, nats.errors.Error) as error:
        READS.labels("failed").inc()
        raise ReadFailed(str(error) or type(error).__name__) from error
    finally:
        await _delete(nc, name, subscription)


async def _moments_ago(nc: DirectClient, seconds: float) -> datetime:
    """Return the time by the broker's clock. Ours may be minutes ahead, and a read from the future never returns."""
    try:
        async with asyncio.timeout(API_TIMEOUT_S):
            state = await broker.stream_state(nc)
    except TimeoutError:
        raise ReadFailed("the broker does not say what time it is") from None
    return datetime.fromtimestamp(state.asked_at - seconds, UTC)


async def get(nc: DirectClient, *, after: int, upto: int, on_message: OnMessage) -> None:
    """Read (after, upto] message by message from the stream's leader, up to the first that it does not have.

    Use it for a few messages, and while no consumer can be created. In a cluster, creating one takes the cluster's
    leader, which may be missing while the stream has its own. A missing offset proves nothing, because the server that
    answers may have been the leader until a moment ago: only `read` shows what is gone. It also stops before a message
    whose subject is not UTF-8, which only `read` returns unchanged. Raises ReadFailed if there is no answer.
    """
    for first in range(after + 1, upto + 1, GETS_AT_ONCE):
        offsets = range(first, min(first + GETS_AT_ONCE, upto + 1))
        for offset, message in zip(offsets, await _get(nc, offsets), strict=True):
            if message is None or _is_changed(message):
                return
            on_message(offset, *_stored(message))


async def get_one(nc: DirectClient, offset: int) -> Stored | None:
    """Return the message at `offset`, None if it is not there. Raises ReadFailed if there is no answer."""
    (message,) = await _get(nc, (offset,))
    if message is None:
        return None
    if not _is_changed(message):
        return _stored(message)[0]
    found: list[Stored] = []
    await read(nc, after=offset - 1, upto=offset, on_message=lambda _offset, stored, _at: found.append(stored))
    return found[0] if found else None


async def _get(nc: DirectClient, offsets: Sequence[int]) -> list[dict[str, Any] | None]:
    call = f"$JS.API.STREAM.MSG.GET.{STREAM}"
    requests = (json.dumps({"seq": offset}).encode() for offset in offsets)
    try:
        answers = await asyncio.gather(*(nc.request(call, request, timeout=API_TIMEOUT_S) for request in requests))
    except (nats.errors.Error, TimeoutError) as error:
        raise ReadFailed(str(error) or type(error).__name__) from error
    return [json.loads(answer.data).get("message") for answer in answers]


def _is_changed(message: dict[str, Any]) -> bool:
    """Whether the subject in the answer may differ from the message's own.

    The answer is JSON: nats-server writes U+FFFD for each byte that is not UTF-8, so the bytes are lost.
    """
    return "\ufffd" in message["subject"]


def _stored(message: dict[str, Any]) -> tuple[Stored, float]:
    """Read a message and when it was stored from an answer."""
    headers = b64decode(message["hdrs"]) if message.get("hdrs") else None
    stored = Stored.of(message["subject"].encode(), b64decode(message.get("data", "")), headers)
    return stored, datetime.fromisoformat(message["time"]).timestamp()


async def _watch(progress: _Progress) -> None:
    """Wait until the read is done. Raises ReadFailed if the consumer falls silent."""
    loop = asyncio.get_running_loop()
    while True:
        silent_at = progress.heard_at + SILENT_S
        try:
            async with asyncio.timeout_at(silent_at):
                await asyncio.shield(progress.done)
                return
        except TimeoutError:
            if loop.time() >= progress.heard_at + SILENT_S:
                progress.done.cancel()
                raise ReadFailed("the consumer is silent") from None


async def _delete(nc: DirectClient, name: str, subscription: Any) -> None:
    """Delete the consumer. If this does not arrive, the server deletes it after 5 s."""
    try:
        await nc.unsubscribe_direct(subscription)
        await nc.publish(f"$JS.API.CONSUMER.DELETE.{STREAM}.{name}", b"")
    except nats.errors.Error as error:
        log.debug("could not delete a consumer", error=type(error).__name__)
