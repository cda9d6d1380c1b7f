"""Publishes events to a gateway as services do, and reads them back."""

from datetime import UTC, datetime, timedelta
from typing import Any

from beaconfire_kit import broker
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.events.user import AccessRevoked, MemberChanged
from beaconfire_kit.roles import Role
from tests.client import SocketClient
from tests.conftest import connected
from tests.gateway.conftest import Gateway, settlement

BODY: dict[str, Any] = {
    "id": "e1",
    "type": "settlement_updated",
    "version": 1,
    "payload": {"campaignId": "c1", "settlementId": "s1", "operation": "update", "changedFields": ["level"]},
    "metadata": {"timestamp": "2026-11-21T10:00:00Z", "source": "go-service"},
}


async def raw_publish(gateway: Gateway, subject: str, body: bytes, headers: dict[str, str] | None = None) -> None:
    """Publish bytes on a subject, as a publisher in any language can."""
    await gateway.publisher.publish(subject, body, headers=headers)


async def fence(gateway: Gateway, client: SocketClient) -> list[dict[str, Any]]:
    """Publish one good event and return every event up to and including it."""
    last = await gateway.publish(settlement("fence"))
    events = []
    while True:
        event = await client.next("event")
        events.append(event)
        if event.get("offset") == last:
            return events


async def publish_as_auth(gateway: Gateway, event: MemberChanged | AccessRevoked) -> int:
    """Publish an event that only auth may publish; returns its offset."""
    envelope = Envelope(event, Metadata(source="auth"))
    async with connected(gateway.server, "auth") as nc:
        return await broker.publish(nc, envelope.subject, envelope.encode(), message_id=envelope.id)


def member(user: str, role: Role | None, *, version: int = 2, root: str = "c1") -> MemberChanged:
    """A change of a user's role in a campaign; `None` removes the user."""
    return MemberChanged(root_kind="campaign", root_id=root, user_id=user, role=role, membership_version=version)


def signed_out(user: str) -> AccessRevoked:
    """The user has signed out everywhere: every token of until now is revoked."""
    moment = datetime.now(UTC) + timedelta(seconds=1)
    return AccessRevoked(user_id=user, reason="signed_out_everywhere", issued_before=moment, membership_version=2)
