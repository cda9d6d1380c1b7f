"""Read what the callers of `POST /v1/events` and `POST /v1/send` give: the type, the size, the metadata of an event."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import AwareDatetime, Field
from pydantic_core import from_json

from beaconfire_kit import errors
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.catalogue_follower import CatalogueFollower
from beaconfire_kit.envelope import CorrelationId, Metadata, Source, compact
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.event import Id
from beaconfire_kit.invalid_event import MAX_EVENT_BYTES, InvalidEvent, check_json
from beaconfire_kit.models import Body
from beaconfire_kit.roles import Role
from beaconfire_kit.tokens import Claims, ServiceClaims

MAX_ITEM_BYTES = MAX_EVENT_BYTES + 1_024
"""Limit of an event in a request. With `null` for missing fields it may be longer than the published event."""
_NUMBER = re.compile(r"[+-]?[0-9.]+")


class GivenMetadata(Body):
    """Metadata that the publisher of an event may give."""

    timestamp: AwareDatetime | None = None
    user_id: Id | None = None
    source: Source | None = None
    correlation_id: CorrelationId | None = None
    audience: Annotated[tuple[Role, ...], Field(fail_fast=True)] | None = None


def read_json(content: bytes) -> Any:
    """Return the JSON of a request's body. Raises BeaconfireError for JSON that parsers could read in two ways."""
    try:
        given = from_json(content, allow_inf_nan=False)
        check_json(content)
    except ValueError as error:
        why = error.detail if isinstance(error, InvalidEvent) else str(error)
        raise BeaconfireError(errors.BAD_REQUEST, f"not JSON: {why}"[:300]) from None
    return given


async def catalogue_with(catalogues: CatalogueFollower, items: Sequence[Any]) -> Catalogue:
    """Return the catalogue. The newest revision is read before a type is refused as unknown.

    If it cannot be read, the request is refused as a whole, because its key would keep the answers.
    """
    catalogue = catalogues.current
    if catalogue is None or not all(_is_known(catalogue, item) for item in items):
        catalogue = await catalogues.refresh()
    if catalogue is None:
        why = catalogues.why_not_ready() or "the catalogue was not read yet"
        raise BeaconfireError(errors.UNAVAILABLE, why, retry_after_ms=1_000)
    if not (catalogues.is_fresh or all(_is_known(catalogue, item) for item in items)):
        why = "the catalogue cannot be read now, and may have a type that is not known here"
        raise BeaconfireError(errors.UNAVAILABLE, why, retry_after_ms=1_000)
    return catalogue


def check_time(name: str, value: Any) -> None:
    """Refuse seconds since 1970 in a text: pydantic accepts them as a time, but JSON Schema does not."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        raise BeaconfireError(errors.BAD_REQUEST, f"{name}: expected a time like 2026-01-31T12:00:00Z")


def check_item_size(item: Any) -> None:
    """Refuse an event that is too large before it is validated: describing a megabyte of errors takes seconds."""
    if len(compact(item)) > MAX_ITEM_BYTES:
        raise BeaconfireError(errors.TOO_LARGE, f"an event has at most {MAX_EVENT_BYTES} bytes")


def type_of(name: str, version: int, catalogue: Catalogue) -> EventType:
    """Return a type of the catalogue. Raises BeaconfireError if it has no such type or version."""
    versions = catalogue.types.get(name)
    if versions is None:
        near = get_close_matches(name, catalogue.types, n=3)
        hint = f": did you mean {' or '.join(near)}?" if near else ""
        raise BeaconfireError(errors.UNKNOWN_TYPE, f"type: {name[:80]!r} is not in the catalogue{hint}")
    event_type = versions.get(version)
    if event_type is None:
        known = ", ".join(map(str, sorted(versions)))
        raise BeaconfireError(errors.BAD_REQUEST, f"version: the catalogue has {name} in version {known}")
    return event_type


def metadata_of(given: GivenMetadata, author: Claims | ServiceClaims, correlation: str) -> Metadata:
    """Return the metadata. A user publishes as themselves, a service as itself, for any user that it names."""
    is_service = isinstance(author, ServiceClaims)
    source = _source(author)
    user_id = given.user_id if is_service else name_of(author)
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
    return "api" if isinstance(author, Claims) else author.source


def name_of(author: Claims | ServiceClaims) -> str:
    """Return the id of a user, or the name of a service."""
    return author.user_id if isinstance(author, Claims) else author.service


def kind_of(author: Claims | ServiceClaims) -> str:
    """Return `user` or `service`."""
    return "user" if isinstance(author, Claims) else "service"


def _is_known(catalogue: Catalogue, item: Any) -> bool:
    """Return whether the catalogue has the type and version of an event. Whatever is no event counts as known."""
    if not isinstance(item, dict) or not isinstance(type_ := item.get("type"), str):
        return True
    version = item.get("version", 1)
    return not isinstance(version, int) or version in catalogue.types.get(type_, ())
