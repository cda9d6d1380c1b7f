"""The publisher's OpenAPI 3.1 document, made from the models that the calls themselves use."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.publisher.campaigns import Campaign, CampaignChanges, NewCampaign
from services.publisher.collection import Collection
from services.publisher.entities import Entities
from services.publisher.events_api import MAX_EVENTS, GivenEvent, PublishedEvent
from services.publisher.fields import Clock
from services.publisher.settlements import Settlements
from services.publisher.structures import Structures
from services.publisher.world_time import Advance
from shared import errors
from shared.errors import ErrorCode
from shared.web import json_answer

VERSION = "3.1.0"
PATH = "/openapi.json"
ABOUT = (
    "The reference domain service: campaigns and what is in them. Each change is told by an event that reaches every "
    "member's sockets. How revisions, cursors and keys work is in docs/reference/http.md."
)

_REF = "#/components/schemas/{model}"
_CURSOR = {"type": "string", "pattern": "^[^:]+:[0-9]+$"}
_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
_HEADERS: Mapping[str, dict[str, Any]] = {
    "ETag": {"description": "The thing's revision", "schema": {"type": "string"}},
    "X-Beaconfire-Cursor": {
        "description": "All that events up to here tell is in the answer: subscribe with it to go on live",
        "schema": _CURSOR,
    },
    "X-Beaconfire-Offset": {"description": "Where the event of this change is in the stream", "schema": _CURSOR},
    "X-Beaconfire-Pending": {
        "description": "The id of its event, where the broker had not acknowledged it within 250 ms",
        "schema": {"type": "string"},
    },
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "The revision this starts from; a field that was changed since is a conflict. Without it the last "
    "writer wins",
    "schema": {"type": "string"},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same request again under the same key tells what happened, and does nothing a second time; "
    "another request under it is a conflict. Keys are kept for 8 days",
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
}
_OF_EVERY_CALL = (errors.TOKEN_INVALID, errors.UNAVAILABLE, errors.INTERNAL)


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the document has it: `answer` and `body` are schemas, None for none."""

    method: str
    path: str
    summary: str
    errors: tuple[ErrorCode, ...]
    answer: Mapping[str, Any] | None
    status: int = 200
    body: Any = None
    headers: tuple[str, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    more_answers: Mapping[int, Any] = field(default_factory=dict)


_READS = ("X-Beaconfire-Cursor",)
_WRITES = ("X-Beaconfire-Offset", "X-Beaconfire-Pending")
_MEMBERS = (errors.BAD_REQUEST, errors.FORBIDDEN, errors.NOT_FOUND)
_WRITERS = (*_MEMBERS, errors.TOO_LARGE, errors.CONFLICT)


def document() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, Any] = {}
    for call in calls():
        paths.setdefault(call.path, {})[call.method] = _operation(call)
    return {
        "openapi": VERSION,
        "info": {
            "title": "Beaconfire publisher",
            "version": "1",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token of auth; for /v1/events also a service's token",
                }
            },
            "schemas": _schemas(),
        },
    }


async def answer(_request: web.Request) -> web.Response:
    """`GET /openapi.json`, for everybody."""
    return json_answer(document())


def calls() -> Iterator[Call]:
    """Every call of the publisher but the health endpoints."""
    yield Call("get", PATH, "This document", (), {"type": "object"})
    yield from _campaigns()
    for collection in (Settlements, Structures, Entities):
        yield from _collection(collection)
    yield _events()


def _campaigns() -> Iterator[Call]:
    things, thing = "/v1/campaigns", "/v1/campaigns/{campaign_id}"
    campaign = _object(campaign=_ref("Campaign"))
    yield Call("get", things, "The caller's campaigns", (), _object(campaigns=_list("Campaign")), headers=_READS)
    yield Call(
        "post",
        things,
        "Create a campaign; the caller is its owner when the answer arrives",
        (errors.BAD_REQUEST, errors.TOO_LARGE, errors.FORBIDDEN, errors.NOT_FOUND, errors.CONFLICT),
        campaign,
        201,
        _ref("NewCampaign"),
        ("ETag", *_WRITES),
        (_IDEMPOTENCY_KEY,),
    )
    yield Call("get", thing, "Read a campaign", _MEMBERS, campaign, headers=("ETag", *_READS))
    yield Call(
        "patch",
        thing,
        "Change a campaign (editors)",
        _WRITERS,
        campaign,
        body=_ref("CampaignChanges"),
        headers=("ETag", *_WRITES),
        parameters=(_IF_MATCH,),
    )
    yield Call(
        "delete",
        thing,
        "Delete a campaign and all that is in it (owners)",
        (*_MEMBERS, errors.CONFLICT),
        None,
        204,
        headers=_WRITES,
        parameters=(_IF_MATCH,),
    )
    yield Call(
        "post",
        f"{thing}/world-time",
        "Let world time pass (editors)",
        _WRITERS,
        _object(campaign=_ref("Campaign"), previousTime={"type": "string", "format": "date-time"}),
        body=_ref("Advance"),
        headers=("ETag", *_WRITES),
        parameters=(_IDEMPOTENCY_KEY,),
    )
    yield Call(
        "put",
        f"{thing}/clock",
        "Let world time pass by itself (editors)",
        _WRITERS,
        campaign,
        body=_ref("Clock"),
        headers=("ETag", *_WRITES),
    )
    yield Call("delete", f"{thing}/clock", "Stop the clock (editors)", _MEMBERS, None, 204, headers=_WRITES)


def _collection(of: type[Collection]) -> Iterator[Call]:
    one, many = of.word, of.plural
    thing = _object(**{one: _ref(of.answer.__name__)})
    chosen = tuple({"name": name, "in": "query", "schema": _ID} for name in of.filters)
    yield Call(
        "get",
        of.path,
        f"The {many}, oldest first",
        _MEMBERS,
        _object(**{many: _list(of.answer.__name__)}),
        headers=_READS,
        parameters=chosen,
    )
    yield Call(
        "post",
        of.path,
        f"Create {_a(one)} (editors)",
        (*_MEMBERS, errors.TOO_LARGE),
        thing,
        201,
        _ref(of.new.__name__),
        ("ETag", *_WRITES),
        (_IDEMPOTENCY_KEY,),
    )
    yield Call("get", of.thing_path, f"Read {_a(one)}", _MEMBERS, thing, headers=("ETag", *_READS))
    yield Call(
        "patch",
        of.thing_path,
        f"Change {_a(one)} (editors)",
        _WRITERS,
        thing,
        body=_ref(of.changes.__name__),
        headers=("ETag", *_WRITES),
        parameters=(_IF_MATCH,),
    )
    yield Call(
        "delete",
        of.thing_path,
        f"Delete {_a(one)} and what is in it (editors)",
        (*_MEMBERS, errors.CONFLICT),
        None,
        204,
        headers=_WRITES,
        parameters=(_IF_MATCH,),
    )


def _events() -> Call:
    given = _ref("GivenEvent")
    outcome = {"anyOf": [_ref("PublishedEvent"), _ref("Error")]}
    return Call(
        "post",
        "/v1/events",
        "Publish any event of the catalogue, one or a list",
        (errors.BAD_REQUEST, errors.UNKNOWN_TYPE, errors.FORBIDDEN, errors.CONFLICT, errors.TOO_LARGE),
        _ref("PublishedEvent"),
        201,
        {"anyOf": [given, {"type": "array", "items": given, "minItems": 1, "maxItems": MAX_EVENTS}]},
        _WRITES,
        (_IDEMPOTENCY_KEY,),
        {
            200: {
                "description": "It was published before; or what became of each event of a list, in its place",
                "schema": {"anyOf": [_ref("PublishedEvent"), _object(events={"type": "array", "items": outcome})]},
            }
        },
    )


def _operation(call: Call) -> dict[str, Any]:
    headers = {name: _HEADERS[name] for name in call.headers}
    responses = {str(call.status): _response("Done", call.answer, headers)}
    for status, more in call.more_answers.items():
        responses[str(status)] = _response(more["description"], more["schema"], headers)
    wrong = call.errors if call.path == PATH else (*call.errors, *_OF_EVERY_CALL)
    for status in sorted({error.status for error in wrong}):
        meanings = [f"`{error.code}`: {error.meaning}" for error in wrong if error.status == status]
        responses[str(status)] = _response(". ".join(meanings), _ref("Error"), {})
    operation: dict[str, Any] = {
        "operationId": f"{call.method}_{_words(call.path)}",
        "summary": call.summary,
        "responses": responses,
    }
    ids = [part[1:-1] for part in call.path.split("/") if part.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": _ID} for name in ids]
    if parameters or call.parameters:
        operation["parameters"] = [*parameters, *call.parameters]
    if call.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": call.body}}}
    if call.path == PATH:
        operation["security"] = []
    return operation


def _response(description: str, schema: Any, headers: Mapping[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": description}
    if headers:
        response["headers"] = dict(headers)
    if schema is not None:
        response["content"] = {"application/json": {"schema": schema}}
    return response


def _schemas() -> dict[str, Any]:
    """Every model, and the shape of an error."""
    sent: list[type[BaseModel]] = [NewCampaign, CampaignChanges, Advance, Clock, GivenEvent]
    told: list[type[BaseModel]] = [Campaign, PublishedEvent]
    for collection in (Settlements, Structures, Entities):
        sent += [collection.new, collection.changes]
        told.append(collection.answer)
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "validation") for model in sent),
        *((model, "serialization") for model in told),
    ]
    _, found = models_json_schema(modes, by_alias=True, ref_template=_REF)
    schemas: dict[str, Any] = found["$defs"]
    for name, schema in schemas.items():
        if name.endswith("Changes"):  # only what was sent counts: what is left out stays as it is
            for one in schema["properties"].values():
                one.pop("default", None)
    return {**schemas, "Error": _error()}


def _error() -> dict[str, Any]:
    return _object(
        error={
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"enum": [row.code for row in errors.TABLE]},
                "message": {"type": "string", "description": "What was wrong, and what to do"},
                "retryAfterMs": {"type": "integer"},
                "conflicts": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "The fields that somebody changed since the revision of If-Match",
                },
                "current": {"type": "object", "description": "The thing as it is now"},
            },
        }
    )


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(model: str) -> dict[str, Any]:
    return {"type": "array", "items": _ref(model)}


def _ref(model: str) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model)}


def _words(path: str) -> str:
    return "_".join(part.strip("{}").replace("-", "_").replace(".", "_") for part in path.split("/")[1:])


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"
