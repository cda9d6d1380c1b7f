"""Shapes are never narrower than the schemas that they are read from."""

from collections.abc import Mapping
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beaconfire.derived.payload_shapes import payload_shapes
from beaconfire.derived.shapes import Choice, ListOf, Literals, Named, Primitive, Record, Shape
from beaconfire_kit.catalogue import schemas
from beaconfire_kit.catalogue.fragment import EventType

NAMES = ("a", "b", "c")
SCALARS = (None, True, False, 0, 1, 2.5, "x", "y")


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    required = st.lists(st.sampled_from(NAMES), unique=True, max_size=2)
    return st.builds(
        lambda properties, required, more: {
            "type": "object",
            "properties": properties,
            "required": required,
            **({} if more is None else {"additionalProperties": more}),
        },
        properties,
        required,
        st.none() | st.booleans() | inner,
    )


def _combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    objects = st.lists(_objects(inner), min_size=1, max_size=2)
    return st.one_of(
        st.builds(lambda one: {"type": "array", "items": one}, inner),
        st.builds(lambda first: {"type": "array", "items": first, "minItems": 1}, several),
        _objects(inner),
        st.builds(lambda word, them: {word: them}, st.sampled_from(["anyOf", "oneOf", "allOf"]), several),
        st.builds(lambda one, them: {**one, "anyOf": them}, _objects(inner), objects),
        st.builds(lambda one, them: {**one, "allOf": them}, _objects(inner), objects),
    )


LEAVES = st.one_of(
    st.booleans(),
    st.just({}),
    st.sampled_from(["string", "integer", "number", "boolean", "null"]).map(lambda type_: {"type": type_}),
    st.lists(st.sampled_from(SCALARS), min_size=1, max_size=3).map(lambda values: {"enum": values}),
    st.sampled_from(SCALARS).map(lambda value: {"const": value}),
    st.just({"$ref": "#/definitions/one"}),
    st.just({"$ref": "#/definitions/two"}),
    st.lists(st.sampled_from(["string", "integer", "null", "object"]), min_size=1, max_size=2, unique=True).map(
        lambda types: {"type": types}
    ),
)
SCHEMAS = st.recursive(LEAVES, _combined, max_leaves=6)
DEFINITIONS = _objects(SCHEMAS) | st.sampled_from(
    [{"type": "string"}, {"enum": ["x", 1]}, {"type": ["null", "number"]}]
)
"""Their references are inside objects. A push refuses a schema that is nothing but itself."""


def fitting(schema: Any, random: Random, definitions: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a value that probably fits a schema: of alternatives it takes one, and it makes what is required."""
    if not isinstance(schema, dict) or not schema or depth > 5:
        return random.choice([*SCALARS, [], {}])
    if "$ref" in schema:
        return fitting(definitions[schema["$ref"].rpartition("/")[2]], random, definitions, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return random.choice(schema["enum"])
    plain = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf", "allOf")}
    chosen = [random.choice(schema[word]) for word in ("anyOf", "oneOf") if word in schema] + schema.get("allOf", [])
    values = [fitting(one, random, definitions, depth + 1) for one in (*([plain] if plain else []), *chosen)]
    if chosen:
        objects = [one for one in values if isinstance(one, dict)]
        return {key: one for value in objects for key, one in value.items()} if objects else values[0]
    types = schema["type"]
    match random.choice(types) if isinstance(types, list) else types:
        case "object":
            properties = schema.get("properties", {})
            wanted = {name for name in properties if random.random() < 0.6} | set(schema.get("required", ()))
            wanted |= {name for name in NAMES if random.random() < 0.1}
            other = schema.get("additionalProperties", True)
            return {name: fitting(properties.get(name, other), random, definitions, depth + 1) for name in wanted}
        case "array":
            items = schema["items"]
            first = items if isinstance(items, list) else [items] * random.randint(0, 2)
            return [fitting(one, random, definitions, depth + 1) for one in first]
        case type_:
            return random.choice([one for one in SCALARS if _is(str(type_), one)])


def accepts(shape: Shape, value: Any, declared: Mapping[str, Shape]) -> bool:
    """Return whether a type checker would accept the value."""
    match shape:
        case Primitive("anything"):
            return True
        case Primitive(name):
            return _is(name, value)
        case Literals(values):
            return any(type(one) is type(value) and one == value for one in values) or (
                isinstance(value, float) and value in values
            )
        case Named(name):
            return accepts(declared[name], value, declared)
        case Choice(options):
            return any(accepts(one, value, declared) for one in options)
        case ListOf(item, first, required):
            return (
                isinstance(value, list)
                and len(value) >= required
                and all(accepts(one, inner, declared) for one, inner in zip(first, value, strict=False))
                and all(accepts(item, inner, declared) for inner in value[len(first) :])
            )
        case Record(members, others):
            known = {one.name: one for one in members}
            return (
                isinstance(value, dict)
                and all(one.name in value for one in members if one.is_required)
                and all(
                    accepts(known[key].shape, inner, declared)
                    if key in known
                    else others is None or accepts(others, inner, declared)
                    for key, inner in value.items()
                )
            )


def _is(name: str, value: Any) -> bool:
    match name:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "integer" | "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return False


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, st.tuples(DEFINITIONS, DEFINITIONS), st.integers(0, 2**32))
def test_every_value_that_a_schema_accepts_is_accepted_by_its_shape(
    schema: Any, definitions: tuple[Any, Any], seed: int
) -> None:
    by_name = {"one": definitions[0], "two": definitions[1]}
    whole = {"type": "object", "properties": {"a": schema}, "definitions": by_name}
    event = EventType("parcel.moved", 1, "depot.{depotId}", {}, whole)
    found = payload_shapes([event], reserved=[], more={})
    declared = {one.name: one.shape for one in found.declarations}
    values = [fitting(schema, Random(seed + number), by_name) for number in range(20)]
    valid = [one for one in values if schemas.compile(event).is_valid({"a": one})]

    for value in valid:
        assert accepts(Named("ParcelMoved"), {"a": value}, declared), (schema, value)
