"""OpenAPI documents held against what a service does: its routes, its answers, and which bodies it takes."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
from aiohttp import web

HEALTH = {"/healthz", "/readyz"}
Document = Mapping[str, Any]

_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("date-time")
def _is_date_time(text: object) -> bool:
    return not isinstance(text, str) or bool(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    )


@_FORMATS.checks("email")
def _is_email(text: object) -> bool:
    return not isinstance(text, str) or bool(re.fullmatch(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+", text))


def routes(app: web.Application) -> set[tuple[str, str]]:
    """Every call of an application except the health endpoints."""
    return {
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD" and route.resource.canonical not in HEALTH
    }


def described(document: Document) -> set[tuple[str, str]]:
    """Every call of a document."""
    return {(method, path) for path, calls in document["paths"].items() for method in calls}


def assert_described(document: Document, method: str, path: str, status: int, body: Any, headers: Any) -> None:
    """The answer is one that the document has for this call: status, body, and every header of ours."""
    operation = document["paths"][path][method]
    assert str(status) in operation["responses"], f"{method} {path}: {status} is not described"
    response = operation["responses"][str(status)]
    ours = {name.lower() for name in headers if name.lower().startswith("x-beaconfire-") or name == "ETag"}
    assert ours <= {name.lower() for name in response.get("headers", {})}
    if "content" not in response:
        assert not body
        return
    schema: dict[str, Any] = response["content"]["application/json"]["schema"]
    jsonschema.validate(body, {**schema, "components": document["components"]})


class Bodies:
    """The bodies that a document promises for a schema of its own, and some beside each of its bounds."""

    def __init__(self, document: Document, schema: Mapping[str, Any]) -> None:
        self._components = document["components"]
        self._schema = schema
        self._validator = self._of(schema)

    def promises(self, body: Any) -> bool:
        """Whether this body is promised to be taken."""
        return bool(self._validator.is_valid(body))

    def __iter__(self) -> Iterator[Any]:
        """Right ones and wrong ones, each once."""
        told = {json.dumps(value): value for value in self._around(self._schema)}
        yield from told.values()

    def _of(self, schema: Mapping[str, Any]) -> jsonschema.Draft202012Validator:
        return jsonschema.Draft202012Validator({**schema, "components": self._components}, format_checker=_FORMATS)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            schema = self._components["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema

    def _right(self, schema: Mapping[str, Any]) -> Any:
        """A value that is promised."""
        schema = self._resolved(schema)
        found = [schema["const"]] if "const" in schema else list(schema.get("enum", ()))
        for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            found.append(self._right(one))
        if schema.get("type") == "object":
            properties = schema.get("properties", {})
            found.append({name: self._right(properties[name]) for name in schema.get("required", ())})
        if schema.get("type") == "array":
            found.append([self._right(schema["items"])] * max(1, schema.get("minItems", 0)))
        found += [
            "x",
            "ann@mill.test",
            "2026-01-01T00:00:00Z",
            "long enough",
            "campaign",
            "campaign:c1",
            1,
            60,
            True,
            None,
        ]
        return next(value for value in found if self._of(schema).is_valid(value))

    def _around(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        """Values on both sides of what is promised."""
        schema = self._resolved(schema)
        yield from (None, True, 0, 1, -1, 5, 5.0, 5.5, "5", 2**53, "", " ", "\t", "a", "a b", "ü", "\x00", "a\nb")
        yield from ([], {}, [1], ["a"], {"a": 1}, "*", ".", "/", "ann@mill.test", "2026-01-01", "2026-01-01T00:00:00Z")
        yield from (*schema.get("enum", ()), *((schema["const"],) if "const" in schema else ()))
        for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
            yield from self._around(one)
        for bound in ("minimum", "maximum"):
            if bound in schema:
                yield from (schema[bound] - 1, schema[bound], schema[bound] + 1, float(schema[bound]))
        for bound in ("minLength", "maxLength"):
            if bound in schema:
                yield from ("x" * max(0, schema[bound] + more) for more in (-1, 0, 1))
        if schema.get("type") == "array" and "items" in schema:
            yield from ([one] for one in self._around(schema["items"]))
        if schema.get("type") == "object":
            yield from self._objects_around(schema)

    def _objects_around(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        right = self._right(schema)
        yield right
        yield {**right, "another": 1}
        for name in right:
            yield {key: value for key, value in right.items() if key != name}
        for name, one in schema.get("properties", {}).items():
            yield from ({**right, name: value} for value in self._around(one))
        for one in schema.get("patternProperties", {}).values():
            yield from ({"a": value} for value in self._around(one))
            yield from ({key: self._right(one)} for key in ("", "a" * 64, "a" * 65, "a b", "a.b", "ü", "A-_9"))
            yield from ({f"k{number}": 1 for number in range(count)} for count in (100, 101))
