"""`POST /v1/events`: any event of the catalogue, one or a list, for services that speak no NATS.

The same way as any change of ours: into the outbox, relayed in order, once for each event id.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from services.publisher.answers import answer, idempotency_key
from services.publisher.fields import Body
from services.publisher.http import Access
from services.publisher.store import Row, Store, Writing
from shared import envelope, errors
from shared.catalogue import Event, Id, events
from shared.envelope import CorrelationId, Envelope, EventId, InvalidEvent, Metadata, Source
from shared.errors import BeaconfireError
from shared.inbox import digest
from shared.roles import Role
from shared.subjects import InvalidSubject, parse_subject
from shared.tokens import Claims, ServiceClaims, is_auths_own, may_publish
from shared.web import correlation_id, describe, read_bytes

MAX_EVENTS = 500
MAX_BYTES = 1024 * 1024


class GivenMetadata(Body):
    """What the publisher of an event says besides."""

    timestamp: AwareDatetime | None = None
    user_id: Id | None = None
    source: Source | None = None
    correlation_id: CorrelationId | None = None
    audience: tuple[Role, ...] | None = None


class GivenEvent(Body):
    """An event to publish. Its subject follows from type and payload."""

    id: EventId | None = None
    type: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    version: Annotated[int, Field(ge=1)] = 1
    payload: dict[str, Any]
    metadata: GivenMetadata = GivenMetadata()


class PublishedEvent(BaseModel):
    """What became of one event."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True)

    id: str
    subject: str
    offset: str | None = None
    """Its place in the stream, `<epoch>:<offset>`."""
    pending: bool = False
    """The broker has not acknowledged it yet; it will come."""
    repeated: bool = False
    """It was published before, and was not again."""


@dataclass(frozen=True, slots=True)
class _Refused:
    error: BeaconfireError


_Outcome = Envelope | _Refused


class Events:
    """The call that publishes events."""

    def __init__(self, access: Access, store: Store) -> None:
        self._access = access
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/events", self._publish)]

    async def _publish(self, request: web.Request) -> web.Response:
        author = await self._access.author(request)
        given = _read(await read_bytes(request, limit=MAX_BYTES))
        items = given if isinstance(given, list) else [given]
        key = idempotency_key(request, _name(author))
        prepared = [
            _prepare(item, author, correlation_id(request), _id(key, place)) for place, item in enumerate(items)
        ]
        outcomes = await self._permitted(author, prepared)
        repeated: set[str] = set()
        async with self._store.writing(Metadata(source="api")) as tx:  # each event has its own
            outcomes = [await _add(tx, one, repeated) for one in outcomes]
        headers = await self._store.place(tx)
        if isinstance(given, list):
            return answer({"events": [self._describe(one, repeated) for one in outcomes]}, headers)
        if isinstance(outcomes[0], _Refused):
            raise outcomes[0].error
        status = 200 if outcomes[0].id in repeated else 201
        return answer(self._describe(outcomes[0], repeated), headers, status=status)

    async def _permitted(self, author: Claims | ServiceClaims, prepared: Sequence[_Outcome]) -> list[_Outcome]:
        if isinstance(author, ServiceClaims):
            return [_check(one, lambda subject: may_publish(author, subject)) for one in prepared]
        roots = {_root(one.subject) for one in prepared if isinstance(one, Envelope)}
        allowed = await self._access.editable(author, sorted(roots))
        return [
            _check(one, lambda subject: _root(subject) in allowed and not is_auths_own(subject)) for one in prepared
        ]

    def _describe(self, outcome: _Outcome, repeated: set[str]) -> dict[str, Any]:
        if isinstance(outcome, _Refused):
            return {"error": outcome.error.body()}
        cursor = self._store.cursor_of(outcome.id)
        again = outcome.id in repeated
        told = PublishedEvent(
            id=outcome.id, subject=outcome.subject, offset=cursor, pending=not cursor and not again, repeated=again
        )
        return told.model_dump(mode="json", exclude_defaults=True)


def _read(body: bytes) -> Any:
    try:
        given = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BeaconfireError(errors.BAD_REQUEST, f"not JSON: {error}"[:300]) from None
    if isinstance(given, list) and not 0 < len(given) <= MAX_EVENTS:
        raise BeaconfireError(errors.BAD_REQUEST, f"a list has 1 to {MAX_EVENTS} events, not {len(given)}")
    if not isinstance(given, list | dict):
        raise BeaconfireError(errors.BAD_REQUEST, "expected an event or a list of events")
    return given


def _prepare(item: Any, author: Claims | ServiceClaims, correlation: str, id_: str | None) -> _Outcome:
    """The event as it would be published, or what is wrong with it."""
    try:
        given = GivenEvent.model_validate_json(json.dumps(item), by_name=False, by_alias=True)
        event = _event(given)
        metadata = _metadata(given.metadata, author, correlation)
        prepared = Envelope(event, metadata, *filter(None, [given.id or id_]))
        _check_whole(prepared)
    except BeaconfireError as error:
        return _Refused(error)
    except ValidationError as error:
        return _Refused(BeaconfireError(errors.BAD_REQUEST, describe(error)))
    return prepared


def _event(given: GivenEvent) -> Event:
    cls = events().get(given.type)
    if cls is None:
        raise BeaconfireError(errors.UNKNOWN_TYPE, f"type: {given.type[:80]!r} is not in the catalogue")
    if cls.ephemeral:
        raise BeaconfireError(errors.BAD_REQUEST, f"type: {given.type} is never stored; sockets send it")
    if given.version != cls.version:
        raise BeaconfireError(errors.BAD_REQUEST, f"version: {given.type} is at version {cls.version}")
    try:
        return cls.model_validate_json(json.dumps(given.payload), by_name=False, by_alias=True)
    except ValidationError as error:
        raise BeaconfireError(errors.BAD_REQUEST, f"payload.{describe(error)}") from None


def _metadata(given: GivenMetadata, author: Claims | ServiceClaims, correlation: str) -> Metadata:
    """A user speaks for themselves, a service in its own name, for whom it says."""
    is_service = isinstance(author, ServiceClaims)
    source = _source(author)
    user_id = given.user_id if is_service else _name(author)
    if given.source not in (None, source):
        raise BeaconfireError(errors.BAD_REQUEST, f"metadata.source: with this token it is {source}")
    if given.user_id not in (None, user_id):
        raise BeaconfireError(errors.BAD_REQUEST, "metadata.userId: with this token it is your own")
    return Metadata(
        timestamp=given.timestamp or datetime.now(UTC),
        user_id=user_id,
        source=source,
        correlation_id=given.correlation_id or correlation,
        audience=given.audience,
    )


def _source(author: Claims | ServiceClaims) -> str:
    if isinstance(author, Claims):
        return "api"
    # A service's name is an id; of a source, the first is a letter, and all are small.
    name = author.service.lower()
    return name if name[0].isalpha() else f"s{name}"[:64]


def _check_whole(prepared: Envelope) -> None:
    """What the gateways will check: that it is an event of its subject, and not too large."""
    try:
        parse_subject(prepared.subject)
        envelope.read(prepared.subject, prepared.encode())
    except InvalidSubject as error:
        raise BeaconfireError(errors.BAD_REQUEST, f"payload: {error}") from None
    except InvalidEvent as error:
        if error.reason == "too_large":
            raise BeaconfireError(errors.TOO_LARGE, error.detail) from None
        raise BeaconfireError(errors.BAD_REQUEST, f"payload: {error}") from None


def _check(one: _Outcome, allows: Callable[[str], bool]) -> _Outcome:
    if isinstance(one, Envelope) and not allows(one.subject):
        return _Refused(BeaconfireError(errors.FORBIDDEN, "this token may not publish this event there"))
    return one


async def _add(tx: Writing, one: _Outcome, repeated: set[str]) -> _Outcome:
    """Write an event, unless it was published before; then it counts as `repeated`."""
    if isinstance(one, _Refused):
        return one
    here = next((other for other in tx.envelopes if other.id == one.id), None)
    before = {"subject": here.subject, "body": here.encode()} if here else await tx.told(one.id)
    if before is None:
        tx.envelopes.append(one)
        return one
    if not _is_same(before, one):
        return _Refused(BeaconfireError(errors.CONFLICT, "another event was published under this id or key"))
    repeated.add(one.id)
    return one


def _is_same(before: Row, one: Envelope) -> bool:
    """Whether both say the same; when they say so may differ."""
    said, says = json.loads(before["body"]), json.loads(one.encode())
    return before["subject"] == one.subject and all(said[name] == says[name] for name in ("type", "version", "payload"))


def _root(subject: str) -> str:
    kind, id_ = subject.split(".")[:2]
    return f"{kind}:{id_}"


def _name(author: Claims | ServiceClaims) -> str:
    return author.user_id if isinstance(author, Claims) else author.service


def _id(key: str | None, place: int) -> str | None:
    """The id of an event of a request under a key: the same each time."""
    return None if key is None else digest(key, str(place))[:32]
