"""The publisher's OpenAPI 3.1 document, generated from the models that the calls use."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from beaconfire_kit import errors, openapi
from beaconfire_kit.openapi import (
    IDEMPOTENCY_KEY,
    IF_MATCH,
    READS,
    TAG,
    WRITES,
    Call,
    list_of,
    object_of,
    reference,
)
from beaconfire_publisher.campaigns import Campaign, CampaignChanges, NewCampaign
from beaconfire_publisher.collection import Collection
from beaconfire_publisher.entities import Entities
from beaconfire_publisher.events_api import MAX_EVENTS, GivenEvent, PublishedEvent
from beaconfire_publisher.fields import Clock
from beaconfire_publisher.kingdoms import Kingdoms
from beaconfire_publisher.sending import GivenSend, SentAnswer
from beaconfire_publisher.settlements import Settlements
from beaconfire_publisher.structures import Structures
from beaconfire_publisher.world_time import Advance

ABOUT = (
    "The reference domain service: campaigns and everything in them. Each change publishes an event that reaches the "
    "sockets of every member. docs/reference/http.md explains revisions, cursors and idempotency keys."
)

_MEMBERS = (errors.BAD_REQUEST, errors.FORBIDDEN, errors.NOT_FOUND)
_WRITERS = (*_MEMBERS, errors.CONFLICT)
_COLLECTIONS: tuple[type[Collection], ...] = (Kingdoms, Settlements, Structures, Entities)


def document() -> dict[str, Any]:
    """Return the whole document."""
    return openapi.document(
        title="Beaconfire publisher",
        about=ABOUT,
        bearer="An access token of auth; for /v1/events also a service token, for /v1/send only that",
        calls=calls(),
        schemas=_schemas(),
        of_callers=(errors.TOO_MANY,),
    )


def calls() -> Iterator[Call]:
    """Yield every call of the publisher except the health endpoints and the document itself."""
    yield from _campaigns()
    yield from chain.from_iterable(map(_collection, _COLLECTIONS))
    yield _events()
    yield _send()


def _campaigns() -> Iterator[Call]:
    things, thing = "/v1/campaigns", "/v1/campaigns/{campaign_id}"
    campaign = object_of(campaign=reference("Campaign"))
    yield Call(
        "get", things, "List the caller's campaigns", (), object_of(campaigns=list_of("Campaign")), headers=READS
    )
    yield Call(
        "post",
        things,
        "Create a campaign; the caller is its owner when the response arrives",
        (errors.FORBIDDEN, errors.NOT_FOUND, errors.CONFLICT),
        campaign,
        201,
        reference("NewCampaign"),
        TAG | WRITES,
        (IDEMPOTENCY_KEY,),
    )
    yield Call("get", thing, "Read a campaign", _MEMBERS, campaign, headers=TAG | READS)
    yield Call(
        "patch",
        thing,
        "Change a campaign (editors)",
        _WRITERS,
        campaign,
        body=reference("CampaignChanges"),
        headers=TAG | WRITES,
        parameters=(IF_MATCH,),
    )
    yield Call(
        "delete",
        thing,
        "Delete a campaign and everything in it (owners)",
        (*_MEMBERS, errors.CONFLICT),
        None,
        204,
        headers=WRITES,
        parameters=(IF_MATCH,),
    )
    yield Call(
        "post",
        f"{thing}/world-time",
        "Advance world time (editors)",
        _WRITERS,
        object_of(campaign=reference("Campaign"), previousTime={"type": "string", "format": "date-time"}),
        body=reference("Advance"),
        headers=TAG | WRITES,
        parameters=(IDEMPOTENCY_KEY,),
    )
    yield Call(
        "put",
        f"{thing}/clock",
        "Start or change the clock that advances world time (editors)",
        _WRITERS,
        campaign,
        body=reference("Clock"),
        headers=TAG | WRITES,
    )
    yield Call("delete", f"{thing}/clock", "Stop the clock (editors)", _MEMBERS, None, 204, headers=WRITES)


def _collection(of: type[Collection]) -> Iterator[Call]:
    one, many = of.word, of.plural
    thing = object_of(**{one: reference(of.answer.__name__)})
    chosen = tuple({"name": to_camel(name), "in": "query", "schema": openapi.ID} for name in of.filters)
    yield Call(
        "get",
        of.path,
        f"List the {many}, oldest first",
        _MEMBERS,
        object_of(**{many: list_of(of.answer.__name__)}),
        headers=READS,
        parameters=chosen,
    )
    yield Call(
        "post",
        of.path,
        f"Create {_a(one)} (editors)",
        _WRITERS,
        thing,
        201,
        reference(of.new.__name__),
        TAG | WRITES,
        (IDEMPOTENCY_KEY,),
    )
    yield Call("get", of.thing_path, f"Read {_a(one)}", _MEMBERS, thing, headers=TAG | READS)
    yield Call(
        "patch",
        of.thing_path,
        f"Change {_a(one)} (editors)",
        _WRITERS,
        thing,
        body=reference(of.changes.__name__),
        headers=TAG | WRITES,
        parameters=(IF_MATCH,),
    )
    yield Call(
        "delete",
        of.thing_path,
        f"Delete {_a(one)} and everything in it (editors)",
        (*_MEMBERS, errors.CONFLICT),
        None,
        204,
        headers=WRITES,
        parameters=(IF_MATCH,),
    )


def _events() -> Call:
    given = reference("GivenEvent")
    outcome = {"anyOf": [reference("PublishedEvent"), reference("Error")]}
    return Call(
        "post",
        "/v1/events",
        "Publish one event of the catalogue, or a list",
        (errors.UNKNOWN_TYPE, errors.FORBIDDEN, errors.CONFLICT),
        reference("PublishedEvent"),
        201,
        {"anyOf": [given, {"type": "array", "items": given, "minItems": 1, "maxItems": MAX_EVENTS}]},
        WRITES,
        (IDEMPOTENCY_KEY,),
        {
            200: {
                "description": "The event was published before; or, for a list, the outcomes in the same order",
                "schema": {
                    "anyOf": [reference("PublishedEvent"), object_of(events={"type": "array", "items": outcome})]
                },
            }
        },
    )


def _send() -> Call:
    return Call(
        "post",
        "/v1/send",
        "Send an ephemeral event to rooms and sessions, with a service token",
        (errors.UNKNOWN_TYPE, errors.BAD_ROOM, errors.FORBIDDEN),
        reference("SentAnswer"),
        202,
        reference("GivenSend"),
    )


def _schemas() -> dict[str, Any]:
    """Return every model."""
    sent: list[type[BaseModel]] = [NewCampaign, CampaignChanges, Advance, Clock, GivenEvent, GivenSend]
    answers: list[type[BaseModel]] = [Campaign, PublishedEvent, SentAnswer]
    for collection in _COLLECTIONS:
        sent += [collection.new, collection.changes]
        answers.append(collection.answer)
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in sent),
        *((model, "serialization") for model in answers),
    ]
    _, found = models_json_schema(modes, by_alias=True, ref_template=openapi.REFERENCE)
    schemas: dict[str, Any] = found["$defs"]
    for name, schema in schemas.items():
        if name.endswith("Changes"):  # only the sent fields count; the others stay as they are
            for one in schema["properties"].values():
                one.pop("default", None)
    return schemas


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
