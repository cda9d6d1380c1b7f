"""Read the stream with a temporary consumer, up to an offset that is known to exist (ADR 0002).

Because the last offset exists, whichever replica delivers it has everything below it. This uses the raw consumer API,
because it needs exact settings. They are: no acknowledgements, in memory, one replica, and idle heartbeats. The
delivery counter must not jump.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import nats.errors
from nats.aio.client import Client

from beaconfire_kit.broker import NS, STREAM

HEARTBEAT_S = 0.5
MAX_IDLE = 3
"""After so many idle heartbeats in a row, the last offset is gone, and no message is stored behind it."""
INACTIVE_S = 5
"""The server deletes a consumer that had no subscriber for so long."""
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
    heartbeat_s: float = HEARTBEAT_S,
    timeout_s: float,
) -> None:
    """Create a consumer that sends every message from an offset or a time on to `inbox`.

    With `subjects`, it sends only messages on these. Raises ReadFailed if the broker refuses it or does not answer.
    """
    config = {
        "name": name,
        "deliver_subject": inbox,
        "ack_policy": "none",
        "max_deliver": 1,
        "mem_storage": True,
        "num_replicas": 1,
        "idle_heartbeat": int(heartbeat_s * NS),
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
    """Checks that the deliveries of one consumer are complete."""

    __slots__ = ("_expected", "_idle")

    def __init__(self) -> None:
        self._expected = 1
        self._idle = 0

    def check(self, reply: bytes) -> tuple[int, float] | None:
        """Check the next delivery by its reply subject. Returns its offset, and when it was stored (Unix seconds).

        None if it is a heartbeat. Raises ReadFailed if a message is missing before it, or if no message is left to
        read.
        """
        if not reply.startswith(b"$JS.ACK."):
            self._idle += 1
            if self._idle >= MAX_IDLE:
                raise ReadFailed("no message is left to read")
            return None
        self._idle = 0
        # `$JS.ACK.<stream>.<consumer>.<n>.<offset>.<delivery>.<ns>.<pending>`, counted from the end: newer servers put
        # domain and account in front (NATS ADR-15).
        tokens = reply.split(b".")
        if int(tokens[-3]) != self._expected:
            raise ReadFailed("the consumer jumped")
        self._expected += 1
        return int(tokens[-4]), int(tokens[-2]) / NS
