"""`POST /v1/events`: publish one event of the catalogue, or a list, for services that do not speak NATS.

Events take the same way as every change: into the outbox, then relayed in order, once per event id. The catalogue says
which types there are and what their payloads look like, so a type needs no class here. A payload is published as it
came.
"""

import asyncio
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, StringConstraints, ValidationError

from beaconfire_kit import errors
from beaconfire_kit.answers import answer, idempotency_key
from beaconfire_kit.catalogue.addressing import NoSubject, subject_of
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.catalogue_follower import CatalogueFollower
from beaconfire_kit.envelope import Envelope, EventId, Metadata, RawEvent, body
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.event import events
from beaconfire_kit.idempotency import Earlier, Key, key_of_event
from beaconfire_kit.inbox import digest
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.models import Body, CamelModel
from beaconfire_kit.roles import can_edit
from beaconfire_kit.store import Row
from beaconfire_kit.subjects import InvalidSubject, is_membership, parse_subject, root_name
from beaconfire_kit.tokens import Claims, ServiceClaims, may_publish
from beaconfire_kit.web import WHOLE, correlation_id, describe, read_bytes, whole
from beaconfire_publisher.access import Access
from beaconfire_publisher.given_events import (
    GivenMetadata,
    catalogue_with,
    check_item_size,
    check_time,
    kind_of,
    metadata_of,
    name_of,
    read_json,
    type_of,
)
from beaconfire_publisher.raw_payloads import raw_payloads
from beaconfire_publisher.store import Store, Writing

MAX_EVENTS = 500
MAX_BYTES = 1024 * 1024


class GivenEvent(Body):
    """An event to publish. `subject` may be left out if the payload has every id of the subject."""

    id: EventId | None = None
    type: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    version: Annotated[int, Field(ge=1), WHOLE] = 1
    subject: Annotated[str, StringConstraints(min_length=1, max_length=1_200)] | None = None
    payload: dict[str, Any]
    metadata: GivenMetadata = GivenMetadata()


class PublishedEvent(CamelModel):
    """The result for one event."""

    id: str
    subject: str
    offset: str | None = None
    """Its cursor, `<epoch>:<offset>`."""
    pending: bool = False
    """The broker has not acknowledged it yet. It will be published."""
    repeated: bool = False
    """It was published before, and is not published again."""


@dataclass(frozen=True, slots=True)
class _Refused:
    error: BeaconfireError


@dataclass(frozen=True, slots=True)
class _Repeated:
    """It was published before. The broker knows it as `message_id`."""

    id: str
    subject: str
    message_id: str


_Outcome = Envelope | _Refused | _Repeated


@dataclass(frozen=True, slots=True)
class _Rights:
    """The rights of a token: to publish on a subject, and to read what was published there."""

    may_publish: Callable[[str], bool]
    may_read: Callable[[str], bool]


class Events:
    """The HTTP call that publishes events."""

    def __init__(self, access: Access, store: Store, catalogues: CatalogueFollower) -> None:
        self._access = access
        self._store = store
        self._catalogues = catalogues

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/events", self._publish)]

    async def _publish(self, request: web.Request) -> web.Response:
        author = await self._access.author(request, max_body_bytes=MAX_BYTES)
        given, payloads = _read(await read_bytes(request, limit=MAX_BYTES))
        items = given if isinstance(given, list) else [given]
        key = idempotency_key(request, name_of(author), given, kind=kind_of(author))
        catalogue = await catalogue_with(self._catalogues, items)
        prepared = await _prepare_all(items, payloads, catalogue, author, correlation_id(request))
        rights = await self._rights(author, [one.subject for one in prepared if isinstance(one, Envelope)])
        user_id = author.user_id if isinstance(author, Claims) else None
        async with self._store.writing(Metadata(source="api", user_id=user_id)) as tx:  # each event has its own
            earlier = await tx.claim(key, {}) if key else None
            if earlier is None:
                outcomes = await _add_all(tx, prepared, author, rights, before=key.before if key else None)
            else:
                outcomes = [_check_readable(_recall(one), rights) for one in earlier.outcome["events"]]
            if not isinstance(given, list) and isinstance(outcomes[0], _Refused):
                raise outcomes[0].error  # its key can be used again
            if key is not None and earlier is None:
                await tx.settle({key.name: {"events": [_note(one) for one in outcomes]}})
        headers = await self._store.cursor_headers(tx)
        if isinstance(given, list):
            return answer({"events": [self._describe(one) for one in outcomes]}, headers)
        status = 200 if isinstance(outcomes[0], _Repeated) else 201
        return answer(self._describe(outcomes[0]), headers, status=status)

    async def _rights(self, author: Claims | ServiceClaims, subjects: Sequence[str]) -> _Rights:
        if isinstance(author, ServiceClaims):
            return _Rights(partial(may_publish, author), partial(may_publish, author))
        roles = await self._access.roles_in(author, sorted({root_name(subject) for subject in subjects}))

        def may_publish_there(subject: str) -> bool:
            role = roles.get(root_name(subject))
            return role is not None and can_edit(role) and not is_membership(subject)

        return _Rights(may_publish_there, lambda subject: root_name(subject) in roles)

    def _describe(self, outcome: _Outcome) -> dict[str, Any]:
        if isinstance(outcome, _Refused):
            return {"error": outcome.error.body()}
        cursor = self._store.cursor_of(outcome.message_id)
        again = isinstance(outcome, _Repeated)
        result = PublishedEvent(
            id=outcome.id, subject=outcome.subject, offset=cursor, pending=not cursor and not again, repeated=again
        )
        return result.model_dump(mode="json", exclude_defaults=True)


def _whole(value: Any) -> Any:
    """Return the JSON with `5` for `5.0`: both mean the same whole number."""
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return whole(value)


def _read(content: bytes) -> tuple[Any, list[str | None]]:
    """Return what the body has, and the text of each event's payload."""
    given = read_json(content)
    if isinstance(given, list) and not 0 < len(given) <= MAX_EVENTS:
        raise BeaconfireError(errors.BAD_REQUEST, f"a list has 1 to {MAX_EVENTS} events, not {len(given)}")
    if not isinstance(given, list | dict):
        raise BeaconfireError(errors.BAD_REQUEST, "expected an event or a list of events")
    return given, raw_payloads(content.decode())


async def _prepare_all(
    items: Sequence[Any],
    payloads: Sequence[str | None],
    catalogue: Catalogue,
    author: Claims | ServiceClaims,
    correlation: str,
) -> list[_Refused | Envelope]:
    """Prepare events one by one. A list of invalid events takes half a second: other requests get turns between."""
    prepared = []
    for item, payload in zip(items, payloads, strict=True):
        prepared.append(_prepare(item, payload, catalogue, author, correlation))
        await asyncio.sleep(0)
    return prepared


def _prepare(
    item: Any, payload: str | None, catalogue: Catalogue, author: Claims | ServiceClaims, correlation: str
) -> _Refused | Envelope:
    """Return the event as it would be published, or what is wrong with it."""
    try:
        check_item_size(item)
        given = GivenEvent.model_validate_json(json.dumps(item), by_name=False, by_alias=True)
        assert payload is not None
        check_time("metadata.timestamp", item.get("metadata", {}).get("timestamp"))
        event_type = type_of(given.type, given.version, catalogue)
        if event_type.ephemeral:
            raise BeaconfireError(
                errors.BAD_REQUEST,
                f"type: {given.type} is ephemeral and is never stored: send it to rooms with POST /v1/send",
            )
        event = RawEvent(given.type, given.version, _subject(given, event_type), payload)
        metadata = metadata_of(given.metadata, author, correlation)
        prepared = Envelope(event, metadata, given.id, uuid.uuid4().hex) if given.id else Envelope(event, metadata)
        _check_whole(event, item, prepared, catalogue)
    except BeaconfireError as error:
        return _Refused(error)
    except ValidationError as error:
        return _Refused(BeaconfireError(errors.BAD_REQUEST, describe(error)))
    return prepared


def _subject(given: GivenEvent, event_type: EventType) -> str:
    try:
        subject = given.subject or subject_of(event_type, given.payload)
        parse_subject(subject)
    except NoSubject as error:
        raise BeaconfireError(errors.BAD_REQUEST, str(error)) from None
    except InvalidSubject as error:
        raise BeaconfireError(errors.BAD_REQUEST, f"subject: {error}") from None
    return subject


def _check_whole(event: RawEvent, item: Any, prepared: Envelope, catalogue: Catalogue) -> None:
    """Check what the gateways will check: payload, subject, size, and that the metadata is unchanged by parsing."""
    said = {name: value for name, value in (item.get("metadata") or {}).items() if value is not None}
    metadata = {**prepared.metadata.model_dump(mode="json", exclude_none=True), **said}
    try:
        prepared.encode()
        as_given = body(
            id_=prepared.id, type_=event.type, version=event.version, payload=event.payload, metadata=metadata
        )
        catalogue.check(event.subject, as_given)
    except InvalidEvent as error:
        code = errors.TOO_LARGE if error.reason == "too_large" else errors.BAD_REQUEST
        raise BeaconfireError(code, error.detail) from None


async def _add_all(
    tx: Writing, prepared: Sequence[_Outcome], author: Claims | ServiceClaims, rights: _Rights, *, before: str | None
) -> list[_Outcome]:
    """Write the events that may be published and were not published before.

    `before` is what releases without the table of keys created under the request's own key.
    """
    keys = {one.message_id: _key(one, author) for one in prepared if isinstance(one, Envelope) and _is_named(one)}
    mine: dict[str, Key] = {}
    for one in prepared:
        if isinstance(one, Envelope) and one.message_id in keys and rights.may_publish(one.subject):
            mine.setdefault(keys[one.message_id].name, keys[one.message_id])
    used = await tx.claim_all(mine, {})
    used |= await tx.used({key.name for key in keys.values()} - mine.keys())
    ids = {one.message_id: _id_before(one, before, place) for place, one in _envelopes(prepared)}
    old = await tx.published_before(filter(None, ids.values()))
    settled: dict[str, Row] = {}

    def decide(one: Envelope) -> _Outcome:
        key = keys.get(one.message_id)
        if not rights.may_read(one.subject):
            return _may_not()
        row = old.get(ids[one.message_id] or "")
        if row is not None and _is_by(author, row, one):
            return _Repeated(one.id, row["subject"], row["event_id"]) if _is_same(row, one) else _id_taken()
        if key is not None and key.name in used:
            earlier = used[key.name]
            return _recall(earlier.outcome) if earlier.fingerprint in key.fingerprints else _id_taken()
        return one if rights.may_publish(one.subject) else _may_not()

    outcomes = list(prepared)
    for place, one in _envelopes(prepared):
        outcome = outcomes[place] = decide(one)
        if isinstance(outcome, Envelope):
            tx.envelopes.append(outcome)
        key = keys.get(one.message_id)
        if key is not None and key is mine.get(key.name) and key.name not in used:
            settled[key.name] = _note(outcome)
            used[key.name] = Earlier(settled[key.name], True, key.fingerprint)
    await tx.settle(settled)
    return outcomes


def _envelopes(outcomes: Iterable[_Outcome]) -> list[tuple[int, Envelope]]:
    return [(place, one) for place, one in enumerate(outcomes) if isinstance(one, Envelope)]


def _note(outcome: _Outcome) -> Row:
    """Return what to store of an outcome."""
    if isinstance(outcome, _Refused):
        return {"error": {"code": outcome.error.code.code, "message": outcome.error.message}}
    return {"id": outcome.id, "subject": outcome.subject, "messageId": outcome.message_id}


def _recall(noted: Row) -> _Refused | _Repeated:
    if (error := noted.get("error")) is not None:
        return _Refused(BeaconfireError(errors.row_of(error["code"], errors.BAD_REQUEST), error["message"]))
    return _Repeated(noted["id"], noted["subject"], noted["messageId"])


def _check_readable(one: _Refused | _Repeated, rights: _Rights) -> _Outcome:
    return _may_not() if isinstance(one, _Repeated) and not rights.may_read(one.subject) else one


def _is_named(one: Envelope) -> bool:
    """Return whether the publisher chose the event's id."""
    return one.id != one.message_id


def _key(one: Envelope, author: Claims | ServiceClaims) -> Key:
    return key_of_event(f"{kind_of(author)}:{name_of(author)}", one.id, subject=one.subject, events=_spellings(one))


def _spellings(one: Envelope) -> Sequence[Row]:
    """Return what an event says: as this release stores it, and as releases with a class for each type stored it."""
    said = json.loads(one.encode())
    payload = _whole(said["payload"])
    spellings = [{"type": said["type"], "version": said["version"], "payload": payload}]
    if cls := events().get(said["type"]):
        with suppress(ValidationError):
            before = cls.model_validate_json(json.dumps(payload), by_name=False, by_alias=True)
            spellings.append({**spellings[0], "payload": before.model_dump(mode="json")})
    return spellings


def _id_before(one: Envelope, before: str | None, place: int) -> str | None:
    """Return the id that the event has in the outbox if a release without the table of keys published it."""
    if _is_named(one):
        return one.id
    return None if before is None else digest(before, str(place))[:32]


def _is_by(author: Claims | ServiceClaims, row: Row, one: Envelope) -> bool:
    """Return whether an earlier release's row is this author's: another author may have chosen the same id."""
    said = json.loads(row["body"])["metadata"]
    is_their_source = said.get("source") == one.metadata.source
    return is_their_source and (isinstance(author, ServiceClaims) or said.get("userId") == author.user_id)


def _is_same(row: Row, one: Envelope) -> bool:
    """Return whether both events are equal except for their times."""
    said = json.loads(row["body"])
    stored = {name: said[name] for name in ("type", "version", "payload")}
    return row["subject"] == one.subject and stored in _spellings(one)


def _may_not() -> _Refused:
    return _Refused(BeaconfireError(errors.FORBIDDEN, "this token may not publish this event there"))


def _id_taken() -> _Refused:
    return _Refused(BeaconfireError(errors.CONFLICT, "you published another event under this id or key"))
