"""Read the payload schemas of a document: follow references, make each complete, refuse what is unsafe. No I/O."""

import re
from collections.abc import Mapping
from typing import Any

from beaconfire_kit.catalogue import keywords, patterns, pointers, schema_cost, schemas
from beaconfire_kit.catalogue.fragment import Problem
from beaconfire_kit.catalogue.keywords import LISTED, NAMED, ONE, UNSAFE_NAME, Dialect, definitions_key
from beaconfire_kit.catalogue.pointers import NotFound, below

_DRAFT_07 = re.compile(
    r"application/(schema\+(json|yaml);version=(draft-07|draft-7)|vnd\.aai\.asyncapi(\+json|\+yaml)?;version=3\.[01]\.\d+)"
)
_2020_12 = re.compile(r"application/schema\+(json|yaml);version=(draft[-/])?2020-12")
_META = {
    "draft-07": ("http://json-schema.org/draft-07/schema", "draft-07"),
    "2020-12": ("https://json-schema.org/draft/2020-12/schema", "2020-12"),
}


class PayloadReader:
    """Reads the schemas of one document. Adds what is wrong to the lists that it was given."""

    def __init__(
        self, document: Mapping[str, Any], problems: list[Problem], warnings: list[Problem], *, is_accepted: bool
    ) -> None:
        self._document = document
        self._is_accepted = is_accepted
        """A push has judged its schemas. This is not done again."""
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
        if not self._is_accepted:
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
        if self._depth >= schema_cost.MAX_DEPTH:
            self._refuse(place, f"Schemas are more than {schema_cost.MAX_DEPTH} levels deep here. Take levels away.")
            return {}
        self._depth += 1
        try:
            return self._complete_level(node, place, dialect)
        finally:
            self._depth -= 1

    def _complete_level(self, node: Any, place: str, dialect: Dialect) -> dict[str, Any]:
        if not self._is_accepted:
            self._problems += keywords.problems_of(node, place, dialect)
        self._warnings += keywords.warnings_of(node, place, dialect)
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
            if name == UNSAFE_NAME:
                self._refuse(here, "A field called '__proto__' changes objects in JavaScript. Rename it.")
            if key == "patternProperties" and not self._is_accepted and (problem := patterns.problem_of(name)):
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
        return f"#/{definitions_key(dialect)}/{self._names[key]}"

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
        return {definitions_key(dialect): needed} if needed else {}

    def _check_whole(self, schema: Mapping[str, Any], dialect: Dialect, place: str) -> None:
        """Check what only the complete schema of a payload shows."""
        if problem := schema_cost.too_costly(schema):
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


def _reference_at(document: Any, place: str) -> Any:
    try:
        found = pointers.value_at(document, place)
    except NotFound:
        return None
    return found.get("$ref") if isinstance(found, Mapping) else None


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
