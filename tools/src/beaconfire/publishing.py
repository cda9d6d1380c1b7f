"""Publish one event from the command line. It is checked against the deployment's catalogue before it is sent."""

import asyncio
import json
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from beaconfire_kit import broker
from beaconfire_kit.catalogue.addressing import NoSubject, subject_of
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.envelope import body
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.settings import Settings
from beaconfire_kit.subjects import is_membership, parse_subject

TIMEOUT_S = 10.0


class CannotPublish(Exception):
    """The event was not sent, or its publication was not confirmed. The text contains the reason."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An event to publish, as far as its form can be checked without the catalogue."""

    type: str
    payload: str
    """JSON. It is sent as it is."""
    subject: str | None
    """None: the payload has every id of the subject."""
    version: int | None
    """None: the newest version in the catalogue."""
    source: str


_NO_PAYLOAD = "there is no payload: give a JSON object after the type, '{}' if the event has no fields"


def wanted(words: Sequence[str], *, subject: str | None, version: int | None, source: str) -> Wanted:
    """Read the words of the command line: `[SUBJECT] TYPE [PAYLOAD]`. Raises CannotPublish, InvalidSubject."""
    given = list(words)
    if subject is None and len(given) == 3:
        subject = given.pop(0)
    if not 1 <= len(given) <= 2:
        raise CannotPublish("give a type and a payload, with the subject before them or in --subject")
    if subject is not None:
        parse_subject(subject.removeprefix(broker.EPHEMERAL_PREFIX))
        if is_membership(subject):
            raise CannotPublish(
                f"{subject} is a membership change, which only auth may publish: change the membership there"
            )
    return Wanted(given[0], read_payload(given[1] if len(given) == 2 else None), subject, version, source)


async def publish(settings: Settings, event: Wanted) -> str:
    """Publish an event. Return a sentence with its offset.

    Raises CannotPublish, and InvalidEvent for everything that a gateway would set aside; also BrokerRefused and the
    errors of the catalogue's store.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            nc = await broker.connect(settings, "cli", on_closed=lambda: None)
            try:
                subject, message = encoded(await newest_catalogue(nc), event)
                return await _send(nc, subject, message)
            finally:
                await broker.close(nc)
    except TimeoutError:
        raise CannotPublish(f"{settings.nats_url} did not confirm the event within {TIMEOUT_S:.0f} s") from None


def encoded(catalogue: Catalogue, event: Wanted) -> tuple[str, bytes]:
    """Return the event's subject and its message, with an id and a time. Raises CannotPublish, InvalidEvent."""
    event_type = _type_of(catalogue, event)
    subject = event.subject or _subject_of(event_type, json.loads(event.payload))
    if event_type.ephemeral:
        subject = broker.EPHEMERAL_PREFIX + subject.removeprefix(broker.EPHEMERAL_PREFIX)
    message = body(
        id_=uuid.uuid4().hex,
        type_=event_type.name,
        version=event_type.version,
        payload=event.payload,
        metadata={"timestamp": datetime.now(UTC).isoformat(), "source": event.source},
    )
    catalogue.check(subject, message)
    return subject, message


async def newest_catalogue(nc: Client) -> Catalogue:
    """Return the catalogue that counts for the next event. Raises CannotPublish if there is none."""
    store = CatalogueStore(nc)
    committed = await store.committed()
    if committed is None:
        raise CannotPublish("the deployment has no catalogue yet: run `beaconfire setup`")
    return await store.load(committed.revision)


def _type_of(catalogue: Catalogue, event: Wanted) -> EventType:
    versions = catalogue.types.get(event.type)
    if versions is None:
        near = get_close_matches(event.type, catalogue.types, n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"The types are {', '.join(sorted(catalogue.types))}"
        raise InvalidEvent("unknown_type", f"{event.type!r} is not a type of the catalogue. {hint}")
    version = max(versions) if event.version is None else event.version
    if version not in versions:
        known = ", ".join(map(str, sorted(versions)))
        raise InvalidEvent("unknown_version", f"the catalogue has {event.type} in version {known}")
    return versions[version]


def _subject_of(event_type: EventType, payload: Any) -> str:
    if not isinstance(payload, dict):
        raise InvalidEvent("invalid", "payload: expected an object")
    try:
        return subject_of(event_type, payload)
    except NoSubject as error:
        raise CannotPublish(f"{error} (--subject)") from None


async def _send(nc: Client, subject: str, message: bytes) -> str:
    if subject.startswith(broker.EPHEMERAL_PREFIX):
        await nc.publish(subject, message)
        await nc.flush()
        return "sent; an ephemeral event has no offset"
    return f"offset {await broker.publish(nc, subject, message, message_id=json.loads(message)['id'])}"


def read_payload(given: str | None) -> str:
    """Return the JSON of a payload: the text itself, that of a file (`@FILE`), or that of the standard input.

    Raises CannotPublish.
    """
    if given is None and sys.stdin.isatty():
        raise CannotPublish(_NO_PAYLOAD)
    payload = _read(given or "-")
    if not payload.strip():
        raise CannotPublish(_NO_PAYLOAD)
    try:
        json.loads(payload)
    except ValueError as error:
        raise CannotPublish(f"the payload is not JSON: {error}") from None
    return payload


def _read(payload: str) -> str:
    """Return the payload: the text itself, that of a file (`@FILE`), or that of the standard input (`-`)."""
    if payload == "-":
        return sys.stdin.read()
    if not payload.startswith("@"):
        return payload
    try:
        return Path(payload[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise CannotPublish(f"the payload's file {payload[1:]} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CannotPublish(f"the payload's file {payload[1:]} is not UTF-8") from None
