"""Publish one event from the command line. It is validated before it is sent."""

import asyncio
import json
import uuid
from datetime import UTC, datetime

from pydantic import SecretStr

from beaconfire_kit import broker
from beaconfire_kit.envelope import InvalidEvent, read
from beaconfire_kit.event import events
from beaconfire_kit.settings import Settings
from beaconfire_kit.subjects import is_membership, parse_subject

TIMEOUT_S = 10.0


class CannotPublish(Exception):
    """The event was not sent, or its publication was not confirmed. The text contains the reason."""


def message(subject: str, type_: str, payload: str, *, source: str) -> bytes:
    """Return the event as JSON, with an id and a time.

    Raises CannotPublish, InvalidSubject, InvalidEvent for everything that a gateway would set aside.
    """
    parse_subject(subject.removeprefix(broker.EPHEMERAL_PREFIX))
    if is_membership(subject):
        raise CannotPublish(
            f"{subject} is a membership change, which only auth may publish: change the membership there"
        )
    cls = events().get(type_)
    if cls is None:
        raise InvalidEvent(
            "unknown_type", f"{type_!r} is not a type of the catalogue. The types are {', '.join(sorted(events()))}"
        )
    try:
        content = json.loads(payload)
    except ValueError as error:
        raise CannotPublish(f"the payload is not JSON: {error}") from None
    body = {
        "id": uuid.uuid4().hex,
        "type": type_,
        "version": cls.version,
        "payload": content,
        "metadata": {"timestamp": datetime.now(UTC).isoformat(), "source": source},
    }
    encoded = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    read(subject, encoded)
    return encoded


async def publish(nats_url: str, password: str, subject: str, body: bytes) -> str:
    """Publish the event. Return a sentence with its offset. Raises CannotPublish, BrokerRefused."""
    settings = Settings(nats_url=nats_url, nats_user="publisher", nats_password=SecretStr(password))
    try:
        async with asyncio.timeout(TIMEOUT_S):
            nc = await broker.connect(settings, "cli", on_closed=lambda: None)
            try:
                if subject.startswith(broker.EPHEMERAL_PREFIX):
                    await nc.publish(subject, body)
                    await nc.flush()
                    return "sent; an ephemeral event has no offset"
                return f"offset {await broker.publish(nc, subject, body, message_id=json.loads(body)['id'])}"
            finally:
                await broker.close(nc)
    except TimeoutError:
        raise CannotPublish(f"{nats_url} did not confirm the event within {TIMEOUT_S:.0f} s") from None
