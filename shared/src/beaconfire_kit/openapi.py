"""OpenAPI 3.1 documents of services, made from the models that their calls use.

    CALLS = [Call("get", "/v1/things", "The caller's things", (), object_of(things=list_of("Thing")))]
    app.router.add_get(PATH, served(document(title="Things", about="…", calls=CALLS, schemas=…)))

What holds for every call stands here once: the errors that any call, or any with a body, may be answered with.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from beaconfire_kit import errors
from beaconfire_kit.errors import ErrorCode
from beaconfire_kit.subjects import ID_PATTERN
from beaconfire_kit.web import json_answer

VERSION = "3.1.0"
PATH = "/openapi.json"
REFERENCE = "#/components/schemas/{model}"
ID: Mapping[str, Any] = {"type": "string", "pattern": f"^{ID_PATTERN}$"}
IF_MATCH_PATTERN = '^(?:\\*|(?:W/)?"[0-9]{1,15}")$'
"""Values of `If-Match`: any revision, or one."""

# Headers and parameters of calls on things (`beaconfire_kit.answers`).
_CURSOR = {"type": "string", "pattern": "^[^:]+:[0-9]+$"}
TAG: dict[str, Any] = {"ETag": {"description": "The thing's revision", "schema": {"type": "string"}}}
READS: dict[str, Any] = {
    "X-Beaconfire-Cursor": {
        "description": "The response contains all changes up to this cursor: subscribe with it to continue live",
        "schema": _CURSOR,
    }
}
WRITES: dict[str, Any] = {
    "X-Beaconfire-Offset": {"description": "The place of this change's event in the stream", "schema": _CURSOR},
    "X-Beaconfire-Pending": {
        "description": "The id of the event, if the broker had not acknowledged it within 250 ms",
        "schema": {"type": "string"},
    },
}
IF_MATCH: Mapping[str, Any] = {
    "name": "If-Match",
    "in": "header",
    "description": "The revision on which the change is based. A field that was changed since then is a conflict. "
    "Without it, and with `*`, the last writer wins",
    "schema": {"type": "string", "pattern": IF_MATCH_PATTERN},
}
IDEMPOTENCY_KEY: Mapping[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same request under the same key reports the first outcome, and has no second effect. Another "
    "request under the same key is a conflict. Keys are kept for 8 days",
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
}

_OF_EVERY_CALL = (errors.UNAVAILABLE, errors.INTERNAL)
_WITH_A_BODY = (errors.BAD_REQUEST, errors.TIMEOUT, errors.TOO_LARGE)


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the document has it: `answer` and `body` are schemas, None for none. `is_open`: without a token."""

    method: str
    path: str
    summary: str
    errors: tuple[ErrorCode, ...]
    answer: Mapping[str, Any] | None
    status: int = 200
    body: Any = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    parameters: tuple[Mapping[str, Any], ...] = ()
    more_answers: Mapping[int, Any] = field(default_factory=dict)
    path_schemas: Mapping[str, Any] = field(default_factory=dict)
    """Schemas of the path's parameters by name; one that is not here is an id."""
    is_open: bool = False


ITSELF = Call("get", PATH, "This document", (), {"type": "object"}, is_open=True)


def document(
    *,
    title: str,
    about: str,
    bearer: str,
    calls: Iterable[Call],
    schemas: Mapping[str, Any],
    of_callers: tuple[ErrorCode, ...] = (),
) -> dict[str, Any]:
    """Return the whole document. `bearer` describes the calls' tokens, `of_callers` the answers to them."""
    paths: dict[str, Any] = {}
    for call in (ITSELF, *calls):
        paths.setdefault(call.path, {})[call.method] = _operation(call, (errors.TOKEN_INVALID, *of_callers))
    return {
        "openapi": VERSION,
        "info": {
            "title": title,
            "version": "1",
            "description": about,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": bearer}
            },
            "schemas": {**schemas, "Error": _error()},
        },
    }


def served(document: Mapping[str, Any]) -> Handler:
    """Return the handler of `GET /openapi.json`. It needs no token."""

    async def answer(_request: web.Request) -> web.Response:
        return json_answer(dict(document))

    return answer


def object_of(**properties: Any) -> dict[str, Any]:
    """An object with these properties, each of them required."""
    return {"type": "object", "required": list(properties), "properties": properties}


def list_of(model: str) -> dict[str, Any]:
    """A list of things of a model."""
    return {"type": "array", "items": reference(model)}


def reference(model: str) -> dict[str, Any]:
    """A model among the document's schemas."""
    return {"$ref": REFERENCE.format(model=model)}


def _operation(call: Call, of_callers: tuple[ErrorCode, ...]) -> dict[str, Any]:
    responses = {str(call.status): _response("Done", call.answer, call.headers)}
    for status, more in call.more_answers.items():
        responses[str(status)] = _response(more["description"], more["schema"], call.headers)
    wrong = dict.fromkeys(
        (
            *call.errors,
            *(() if call.is_open else of_callers),
            *(() if call.body is None else _WITH_A_BODY),
            *(() if call is ITSELF else _OF_EVERY_CALL),
        )
    )
    for status in sorted({error.status for error in wrong}):
        meanings = [f"`{error.code}`: {error.meaning}" for error in wrong if error.status == status]
        responses[str(status)] = _response(". ".join(meanings), reference("Error"), {})
    operation: dict[str, Any] = {
        "operationId": f"{call.method}_{_words(call.path)}",
        "summary": call.summary,
        "responses": responses,
    }
    names = [part[1:-1] for part in call.path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": call.path_schemas.get(name, ID)} for name in names
    ]
    if parameters or call.parameters:
        operation["parameters"] = [*parameters, *call.parameters]
    if call.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": call.body}}}
    if call.is_open:
        operation["security"] = []
    return operation


def _response(description: str, schema: Any, headers: Mapping[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": description}
    if headers:
        response["headers"] = dict(headers)
    if schema is not None:
        response["content"] = {"application/json": {"schema": schema}}
    return response


def _error() -> dict[str, Any]:
    return object_of(
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
                    "description": "The fields that were changed since the revision in If-Match",
                },
                "current": {"type": "object", "description": "The current thing"},
            },
        }
    )


def _words(path: str) -> str:
    return "_".join(part.strip("{}.").replace("-", "_").replace(".", "_") for part in path.split("/")[1:])
