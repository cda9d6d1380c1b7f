"""Messages that are no event, kept for operators: copied to `deadletter.<reason>`, which a stream of its own keeps.

Every gateway hears every message, and hears the last minute again when it starts: the copies of one message carry one
`Nats-Msg-Id`, and the broker keeps the first.
"""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

import nats.errors
from nats.aio.client import Client

from shared import logs, metrics
from shared.broker import DEADLETTER_PREFIX
from shared.envelope import InvalidEvent

log = logs.get(__name__)

LOST = metrics.Counter(
    "beaconfire_gateway_deadletters_lost_total", "Dead letters that could not be handed to the broker."
)

HEADERS_BYTES = 2_048
"""Room for our headers in what the broker takes; a longer body is cut, `Beaconfire-Bytes` says from what."""
MAX_HEADER = 300


class DeadLetters:
    """Sets messages aside. `spawn` runs the sending."""

    def __init__(self, nc: Client, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._nc = nc
        self._spawn = spawn

    def set_aside(self, error: InvalidEvent, subject: str, body: bytes, place: tuple[str, int] | None) -> None:
        """Copy a refused message. `place` is the epoch and offset of one that is in the stream. Does not wait."""
        headers = {"Beaconfire-Subject": _line(subject), "Beaconfire-Detail": _line(error.detail)}
        if place is None:
            headers["Nats-Msg-Id"] = hashlib.sha256(subject.encode() + b"\0" + body).hexdigest()[:32]
        else:
            headers["Nats-Msg-Id"] = "{}:{}".format(*place)
            headers["Beaconfire-Offset"] = str(place[1])
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
    """As a header's value: one line of printable characters, cut."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:MAX_HEADER])
