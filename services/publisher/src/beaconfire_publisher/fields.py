"""Types and limits of the fields in bodies and answers (docs/reference/http.md)."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

from beaconfire_kit.changes import MAX_KEYS
from beaconfire_kit.models import Body, CamelModel
from beaconfire_kit.web import LINE, WHOLE

MAX_TEXT = 1_000
MAX_WHOLE = 2**53 - 1  # the largest that a browser keeps exact

Name = Annotated[str, StringConstraints(max_length=200, pattern=LINE), AfterValidator(str.strip)]
Kind = Annotated[str, StringConstraints(max_length=64, pattern=LINE), AfterValidator(str.strip)]
Description = Annotated[
    str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")
]  # PostgreSQL does not accept NUL
Level = Annotated[int, Field(ge=0, le=100), WHOLE]
Population = Annotated[int, Field(ge=0, le=1_000_000_000), WHOLE]

DAY_S = 24 * 3600
YEAR_S = 365 * DAY_S
ElapsedSeconds = Annotated[int, Field(ge=1, le=YEAR_S), WHOLE]

Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Value = bool | int | float | str


def _check_value(value: object) -> Value:
    match value:
        case bool():
            return value
        case int() if abs(value) <= MAX_WHOLE:
            return value
        case float() if math.isfinite(value):  # more than documented: for JSON Schema, 1e20 is a whole number
            return value
        case str() if len(value) <= MAX_TEXT and "\0" not in value:
            return value
    raise ValueError(f"expected a number, true, false, or a text of at most {MAX_TEXT} characters")


def _check_change(value: object) -> Value | None:
    return None if value is None else _check_value(value)


_VALUES: list[dict[str, object]] = [
    {"type": "boolean"},
    {"type": "number", "minimum": -MAX_WHOLE, "maximum": MAX_WHOLE},
    {"type": "string", "maxLength": MAX_TEXT, "pattern": r"^[^\x00]*$"},
]
NO_OTHERS = {"additionalProperties": False}

Variables = Annotated[
    Mapping[Key, Annotated[Value, PlainValidator(_check_value), WithJsonSchema({"anyOf": _VALUES}, mode="validation")]],
    Field(max_length=MAX_KEYS, json_schema_extra=NO_OTHERS),
]
VariableChanges = Annotated[
    Mapping[
        Key,
        Annotated[
            Value | None,
            PlainValidator(_check_change),
            WithJsonSchema({"anyOf": [*_VALUES, {"type": "null"}]}, mode="validation"),
        ],
    ],
    Field(json_schema_extra=NO_OTHERS),
]
"""A key sets that variable, and None removes it. The merge checks how many variables result."""


class Clock(Body):
    """A campaign's running clock: every `every_s` seconds, `elapsed_seconds` of world time pass."""

    model_config = ConfigDict(serialize_by_alias=True)

    every_s: Annotated[int, Field(ge=1, le=DAY_S), WHOLE]
    elapsed_seconds: ElapsedSeconds


class Thing(CamelModel):
    """The fields that every thing in an answer has. It is created from a row."""

    id: str
    name: str
    revision: int
    created_at: datetime
    updated_at: datetime
