"""Read payloads' JSON Schemas as shapes.

A shape accepts every valid payload. What no type can say (patterns, bounds, `not`, `if`) makes it wider, never
narrower. Of `allOf`, objects are merged; of other parts the first one counts. There is one exception: a schema that has
`properties` and no `type` also accepts other values than objects, and nobody means that.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import unquote

from beaconfire.derived.shapes import (
    ANYTHING,
    NOTHING,
    Choice,
    Declaration,
    ListOf,
    Member,
    Named,
    Primitive,
    Record,
    Shape,
    choice,
    literals_of,
    merged,
)
from beaconfire.derived.words import Names, pascal
from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.catalogue.references import references, resolve

MAX_CHOICES = 16
"""How many alternatives of an object are told apart if the object has fields besides them."""
_OBJECT = ("properties", "required", "additionalProperties", "patternProperties")
_ARRAY = ("items", "prefixItems")
_GENERIC = frozenset({"#", "", "definitions", "$defs", "properties", "items", "components", "schemas"})


class Message(NamedTuple):
    """An event: its type and the name of its payload's shape."""

    event: EventType
    payload: str


class Shapes(NamedTuple):
    """The declarations of all payloads, each after the shapes it is made of unless it is part of itself."""

    declarations: list[Declaration]
    messages: list[Message]


def payload_shapes(
    types: Sequence[EventType], *, reserved: Iterable[str], more: Mapping[str, Mapping[str, Any]]
) -> Shapes:
    """Return the shapes of all payloads and of the schemas `more`, by name. No declaration has a `reserved` name."""
    file = _File(Names([*reserved, *more]))
    for name, schema in more.items():
        _Reader(schema, "2020-12", name, file).declare()
    messages = [Message(one, file.names.claim(name)) for one, name in zip(types, _payload_names(types), strict=True)]
    for event, name in messages:
        _Reader(event.schema, event.dialect, name, file).declare(event.description)
    return Shapes(_without_loops(list(file.declarations.values())), messages)


def _payload_names(types: Sequence[EventType]) -> list[str]:
    """Return a name for each payload. Of several versions, all except the first have a number."""
    first: dict[str, int] = {}
    for one in types:
        first[one.name] = min(one.version, first.get(one.name, one.version))
    return [pascal(one.name) + (f"V{one.version}" if one.version != first[one.name] else "") for one in types]


class _Reader:
    """Reads one schema, whose references point into it."""

    def __init__(self, schema: Mapping[str, Any], dialect: str, name: str, file: "_File") -> None:
        self._schema = schema
        self._dialect = dialect
        self._name = name
        self._file = file
        self._by_reference = {"#": name}

    def declare(self, description: str = "") -> None:
        """Declare the whole schema."""
        self._put(self._name, self._read(self._schema, self._name), description or _description(self._schema))

    def _read(self, schema: Any, name: str) -> Shape:
        """Return the shape of a schema. `name` is that of the place where it stands."""
        if schema is False:
            return NOTHING
        if not isinstance(schema, Mapping):
            return ANYTHING
        found = [self._referred(schema["$ref"])] if isinstance(schema.get("$ref"), str) else []
        if found and self._dialect == "draft-07":  # there, a reference stands alone
            return found[0]
        found.append(self._plain(schema, name))
        found += [self._read(one, name) for one in _list(schema, "allOf")]
        shape = self._all(found)
        for keyword in ("oneOf", "anyOf"):
            if options := _list(schema, keyword):
                shape = self._chosen(shape, [self._read(one, name + _label(one)) for one in options])
        return shape

    def _plain(self, schema: Mapping[str, Any], name: str) -> Shape:
        """Return the shape by the keywords other than references and combinations."""
        if "const" in schema:
            return literals_of([schema["const"]])
        if isinstance(schema.get("enum"), list):
            return literals_of(schema["enum"])
        types = schema.get("type")
        if types is None:
            types = "object" if _has(schema, _OBJECT) else "array" if _has(schema, _ARRAY) else ()
        wanted = (types,) if isinstance(types, str) else types
        return choice([self._of_type(one, schema, name) for one in wanted]) if wanted else ANYTHING

    def _of_type(self, type_: str, schema: Mapping[str, Any], name: str) -> Shape:
        match type_:
            case "string" | "integer" | "number" | "boolean" | "null":
                return Primitive(type_)
            case "array":
                return self._list(schema, name)
            case "object":
                return self._record(schema, name)
            case _:
                return ANYTHING

    def _list(self, schema: Mapping[str, Any], name: str) -> Shape:
        items, first = schema.get("items", True), schema.get("prefixItems", [])
        if isinstance(items, list):  # the way of draft-07
            first, items = items, schema.get("additionalItems", True)
        read = tuple(self._nested(one, f"{name}Item{number}") for number, one in enumerate(first, 1))
        return ListOf(self._nested(items, f"{name}Item"), read, min(schema.get("minItems", 0), len(read)))

    def _record(self, schema: Mapping[str, Any], name: str) -> Record:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        members = [
            Member(key, self._nested(one, name + pascal(key)), key in required, _description(one))
            for key, one in properties.items()
        ]
        members += [Member(key, ANYTHING, True) for key in dict.fromkeys(required) if key not in properties]
        others = list(schema.get("patternProperties", {}).values())
        more = schema.get("additionalProperties", True)
        if isinstance(more, Mapping) or (others and more):
            others.append(more)
        shape = choice([self._nested(one, f"{name}Value") for one in others]) if others else None
        return Record(tuple(members), None if shape == ANYTHING else shape, _description(schema), _label(schema))

    def _nested(self, schema: Any, name: str) -> Shape:
        """As `_read`, with a name for each object with members: not every language has objects without one."""
        return self._with_names(self._read(schema, name), name)

    def _with_names(self, shape: Shape, name: str) -> Shape:
        match shape:
            case Record(members) if members:
                return self._file.name_record(name, shape)
            case Choice(options):
                return choice(
                    self._with_names(one, name + (one.label if isinstance(one, Record) else "")) for one in options
                )
            case _:
                return shape

    def _put(self, name: str, shape: Shape, description: str) -> None:
        shape = shape if isinstance(shape, Record) else self._with_names(shape, name)
        self._file.declarations[name] = Declaration(name, shape, description)

    def _referred(self, reference: str) -> Shape:
        if reference in self._by_reference:
            return Named(self._by_reference[reference])
        try:
            target = resolve(self._schema, reference)
        except LookupError:
            return ANYTHING
        wanted = _reference_name(reference)
        content = f"{wanted} {self._content(reference)}"
        is_new = content not in self._file.shared
        if is_new:
            self._file.shared[content] = self._file.names.claim(wanted)
        name = self._by_reference[reference] = self._file.shared[content]
        if is_new:
            self._put(name, self._read(target, name), _description(target))
        return Named(name)

    def _content(self, reference: str) -> str:
        """Return a definition with all definitions that it reaches, as text."""
        reached: dict[str, Any] = {}
        waiting = [reference]
        while waiting:
            one = waiting.pop()
            if one not in reached:
                try:
                    reached[one] = resolve(self._schema, one)
                except LookupError:
                    reached[one] = None
                waiting += references(reached[one])
        return json.dumps([self._dialect, reached], sort_keys=True, default=str)

    def _all(self, found: list[Shape]) -> Shape:
        """Return a shape that accepts what all of these accept: one of them, or their objects as one."""
        special = [one for one in found if one != ANYTHING]
        if len(special) < 2:
            return special[0] if special else ANYTHING
        records = [one for one in map(self._file.resolved, special) if isinstance(one, Record)]
        return merged(records) if records else special[0]

    def _chosen(self, base: Shape, options: list[Shape]) -> Shape:
        """Return a shape that accepts what `base` and one of the options accept."""
        if base == ANYTHING:
            return choice(options)
        if isinstance(base, Record) and len(options) <= MAX_CHOICES:
            return choice([self._all([base, one]) for one in options])
        return base


@dataclass(slots=True)
class _File:
    """The declarations of all schemas together."""

    names: Names
    declarations: dict[str, Declaration] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    """Names by content, so that two payloads share what both define alike."""

    def name_record(self, name: str, shape: Record) -> Named:
        content = f"{name} {shape!r}"
        if content not in self.shared:
            claimed = self.shared[content] = self.names.claim(name)
            self.declarations[claimed] = Declaration(claimed, shape, shape.description)
        return Named(self.shared[content])

    def resolved(self, shape: Shape) -> Shape:
        """Return the shape that a name stands for. A name that is still being declared stays."""
        seen = set[str]()
        while isinstance(shape, Named) and shape.name in self.declarations and shape.name not in seen:
            seen.add(shape.name)
            shape = self.declarations[shape.name].shape
        return shape


def _without_loops(declarations: list[Declaration]) -> list[Declaration]:
    """Return the declarations. One that is nothing but itself, by way of names alone, becomes `anything`."""
    by_name = {one.name: one.shape for one in declarations}

    def is_loop(name: str) -> bool:
        seen, waiting = set[str](), [by_name[name]]
        while waiting:
            match waiting.pop():
                case Named(other) if other == name:
                    return True
                case Named(other) if other not in seen:
                    seen.add(other)
                    waiting.append(by_name[other])
                case Choice(options):
                    waiting += options
        return False

    return [replace(one, shape=ANYTHING) if is_loop(one.name) else one for one in declarations]


def _reference_name(reference: str) -> str:
    steps = [pascal(step) for step in unquote(reference).split("/") if step not in _GENERIC]
    return "".join(steps) or "Unnamed"


def _label(schema: Any) -> str:
    """Return what tells an alternative from the others: its title, or the value of its first constant."""
    if not isinstance(schema, Mapping):
        return ""
    constants = (one.get("const") for one in schema.get("properties", {}).values() if isinstance(one, Mapping))
    label = schema.get("title") or next((one for one in constants if isinstance(one, str)), "")
    return pascal(label) if isinstance(label, str) and label else ""


def _description(schema: Any) -> str:
    text = schema.get("description", "") if isinstance(schema, Mapping) else ""
    return text if isinstance(text, str) else ""


def _list(schema: Mapping[str, Any], keyword: str) -> list[Any]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def _has(schema: Mapping[str, Any], keywords: Iterable[str]) -> bool:
    return any(keyword in schema for keyword in keywords)
