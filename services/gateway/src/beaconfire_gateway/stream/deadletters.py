"""Dead letters: messages that are not valid events, copied to `deadletter.<reason>` for operators.

A separate stream keeps them. Every gateway hears every message, and reads the last minute again when it starts. All
copies of one message carry the same `Nats-Msg-Id`, so the broker keeps only the first.
"""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

import nats.errors
from nats.aio.client import Client

from beaconfire_kit import logs, metrics
from beaconfire_kit.broker import DEADLETTER_PREFIX
from beaconfire_kit.cursor import Cursor
from beaconfire_kit.invalid_event import InvalidEvent

log = logs.get(__name__)

LOST = metrics.Counter(
    "beaconfire_gateway_deadletters_lost_total",
    "Dead letters (copies of invalid events) that could not be sent to the broker.",
)

HEADERS_BYTES = 2_048
"""Room left for our headers in the broker's limit. A longer body is cut; `Beaconfire-Bytes` has its whole length."""
MAX_HEADER = 300


class DeadLetters:
    """Sets invalid messages aside. `spawn` runs a publish in the background."""

    def __init__(self, nc: Client, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._nc = nc
        self._spawn = spawn

    def set_aside(self, error: InvalidEvent, subject: str, body: bytes, cursor: Cursor | None) -> None:
        """Copy an invalid message. `cursor` is its place in the stream, or None if it is not stored. Does not wait."""
        headers = {"Beaconfire-Subject": _line(subject), "Beaconfire-Detail": _line(error.detail)}
        if cursor is None:
            headers["Nats-Msg-Id"] = hashlib.sha256(subject.encode() + b"\0" + body).hexdigest()[:32]
        else:
            headers["Nats-Msg-Id"] = str(cursor)
            headers["Beaconfire-Offset"] = str(cursor.offset)
        most = self._nc.max_payload - HEADERS_BYTES
        if len(body) > most:
            headers["Beaconfire-Bytes"] = str(len(body))
        self._spawn(self._send(f"{DEADLETTER_PREFIX}{error.reason}", body[:most], headers))

    async def _send(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        try:
            await self._nc.publish(subject, body, headers=headers)
        except nats.errors.Error as problem:
            LOST.inc()
            log.warning("could not keep a dead letter", subject=subject, error=type(problem).__name__)


def _line(text: str) -> str:
    """Make a header value: one line of printable characters, cut to MAX_HEADER."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:MAX_HEADER])
