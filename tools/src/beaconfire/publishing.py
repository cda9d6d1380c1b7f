"""Publishing one event from the command line, checked before it is sent."""

import asyncio
import json
import uuid
from datetime import UTC, datetime

from pydantic import SecretStr

from beaconfire_kit import broker
from beaconfire_kit.catalogue import events
from beaconfire_kit.envelope import InvalidEvent, read
from beaconfire_kit.settings import Settings
from beaconfire_kit.subjects import is_membership, parse_subject

TIMEOUT_S = 10.0


class CannotPublish(Exception):
    """The event was not sent, or nobody confirmed it. The text says why."""


def message(subject: str, type_: str, payload: str, *, source: str) -> bytes:
    """The event as JSON, with an id and a time.

    Raises CannotPublish, InvalidSubject, InvalidEvent: what a gateway would set aside is not sent at all.
    """
    parse_subject(subject.removeprefix(broker.EPHEMERAL_PREFIX))
    if is_membership(subject):
        raise CannotPublish(f"{subject} tells of a membership change, which only auth may publish: change it there")
    cls = events().get(type_)
    if cls is None:
        raise InvalidEvent("unknown_type", f"{type_!r} is not in the catalogue: {', '.join(sorted(events()))}")
    try:
        content = json.loads(payload)
    except ValueError as error:
        raise CannotPublish(f"the payload is no JSON: {error}") from None
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
    """Send it and say what became of it: its offset, or that it has none. Raises CannotPublish, BrokerRefused."""
    settings = Settings(nats_url=nats_url, nats_user="publisher", nats_password=SecretStr(password))
    try:
        async with asyncio.timeout(TIMEOUT_S):
            nc = await broker.connect(settings, "cli", on_closed=lambda: None)
            try:
                if subject.startswith(broker.EPHEMERAL_PREFIX):
                    await nc.publish(subject, body)
                    await nc.flush()
                    return "sent; ephemeral events have no offset"
                return f"offset {await broker.publish(nc, subject, body, message_id=json.loads(body)['id'])}"
            finally:
                await broker.close(nc)
    except TimeoutError:
        raise CannotPublish(f"{nats_url} did not confirm it within {TIMEOUT_S:.0f} s") from None
