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

OnMessage = Callable[[int, Stored, float], None]
"""(offset, message, stored at in Unix seconds). Must not raise."""


@dataclass(frozen=True, slots=True)
class ReadingPolicy:
    """How long reads wait, and how much they ask for at once. Operators do not set this. Tests choose other values."""

    answer_s: float = 1.0
    """How long the broker may take for an answer."""
    tick_s: float = 1.0
    """How long it may take to acknowledge a tick."""
    heartbeat_s: float = HEARTBEAT_S
    silent_s: float = 2 * HEARTBEAT_S + 0.2  # two heartbeats missed
    """A consumer that sends nothing for this long is silent."""
    gets_at_once: int = 50
    """Single messages that are asked for at the same time."""


@dataclass(slots=True)
class _Progress:
    """The messages that a read has received, and when (on the loop's clock)."""

    last: int
    done: "asyncio.Future[None]"
    heard_at: float


class Reader:
    """Reads the stream over one connection. One for each gateway."""

    def __init__(self, nc: DirectClient, policy: ReadingPolicy | None = None) -> None:
        self._nc = nc
        self.policy = policy or ReadingPolicy()

    async def find_end(self) -> int | None:
        """Find where the stream ends: return a tick's offset, or None if the broker does not acknowledge the tick."""
        try:
            return await broker.tick(self._nc, timeout_s=self.policy.tick_s)
        except (broker.BrokerRefused, broker.NotAcknowledged) as error:
            log.debug("tick not acknowledged", reason=str(error))
            return None

    async def stream_state(self) -> broker.StreamState:
        """Ask the stream for its state. Waits for the broker as long as it takes."""
        return await broker.stream_state(self._nc)

    async def read(
        self,
        *,
        upto: int,
        on_message: OnMessage,
        after: int | None = None,
        since_s: float | None = None,
        subjects: Sequence[str] = (),
        enough: Callable[[], bool] = bool,
    ) -> int:
        """Read the stream in order, up to `upto`.

        It begins behind `after`, or `since_s` seconds ago by the broker's clock. Returns the offset through which the
        read is complete. `on_message` is called for each message that exists: offsets that it jumps over are gone.
        `upto` itself may be gone, because a message behind it ends the read, too. The read ends early if `enough`
        returns True after a message.

        With `subjects`, only messages on these subjects are read. `upto` must be on one of them, or the read does not
        end.

        Raises ReadFailed if the consumer is silent for `silent_s` seconds, has nothing left to send, jumps, or cannot
        be created. The messages received until then count: read again from behind the last one.
        """
        nc, policy = self._nc, self.policy
        name = f"read-{uuid.uuid4().hex}"
        inbox = nc.new_inbox()
        loop = asyncio.get_running_loop()
        start = after + 1 if after is not None else await self._moments_ago(since_s or 0)
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
            await create(
                nc,
                name,
                inbox,
                start=start,
                subjects=subjects,
                heartbeat_s=policy.heartbeat_s,
                timeout_s=policy.answer_s,
            )
            await _watch(progress, policy.silent_s)
            READS.labels("complete").inc()
            return progress.last
        except (ReadFailed, nats.errors.Error) as error:
            READS.labels("failed").inc()
            raise ReadFailed(str(error) or type(error).__name__) from error
        finally:
            await self._delete(name, subscription)

    async def get(self, *, after: int, upto: int, on_message: OnMessage) -> None:
        """Read (after, upto] message by message from the stream's leader, up to the first that it does not have.

        Use it for a few messages, and while no consumer can be created. In a cluster, creating one takes the cluster's
        leader, which may be missing while the stream has its own. A missing offset is not a proof, because the server
        that answers may have been the leader until a moment ago. Only `read` shows which messages are gone. It also
        stops before a message whose subject is not UTF-8, which only `read` returns unchanged. Raises ReadFailed if
        there is no answer.
        """
        at_once = self.policy.gets_at_once
        for first in range(after + 1, upto + 1, at_once):
            offsets = range(first, min(first + at_once, upto + 1))
            for offset, message in zip(offsets, await self._get(offsets), strict=True):
                if message is None or _is_changed(message):
                    return
                on_message(offset, *_stored(message))

    async def get_dated(self, offset: int) -> tuple[Stored, float] | None:
        """Return the message at `offset` and when it was stored (Unix seconds), None if it is not there.

        Bytes of its subject that are not UTF-8 are replaced. Raises ReadFailed if there is no answer.
        """
        (message,) = await self._get((offset,))
        return None if message is None else _stored(message)

    async def get_one(self, offset: int) -> Stored | None:
        """Return the message at `offset`, None if it is not there. Raises ReadFailed if there is no answer."""
        (message,) = await self._get((offset,))
        if message is None:
            return None
        if not _is_changed(message):
            return _stored(message)[0]
        found: list[Stored] = []
        await self.read(after=offset - 1, upto=offset, on_message=lambda _offset, stored, _at: found.append(stored))
        return found[0] if found else None

    async def _moments_ago(self, seconds: float) -> datetime:
        """Return the time by the broker's clock.

        Ours may be minutes ahead, and a read from the future never returns.
        """
        try:
            async with asyncio.timeout(self.policy.answer_s):
                state = await self.stream_state()
        except TimeoutError:
            raise ReadFailed("the broker did not send its time") from None
        return datetime.fromtimestamp(state.asked_at - seconds, UTC)

    async def _get(self, offsets: Sequence[int]) -> list[dict[str, Any] | None]:
        call = f"$JS.API.STREAM.MSG.GET.{STREAM}"
        requests = (json.dumps({"seq": offset}).encode() for offset in offsets)
        try:
            asked = (self._nc.request(call, request, timeout=self.policy.answer_s) for request in requests)
            answers = await asyncio.gather(*asked)
        except (nats.errors.Error, TimeoutError) as error:
            raise ReadFailed(str(error) or type(error).__name__) from error
        return [json.loads(answer.data).get("message") for answer in answers]

    async def _delete(self, name: str, subscription: Any) -> None:
        """Delete the consumer. If this does not arrive, the server deletes it after 5 s."""
        try:
            await self._nc.unsubscribe_direct(subscription)
            await self._nc.publish(f"$JS.API.CONSUMER.DELETE.{STREAM}.{name}", b"")
        except nats.errors.Error as error:
            log.debug("could not delete a consumer", error=type(error).__name__)


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


async def _watch(progress: _Progress, silent_s: float) -> None:
    """Wait until the read is done. Raises ReadFailed if the consumer falls silent."""
    loop = asyncio.get_running_loop()
    while True:
        silent_at = progress.heard_at + silent_s
        try:
            async with asyncio.timeout_at(silent_at):
                await asyncio.shield(progress.done)
                return
        except TimeoutError:
            if loop.time() >= progress.heard_at + silent_s:
                progress.done.cancel()
                raise ReadFailed("the consumer is silent") from None
