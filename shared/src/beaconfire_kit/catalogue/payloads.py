"""Read the payload schemas of a document: follow references, make each complete, refuse what is unsafe. No I/O."""

import re
from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from beaconfire_kit.catalogue import pointers, schemas
from beaconfire_kit.catalogue.fragment import Problem
from beaconfire_kit.catalogue.pointers import NotFound, below
from beaconfire_kit.catalogue.schemas import LISTED, NAMED, ONE, Dialect

FORMATS = frozenset(
    {
        "date-time",
        "date",
        "time",
        "duration",
        "email",
        "idn-email",
        "hostname",
        "idn-hostname",
        "ipv4",
        "ipv6",
        "uri",
        "uri-reference",
        "iri",
        "iri-reference",
        "uuid",
        "json-pointer",
        "relative-json-pointer",
        "uri-template",
    }
)
"""Formats that are checked. Any other is ignored, with a warning."""
MIN_MULTIPLE = 1e-9

_FORMATS_FOR_READERS = frozenset(
    {"int32", "int64", "float", "double", "decimal", "byte", "binary", "password", "color"}
)
_DRAFT_07 = re.compile(
    r"application/(schema\+(json|yaml);version=(draft-07|draft-7)|vnd\.aai\.asyncapi(\+json|\+yaml)?;version=3\.[01]\.\d+)"
)
_2020_12 = re.compile(r"application/schema\+(json|yaml);version=(draft[-/])?2020-12")
_META = {
    "draft-07": ("http://json-schema.org/draft-07/schema", "draft-07"),
    "2020-12": ("https://json-schema.org/draft/2020-12/schema", "2020-12"),
}
_TEXTS = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "example",
        "readOnly",
        "writeOnly",
        "deprecated",
        "externalDocs",
        "discriminator",
        "$comment",
        "$schema",
        "definitions",
        "$defs",
    }
)
_ASSERTIONS = frozenset(
    {
        "type",
        "enum",
        "const",
        "multipleOf",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
        "pattern",
        "format",
        "maxItems",
        "minItems",
        "uniqueItems",
        "maxProperties",
        "minProperties",
        "required",
        "contentMediaType",
        "contentEncoding",
    }
)
_CHECKED_VALUES = _ASSERTIONS | {"dependentRequired", "minContains", "maxContains"}
_ONLY_2020_12 = frozenset({"prefixItems", "dependentSchemas", "dependentRequired", "minContains", "maxContains"})
_ONLY_DRAFT_07 = frozenset({"additionalItems", "dependencies"})
_REFUSED = {
    "$id": "changes what references point to. Remove it.",
    "$anchor": "gives a schema a second name. Refer to it as '#/components/schemas/…'.",
    "$dynamicRef": "depends on the way to a schema. Write a plain $ref.",
    "$dynamicAnchor": "depends on the way to a schema. Write a plain $ref.",
    "$recursiveRef": "lets a schema contain itself. Write the levels out, or allow any object inside.",
    "$recursiveAnchor": "lets a schema contain itself. Write the levels out, or allow any object inside.",
    "$vocabulary": "changes the meaning of keywords. Remove it.",
    "unevaluatedProperties": "takes unbounded time. Use additionalProperties.",
    "unevaluatedItems": "takes unbounded time. Use additionalItems, or items beside prefixItems.",
    "nullable": "belongs to OpenAPI and has no effect here. Write `type: [string, 'null']`.",
}
_UNSAFE_NAME = "__proto__"


class PayloadReader:
    """Reads the schemas of one document. Adds what is wrong to the lists that it was given."""

    def __init__(self, document: Mapping[str, Any], problems: list[Problem], warnings: list[Problem]) -> None:
        self._document = document
        self._problems = problems
        self._warnings = warnings
        self._names: dict[tuple[Dialect, str], str] = {}
        """The names of definitions, by dialect and place."""
        self._definitions: dict[tuple[Dialect, str], Any] = {}
        """Complete definitions, by dialect and name."""
        self._depth = 0

    def read(self, place: str) -> tuple[Mapping[str, Any], Dialect] | None:
        """Return the schema at a place, complete in itself, and its dialect. None if it cannot be used."""
        before = len(self._problems)
        try:
            found, where = pointers.follow(self._document, place)
        except NotFound as error:
            self._refuse(place, f"The reference {_show(_reference_at(self._document, place))} cannot be used: {error}.")
            return None
        dialect: Dialect | None = "draft-07"
        if isinstance(found, Mapping) and "schemaFormat" in found:
            dialect = self._dialect(found["schemaFormat"], below(where, "schemaFormat"))
            found, where = self._inner_schema(found, where)
        if dialect is None or not isinstance(found, Mapping):
            if len(self._problems) == before:
                self._refuse(where, f"The payload's schema is {_show(found)}. Write a schema: `type: object`.")
            return None
        self._check_meta(found, where, dialect)
        schema = self._complete({key: one for key, one in found.items() if key != "$schema"}, where, dialect)
        if len(self._problems) > before:
            return None
        schema |= self._definitions_of(schema, dialect)
        self._check_whole(schema, dialect, where)
        return None if len(self._problems) > before else (schema, dialect)

    def _dialect(self, stated: Any, place: str) -> Dialect | None:
        text = stated.replace(" ", "") if isinstance(stated, str) else ""
        if _DRAFT_07.fullmatch(text):
            return "draft-07"
        if _2020_12.fullmatch(text):
            return "2020-12"
        self._refuse(
            place,
            f"The schema format is {_show(stated)}. Write `application/schema+json;version=draft-07` or "
            "`application/schema+json;version=2020-12`.",
        )
        return None

    def _inner_schema(self, holder: Mapping[str, Any], place: str) -> tuple[Any, str]:
        place = below(place, "schema")
        try:
            return pointers.follow(self._document, place)
        except NotFound as error:
            problem = "it is missing" if "schema" not in holder else f"its reference cannot be used: {error}"
            self._refuse(place, f"The schema beside `schemaFormat`: {problem}. Write it here.")
            return None, place

    def _check_meta(self, schema: Mapping[str, Any], place: str, dialect: Dialect) -> None:
        stated = schema.get("$schema")
        expected, name = _META[dialect]
        if stated is not None and (not isinstance(stated, str) or stated.rstrip("#") != expected):
            self._refuse(
                below(place, "$schema"),
                f"$schema is {_show(stated)}, and this schema is read as {name}. State another dialect as "
                "`payload: {schemaFormat: 'application/schema+json;version=2020-12', schema: …}`.",
            )

    def _complete(self, node: Any, place: str, dialect: Dialect) -> dict[str, Any]:
        """Return a copy whose references point to definitions of its own. A schema must be a mapping here."""
        if self._depth >= schemas.MAX_DEPTH:
            self._refuse(place, f"Schemas are more than {schemas.MAX_DEPTH} levels deep here. Take levels away.")
            return {}
        self._depth += 1
        try:
            return self._complete_level(node, place, dialect)
        finally:
            self._depth -= 1

    def _complete_level(self, node: Any, place: str, dialect: Dialect) -> dict[str, Any]:
        self._check_keywords(node, place, dialect)
        complete: dict[str, Any] = {}
        if "$ref" in node:
            complete["$ref"] = self._reference(node, place, dialect)
            if dialect == "draft-07":
                return complete
        for key, value in node.items():
            here = below(place, key)
            if key in ("$ref", "definitions", "$defs", "discriminator", "externalDocs"):
                continue
            if key in LISTED and isinstance(value, list | tuple):
                complete[key] = [self._subschema(one, below(here, index), dialect) for index, one in enumerate(value)]
            elif key in NAMED and self._is_mapping(value, here):
                complete[key] = self._named(key, value, here, dialect)
            elif key in ONE:
                complete[key] = self._subschema(value, here, dialect)
            else:
                complete[key] = value
        return complete

    def _named(self, key: str, value: Mapping[str, Any], place: str, dialect: Dialect) -> dict[str, Any]:
        complete: dict[str, Any] = {}
        for name, one in value.items():
            here = below(place, name)
            if name == _UNSAFE_NAME:
                self._refuse(here, "A field called '__proto__' changes objects in JavaScript. Rename it.")
            if key == "patternProperties" and (problem := schemas.pattern_problem(name)):
                self._refuse(here, problem)
            is_list = key == "dependencies" and isinstance(one, list)
            complete[name] = one if is_list else self._subschema(one, here, dialect)
        return complete

    def _subschema(self, node: Any, place: str, dialect: Dialect) -> Any:
        if isinstance(node, bool):
            return node
        if not self._is_mapping(node, place, "a schema"):
            return True
        if "$schema" in node:
            self._refuse(below(place, "$schema"), "$schema is inside another schema. Remove it.")
        return self._complete(node, place, dialect)

    def _is_mapping(self, value: Any, place: str, what: str = "a mapping") -> bool:
        if isinstance(value, Mapping):
            return True
        self._refuse(place, f"Here must be {what}, and not {_show(value)}.")
        return False

    def _reference(self, node: Mapping[str, Any], place: str, dialect: Dialect) -> str:
        """Return the reference to a definition that has what the reference of a schema refers to."""
        place = below(place, "$ref")
        try:
            target = pointers.target_of(node["$ref"])
            found = pointers.value_at(self._document, target)
        except NotFound as error:
            self._refuse(place, f"The reference {_show(node['$ref'])} cannot be used: {error}.")
            return "#"
        if isinstance(found, Mapping) and "schemaFormat" in found:
            if self._dialect(found["schemaFormat"], below(target, "schemaFormat")) not in (dialect, None):
                self._refuse(
                    place, f"{_show(node['$ref'])} is in another schema format than this schema. Use the same for both."
                )
            found, target = self._inner_schema(found, target)
        key = dialect, target
        if key not in self._names:
            self._names[key] = name = self._new_name(dialect, target)
            if isinstance(found, Mapping):
                self._check_meta(found, target, dialect)
                found = {key: one for key, one in found.items() if key != "$schema"}
            self._definitions[dialect, name] = True
            self._definitions[dialect, name] = self._subschema(found, target, dialect)
        return f"#/{_holder(dialect)}/{self._names[key]}"

    def _new_name(self, dialect: Dialect, target: str) -> str:
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", pointers.tokens(target)[-1])[:64] or "schema"
        taken = {known for (of, _), known in self._names.items() if of == dialect}
        number = 1
        while (unique := name if number == 1 else f"{name}_{number}") in taken:
            number += 1
        return unique

    def _definitions_of(self, schema: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
        """Return the definitions that a schema needs, as the part of it that holds them."""
        needed: dict[str, Any] = {}
        todo: list[Any] = [schema]
        for node in todo:
            if isinstance(node, list):
                todo += node
            elif isinstance(node, Mapping):
                todo += [one for key, one in node.items() if key in ONE or key in LISTED]
                todo += [one for key in NAMED & node.keys() for one in node[key].values()]
                name = str(node.get("$ref", "")).rpartition("/")[2]
                if name and name not in needed:
                    needed[name] = self._definitions.get((dialect, name), True)
                    todo.append(needed[name])
        return {_holder(dialect): needed} if needed else {}

    def _check_keywords(self, node: Mapping[str, Any], place: str, dialect: Dialect) -> None:
        for key, value in node.items():
            here = below(place, key)
            if key in _REFUSED:
                self._refuse(here, f"`{key}` {_REFUSED[key]}")
            elif key in (_ONLY_2020_12 if dialect == "draft-07" else _ONLY_DRAFT_07):
                self._refuse(here, _of_other_dialect(key, dialect))
            elif key in LISTED | NAMED | ONE | _ASSERTIONS | _ONLY_2020_12 | {"$ref"}:
                self._check_keyword(key, value, here, dialect)
            elif key not in _TEXTS and not key.startswith("x-"):
                self._warn(here, f"`{key}` is not a keyword of {dialect}, and is ignored.")
        if "$ref" in node and dialect == "draft-07" and (beside := [key for key in node if key not in _BESIDE_REF]):
            self._refuse(
                below(place, beside[0]),
                f"`{beside[0]}` stands beside $ref, where draft-07 ignores it. Write `allOf: [{{$ref: …}}, {{…}}]`.",
            )

    def _check_keyword(self, key: str, value: Any, place: str, dialect: Dialect) -> None:
        if key == "items" and dialect == "2020-12" and isinstance(value, list):
            self._refuse(place, "`items` is a list of schemas. In 2020-12 this keyword is called prefixItems.")
        elif key in LISTED - {"items"} and (not isinstance(value, list) or not value):
            self._refuse(place, f"`{key}` is {_show(value)}. Write a list of schemas.")
        elif key in _CHECKED_VALUES and (problem := _wrong_value(key, value, dialect)):
            self._refuse(place, problem)
        if key == "format" and isinstance(value, str) and value not in FORMATS | _FORMATS_FOR_READERS | {"regex"}:
            self._warn(place, f"The format {_show(value)} is unknown, and is not checked.")

    def _check_whole(self, schema: Mapping[str, Any], dialect: Dialect, place: str) -> None:
        """Check what only the complete schema of a payload shows."""
        if problem := schemas.too_costly(schema):
            self._refuse(place, problem)
            return
        outermost = self._outermost(schema)
        types = outermost.get("type", "object")
        if "object" not in ([types] if isinstance(types, str) else types):
            self._refuse(place, f"The payload is of type {_show(types)}. A payload is an object: write `type: object`.")
            return
        if outermost.get("additionalProperties") is False:
            self._warn(
                place,
                "`additionalProperties: false` refuses events whose publisher already sends a newer field. "
                "Leave it out, unless that is what you want.",
            )
        try:
            schemas.compiled_schema(dialect, schema)
        except ValueError as error:
            self._refuse(place, f"The schema cannot be compiled: {str(error).splitlines()[0][:300]}. Correct it.")

    def _outermost(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        definitions = schema.get("definitions") or schema.get("$defs") or {}
        node: Any = schema
        while isinstance(node, Mapping) and "$ref" in node and "type" not in node:
            node = definitions.get(node["$ref"].rpartition("/")[2])
        return node if isinstance(node, Mapping) else {"type": "object" if node is True else "nothing"}

    def _refuse(self, place: str, message: str) -> None:
        self._problems.append(Problem(place, message))

    def _warn(self, place: str, message: str) -> None:
        self._warnings.append(Problem(place, message))


_BESIDE_REF = _TEXTS | {"$ref"}


def _wrong_value(key: str, value: Any, dialect: Dialect) -> str:
    """Return what is wrong with the value of a keyword. Empty if it is right."""
    if key == "pattern" and isinstance(value, str):
        return schemas.pattern_problem(value)
    if key == "format" and value == "regex":
        return "The format 'regex' lets an event bring a pattern of its own. Remove it."
    if key == "enum" and value == []:
        return "`enum` is empty, so no event would be valid. List the allowed values."
    if key == "required" and isinstance(value, list) and _UNSAFE_NAME in value:
        return "A field called '__proto__' changes objects in JavaScript. Rename it."
    if key == "multipleOf" and isinstance(value, float) and value < MIN_MULTIPLE:
        return f"`multipleOf` is {value}, and at least {MIN_MULTIPLE} is needed. Use a larger step, or count in units."
    try:
        meta = jsonschema_rs.Draft7Validator if dialect == "draft-07" else jsonschema_rs.Draft202012Validator
        meta({key: value}, offline=True, validate_formats=False)
    except ValueError as error:
        reason = str(error).splitlines()[0][:200]
        return f"`{key}` is {_show(value)}, which JSON Schema does not allow: {reason}."
    return ""


def _of_other_dialect(key: str, dialect: Dialect) -> str:
    if dialect == "draft-07":
        return (
            f"`{key}` belongs to 2020-12, and this schema is draft-07. Write "
            "`payload: {schemaFormat: 'application/schema+json;version=2020-12', schema: …}`."
        )
    instead = "items beside prefixItems" if key == "additionalItems" else "dependentRequired or dependentSchemas"
    return f"`{key}` belongs to draft-07, and this schema is 2020-12. Write {instead}."


def _holder(dialect: Dialect) -> str:
    return "definitions" if dialect == "draft-07" else "$defs"


def _reference_at(document: Any, place: str) -> Any:
    try:
        found = pointers.value_at(document, place)
    except NotFound:
        return None
    return found.get("$ref") if isinstance(found, Mapping) else None


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
