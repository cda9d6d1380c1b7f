"""Check the schemas of variables, and variables against their schemas.

A settlement or a structure may have a JSON Schema for each of its variables. A value that breaks its schema is refused,
and so is a schema that a present value breaks.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema

from beaconfire_kit import errors
from beaconfire_kit.catalogue import schema_cost, schemas
from beaconfire_kit.catalogue.keywords import Dialect
from beaconfire_kit.changes import MAX_KEYS
from beaconfire_kit.errors import BeaconfireError
from beaconfire_publisher.fields import NO_OTHERS, Key

MAX_SCHEMA = 2_000
MAX_DEPTH = 10
DIALECT: Dialect = "2020-12"
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef", "$id", "$anchor", "$dynamicAnchor"})

Schema = Mapping[str, Any]


def check_schema(value: object) -> Schema:
    """Return the schema of a variable. Raises ValueError with what is wrong."""
    if not isinstance(value, Mapping):
        raise ValueError("expected a JSON Schema as an object")
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("a number in the schema is too large") from None
    if len(text) > MAX_SCHEMA:
        raise ValueError(f"a variable's schema has at most {MAX_SCHEMA} characters, this one {len(text)}")
    if "\\u0000" in text:
        raise ValueError("a schema has no NUL characters")
    _check_parts(value, MAX_DEPTH)
    try:
        schemas.compiled_schema(DIALECT, value)
    except ValueError as error:
        where = "".join(f".{step}" for step in getattr(error, "instance_path", ()))
        why = getattr(error, "message", str(error)).replace(schemas.MASK, "the value")
        raise ValueError(f"not a JSON Schema{f', at {where[1:]}' if where else ''}: {why}"[:300]) from None
    if problem := schema_cost.too_costly(value):
        raise ValueError(problem)
    return value


def check_variables(
    variables: Mapping[str, Any], variable_schemas: Mapping[str, Schema], changed: Iterable[str]
) -> None:
    """Raise BeaconfireError for a variable that its schema does not allow. `changed` are the `changedFields`."""
    by_schema = {name.partition(".")[2] for name in changed if name.startswith("variableSchemas.")}
    by_value = {name.partition(".")[2] for name in changed if name.startswith("variables.")}
    for name in sorted(by_schema | by_value):
        if name in variables and name in variable_schemas:
            _check_variable(name, variables[name], variable_schemas[name], has_new_value=name in by_value)


def _check_variable(name: str, value: Any, schema: Schema, *, has_new_value: bool) -> None:
    error = schemas.first_error(schemas.compiled_schema(DIALECT, schema), value)
    if error is None:
        return
    why = error[1].replace(schemas.MASK, "the value")
    if has_new_value:
        raise BeaconfireError(errors.BAD_REQUEST, f"variables.{name}: {why} (variableSchemas.{name})"[:300])
    raise BeaconfireError(
        errors.BAD_REQUEST,
        f"variableSchemas.{name}: the present value of variables.{name} breaks this schema: {why}. "
        "Change the variable in the same request, or before"[:400],
    )


def _check_parts(value: object, depth: int) -> None:
    if not isinstance(value, Mapping | list):
        return
    if not depth:
        raise ValueError(f"a variable's schema is at most {MAX_DEPTH} deep")
    if isinstance(value, Mapping) and (found := sorted(_REFERENCES & value.keys())):
        raise ValueError(f"a variable's schema has no {found[0]}: write out what it refers to")
    for one in value.values() if isinstance(value, Mapping) else value:
        _check_parts(one, depth - 1)


def _check_change(value: object) -> Schema | None:
    return None if value is None else check_schema(value)


_SCHEMA = {
    "type": "object",
    "description": f"A JSON Schema (2020-12) without references, of at most {MAX_SCHEMA} characters",
}

VariableSchemas = Annotated[
    Mapping[Key, Annotated[Schema, PlainValidator(check_schema), WithJsonSchema(_SCHEMA, mode="validation")]],
    Field(max_length=MAX_KEYS, json_schema_extra=NO_OTHERS),
]
VariableSchemaChanges = Annotated[
    Mapping[
        Key,
        Annotated[
            Schema | None,
            PlainValidator(_check_change),
            WithJsonSchema({"anyOf": [_SCHEMA, {"type": "null"}]}, mode="validation"),
        ],
    ],
    Field(json_schema_extra=NO_OTHERS),
]
"""A key sets the schema of that variable, and None removes it."""
