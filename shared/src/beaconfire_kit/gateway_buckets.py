"""Define the buckets in which gateways keep records of clients for a while. A record outlives its gateway.

await BUCKETS["SOCKETIO_SESSIONS"].declare(nc, replicas=3)  # as user `setup`
records = KeyValue(nc, "SOCKETIO_SESSIONS")  # as user `gateway`

A bucket that is missing takes away only what its records are for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client

from beaconfire_kit.broker import BrokerRefused, NotAcknowledged
from beaconfire_kit.key_value import KeyValue, stream_of
from beaconfire_kit.seams.nats_connection import server_info

SOCKETIO_SESSIONS = "SOCKETIO_SESSIONS"
"""What recovers the session of a Socket.IO client: its user and its rooms, by the secret that the client has."""

SSE_TICKETS = "SSE_TICKETS"
"""What a browser's `EventSource` may hear, by the ticket in its address. Each record has a time of its own."""

BROKER_FAILURES = (BrokerRefused, NotAcknowledged, TimeoutError, nats.errors.Error)
"""What a call raises if the broker says no, or does not answer. A missing bucket is another thing (`BucketMissing`)."""
CALLS_AT_ONCE = 100
"""For each bucket of a gateway. Further ones wait: the broker drops calls of its API when thousands wait there."""


@dataclass(frozen=True, slots=True)
class GatewayBucket:
    """One of the buckets. Its records are lost without harm: clients start over."""

    name: str
    purpose: str
    """What does not work without it, for people."""
    kept_s: int
    """How long a record lives after it was last written."""
    max_records: int
    max_record_bytes: int

    @property
    def stream(self) -> str:
        """The stream that holds it."""
        return stream_of(self.name)

    async def declare(self, nc: Client, *, replicas: int) -> None:
        """Create the bucket or update it. If its storage must change, its records are deleted. Raises BrokerRefused."""
        await KeyValue(nc, self.name).declare_passing(
            replicas=replicas, kept_s=self.kept_s, max_keys=self.max_records, max_value_bytes=self.max_record_bytes
        )


BUCKETS: Mapping[str, GatewayBucket] = {
    bucket.name: bucket
    for bucket in (
        GatewayBucket(
            SOCKETIO_SESSIONS,
            "Socket.IO clients that lost their connection start over instead of recovering",
            # A gateway writes each record again after a minute. So one lives for at least two minutes after its
            # gateway died: as long as the default of Socket.IO's own servers.
            kept_s=180,
            max_records=200_000,
            max_record_bytes=32_768,
        ),
        GatewayBucket(
            SSE_TICKETS,
            "pages get no ticket for an EventSource",
            kept_s=86_400,  # a bound only: a token that lives longer needs a new ticket each day
            max_records=200_000,
            max_record_bytes=32_768,  # sealed: a token of 8 KiB with 100 long rooms, or with hundreds of types
        ),
    )
}


def broker_start(nc: Client) -> str:
    """Name the start of a single broker; empty in a cluster.

    A single broker writes records late. After a crash it may have an older record than the last. So a record from
    before its start may have been written again, or ended.
    """
    info = server_info(nc)
    return "" if info.get("cluster") else str(info.get("server_id", ""))
