"""Reading the stream with a consumer made for it, up to an offset that is known to exist (ADR 0002).

Because the last offset exists, whichever replica delivers it had everything below. Raw consumer API, because what is
wanted is exact: ack none, in memory, one replica, idle heartbeats, a delivery counter that must not jump.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import nats.errors
from nats.aio.client import Client

from beaconfire_kit.broker import NS, STREAM

HEARTBEAT_S = 0.5
MAX_IDLE = 3
"""Idle heartbeats in a row that say: the last offset is gone, and nothing came behind it."""
INACTIVE_S = 5
"""The server deletes a consumer that nobody has listened to for so long."""
RATE_BITS_S = 400_000_000  # 50 MB/s: a long read must not fill the broker's buffer for this connection (64 MB)


class ReadFailed(Exception):
    """The read ended before its last offset: try again."""


async def create(
    nc: Client,
    name: str,
    inbox: str,
    *,
    start: int | datetime,
    subjects: Sequence[str] = (),
    headers_only: bool = False,
    timeout_s: float,
) -> None:
    """Make a consumer that sends everything from an offset or a time on to `inbox`; with `subjects`, what is on those.

    Raises ReadFailed where it is refused, or where nobody answers.
    """
    config = {
        "name": name,
        "deliver_subject": inbox,
        "ack_policy": "none",
        "max_deliver": 1,
        "mem_storage": True,
        "num_replicas": 1,
        "idle_heartbeat": int(HEARTBEAT_S * NS),
        "inactive_threshold": INACTIVE_S * NS,
        "rate_limit_bps": RATE_BITS_S,
        "headers_only": headers_only,
    }
    if subjects:
        config["filter_subjects"] = list(subjects)
    if isinstance(start, datetime):
        time = start.astimezone(UTC).isoformat().replace("+00:00", "Z")
        config |= {"deliver_policy": "by_start_time", "opt_start_time": time}
    else:
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": start}
    request = json.dumps({"stream_name": STREAM, "action": "create", "config": config}).encode()
    try:
        answer = await nc.request(f"$JS.API.CONSUMER.CREATE.{STREAM}.{name}", request, timeout=timeout_s)
    except nats.errors.Error as error:
        raise ReadFailed(str(error) or type(error).__name__) from error
    if "error" in (said := json.loads(answer.data)):
        raise ReadFailed(f"consumer refused: {said['error'].get('description')}")


class Deliveries:
    """Watches over what one consumer sends."""

    __slots__ = ("_expected", "_idle")

    def __init__(self) -> None:
        self._expected = 1
        self._idle = 0

    def take(self, reply: bytes) -> tuple[int, float] | None:
        """The offset of a message, and when it was stored (Unix seconds), by its reply subject; None: a heartbeat.

        Raises ReadFailed where a message is missing before it, or nothing is left to read.
        """
        if not reply.startswith(b"$JS.ACK."):
            self._idle += 1
            if self._idle >= MAX_IDLE:
                raise ReadFailed("nothing is left to read")
            return None
        self._idle = 0
        # `$JS.ACK.<stream>.<consumer>.<n>.<offset>.<delivery>.<ns>.<pending>`, counted from the end: newer servers put
        # domain and account in front (NATS ADR-15).
        tokens = reply.split(b".")
        if int(tokens[-3]) != self._expected:
            raise ReadFailed("the consumer jumped")
        self._expected += 1
        return int(tokens[-4]), int(tokens[-2]) / NS
