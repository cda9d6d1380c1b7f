"""Compile the schemas of payloads. No I/O.

validator = schemas.compile(event_type)
if not validator.is_valid(payload):
    place, problem = schemas.first_error(validator, payload)
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs

from beaconfire_kit.catalogue import patterns
from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.catalogue.keywords import LISTED, NAMED, ONE, Dialect

MASK = "…"
"""Stands in errors for values of the payload, which may be secret."""

_VALIDATORS: Mapping[str, type[jsonschema_rs.Validator]] = {
    "draft-07": jsonschema_rs.Draft7Validator,
    "2020-12": jsonschema_rs.Draft202012Validator,
}
# Eight times what a push accepts. So whatever another version's push accepted compiles in gateways.
_COMPILED_PATTERN_BYTES = 8 * patterns.MAX_BYTES
_BASE64 = "base64"
_DFA_BYTES = 256 * 1024  # of each pattern's cache; the library's default of 2 MiB would be too much for a thousand


def compile(event_type: EventType) -> jsonschema_rs.Validator:  # noqa: A001  (read as `schemas.compile`)
    """Return the validator of a type's payloads. It fetches nothing, checks formats, and its errors show no values.

    Equal schemas share one validator, even if they belong to several revisions. Ask it with `is_valid` and
    `first_error`: its `iter_errors` makes all errors before it returns the first, which takes a second for 32,000.
    """
    return compiled_schema(event_type.dialect, event_type.schema)


def compiled_schema(dialect: Dialect, schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    """As `compile`, for a schema that is not part of an event type. Raises ValueError if it cannot be compiled."""
    return _compiled(dialect, json.dumps(schema, sort_keys=True))


def first_error(validator: jsonschema_rs.Validator, payload: Any) -> tuple[str, str] | None:
    """Return where a payload is wrong (`items.3.kind`) and what is wrong, without its values. None if it is valid."""
    try:
        validator.validate(payload)
    except jsonschema_rs.ValidationError as error:
        return ".".join(map(str, error.instance_path)), _problem(error)
    return None


@lru_cache(maxsize=4_096)
def _compiled(dialect: Dialect, schema: str) -> jsonschema_rs.Validator:
    given = json.loads(schema)
    try:
        return _validator(dialect, without_contexts(given))
    except ValueError:
        return _validator(dialect, given)  # its error names the place in what was given


def _validator(dialect: Dialect, schema: Any) -> jsonschema_rs.Validator:
    options = jsonschema_rs.RegexOptions(size_limit=_COMPILED_PATTERN_BYTES, dfa_size_limit=_DFA_BYTES)
    formats = None
    if dialect == "2020-12":  # in which the library, unlike in draft-07, does not check encodings
        schema, formats = _with_formats(schema), {_BASE64: _is_base64}
    return _VALIDATORS[dialect](
        schema, offline=True, validate_formats=True, mask=MASK, pattern_options=options, formats=formats
    )


def _with_formats(schema: Any) -> Any:
    """Return the schema with a format of ours in the place of `contentEncoding: base64`."""
    if isinstance(schema, list):
        return [_with_formats(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if (key in NAMED or key in ("definitions", "$defs")) and isinstance(value, dict):
            found[key] = {name: _with_formats(one) for name, one in value.items()}
        else:
            found[key] = _with_formats(value) if key in ONE or key in LISTED else value
    if found.get("contentEncoding") == "base64":
        found["allOf"] = [*found.get("allOf", []), {"format": _BASE64}]
    return found


def _is_base64(text: str) -> bool:
    try:
        b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def without_contexts(schema: Any) -> Any:
    """Return an equivalent schema whose errors are cheap.

    When no branch of `anyOf` or `oneOf` fits, the library collects all errors of all branches: 320,000 of them for ten
    branches and a list of 32,000 numbers, in 10 s. Inside `not` it only asks whether a branch fits.
    """
    if isinstance(schema, list):
        return [without_contexts(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain: dict[str, Any] = {}
    wrapped: list[Any] = []
    for key, value in schema.items():
        if key in ("anyOf", "oneOf"):
            wrapped.append({"not": {"not": {key: value}}})
        elif (key in NAMED or key in ("definitions", "$defs")) and isinstance(value, dict):
            plain[key] = {name: without_contexts(one) for name, one in value.items()}
        elif key in ONE or key in LISTED:
            plain[key] = without_contexts(value)
        else:
            plain[key] = value
    if wrapped and isinstance(plain.get("allOf", []), list):
        plain["allOf"] = [*plain.get("allOf", []), *wrapped]
    return plain


def _problem(error: jsonschema_rs.ValidationError) -> str:
    match error.kind.name:
        case "not":
            forbidden = error.kind.schema.get("not") if isinstance(error.kind.schema, dict) else None  # type: ignore[attr-defined]
            if isinstance(forbidden, dict) and forbidden.keys() == {"anyOf"}:
                return "it fits none of the alternatives (anyOf)"
            if isinstance(forbidden, dict) and forbidden.keys() == {"oneOf"}:
                return "it does not fit exactly one of the alternatives (oneOf)"
            return "the schema forbids it (not)"
        case "propertyNames":
            return "the schema does not allow one of its keys (propertyNames)"
    return error.message
