"""Payload schemas: complete in themselves, bounded, compiled. No I/O."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs

from beaconfire_kit.catalogue.fragment import EventType

DIALECTS = {"draft-07": jsonschema_rs.Draft7Validator, "2020-12": jsonschema_rs.Draft202012Validator}
MASK = "…"
"""Stands in errors for values of the payload, which may be secret."""
# Four times what a push accepts. So whatever another version's push accepted compiles in gateways.
_PATTERN_BYTES = 4 * 65_536


def compile(event_type: EventType) -> jsonschema_rs.Validator:  # noqa: A001  (read as `schemas.compile`)
    """Return the validator of a type's payloads. It fetches nothing, checks formats, and its errors show no values.

    Equal schemas share one validator, even if they belong to several revisions.
    """
    return _compiled(event_type.dialect, json.dumps(event_type.schema, sort_keys=True))


@lru_cache(maxsize=4_096)
def _compiled(dialect: str, schema: str) -> jsonschema_rs.Validator:
    return DIALECTS[dialect](
        json.loads(schema),
        offline=True,
        validate_formats=True,
        mask=MASK,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES),
    )


def compiled_schema(dialect: str, schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    """As `compile`, for a schema that is not yet part of an event type."""
    return _compiled(dialect, json.dumps(schema, sort_keys=True))
