"""Bound what checks with a schema can cost. No I/O.

**What a check may cost.** A gateway checks every event in its event loop. So a push refuses a schema with which a
hostile event of 64 KiB could take more than a few milliseconds, as far as ordinary patterns allow. Measured as CPU time
by `bench/catalogue_schemas.py` on a small server, with jsonschema-rs 0.61:

| what | 64 KiB of | ms |
|---|---|---|
| 64 checks of every number in a list (`MAX_CHECKS`) | `1,1,1,…` | 3 to 6 |
| one pattern that compiles to 4 KiB (`patterns.MAX_BYTES`), made to be slow | `0110…` | 15 |
| the same with the error, which needs three passes | `0110…` | 45 |
| the same pattern with 16 KiB, which is refused | `0110…` | 43 |
| any other pattern, and any format | a text | 0.1 |
| `multipleOf: 0.01` for each number in a list, which is refused | `1.05,…` | 18 |
| the report that none of ten alternatives fits, without `schemas.without_contexts` | `1,1,1,…` | 10,000 |
"""

from collections.abc import Iterator, Mapping
from typing import Any

from beaconfire_kit.catalogue import patterns
from beaconfire_kit.catalogue.keywords import schemas_in

MAX_SIZE = 10_000
"""Schemas, enum values and required names in a payload's schema, after each reference is replaced by its target."""
MAX_DEPTH = 64
"""Schemas inside one another, after each reference is replaced by its target."""
MAX_CHECKS = 64
"""Checks of one value in a list or map of any length. A kind of check counts as often as it is slower than `type`."""
MAX_SCANS = 8
"""Checks of one value that read a whole text, list or object. A pattern counts once for each KiB of it, compiled."""
_SAME_VALUE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependencies", "dependentSchemas"})
_SLOW = {"minimum": 2, "maximum": 2, "exclusiveMinimum": 2, "exclusiveMaximum": 2, "uniqueItems": 4, "multipleOf": 4}
_SCANS = frozenset({"format", "contentMediaType", "contentEncoding", "uniqueItems"})
_CHECKING = frozenset(
    {
        "type",
        "const",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minItems",
        "maxItems",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "minProperties",
        "maxProperties",
        "required",
        "properties",
        "patternProperties",
        "additionalProperties",
        "propertyNames",
        "items",
        "additionalItems",
        "prefixItems",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "not",
        "if",
        "contentMediaType",
        "contentEncoding",
    }
)
_DEFINITIONS = frozenset({"definitions", "$defs"})
_TOO_SLOW_IN_LISTS = MAX_CHECKS + 1
_MAX_GROUPS = 50_000
_BEING_COUNTED = (1, 1)
_NOTHING: Mapping[str, Any] = {}


def too_costly(schema: Mapping[str, Any]) -> str:
    """Return why a check with this schema could take too long, and what to do. Empty if it cannot.

    The schema must be complete. It may contain itself, as a tree does, as long as no value is checked more and more
    often on the way down.
    """
    return _Cost(schema).problem()


class _Cost:
    """Counts the checks that a schema makes of one value at most."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = {key: one for key, one in schema.items() if key not in _DEFINITIONS}
        self._definitions = schema.get("definitions") or schema.get("$defs") or {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._is_recursive = False
        self._seen: set[tuple[bool, tuple[int, ...]]] = set()

    def problem(self) -> str:
        if loop := self._loop():
            return (
                f"The schema `{loop}` refers to itself for the same value, so a check would have no end. Remove that."
            )
        size, depth = self._size(self._schema)
        if size > MAX_SIZE:
            return (
                f"The schema has {size:,} schemas, enum values and required names when its references are written "
                f"out. At most {MAX_SIZE:,} are allowed. Refer to fewer schemas from within one another."
            )
        if depth > MAX_DEPTH:
            return f"The schema is {depth} schemas deep, and at most {MAX_DEPTH} are allowed. Take levels away."
        return self._check([self._schema], "", is_repeated=self._is_recursive)

    def _loop(self) -> str:
        """Return the name of a definition that applies itself to the same value. Empty if there is none."""
        done: set[str] = set()

        def visit(node: Any, path: tuple[str, ...]) -> str:
            if not isinstance(node, Mapping):
                return ""
            if "$ref" in node:
                name = _name_of(node)
                if name in path:
                    return name
                if name not in done and (loop := visit(self._definitions.get(name, True), (*path, name))):
                    return loop
                done.add(name)
            inner = (one for key in _SAME_VALUE & node.keys() for one in schemas_in(node, key))
            return next(filter(None, (visit(one, path) for one in inner)), "")

        starts = ({"$ref": f"#/definitions/{name}"} for name in self._definitions)
        return next(filter(None, (visit(one, ()) for one in (self._schema, *starts))), "")

    def _size(self, node: Any) -> tuple[int, int]:
        """Return how many schemas, values and names a schema has, and how deep schemas are inside one another."""
        if not isinstance(node, Mapping):
            return 1, 1
        inner = [self._size(one) for key in node for one in schemas_in(node, key)]
        if "$ref" in node:
            inner.append(self._size_of_definition(_name_of(node)))
        total = 1 + _entries(node) + sum(size for size, _ in inner)
        return total, 1 + max((depth for _, depth in inner), default=0)

    def _size_of_definition(self, name: str) -> tuple[int, int]:
        if name not in self._sizes:
            self._sizes[name] = _BEING_COUNTED
            self._sizes[name] = self._size(self._definitions.get(name, True))
        elif self._sizes[name] == _BEING_COUNTED:
            self._is_recursive = True
        return self._sizes[name]

    def _check(self, group: list[Any], place: str, *, is_repeated: bool) -> str:
        """Check schemas that all apply to one value, and then those that apply to the values inside it."""
        nodes = [node for schema in group for node in self._in_place(schema)]
        # What was checked for any number of values need not be checked again for one.
        key = tuple(sorted(map(id, nodes)))
        if (True, key) in self._seen or (is_repeated, key) in self._seen:
            return ""
        self._seen.add((is_repeated, key))
        if len(self._seen) > _MAX_GROUPS:
            return "The schema combines too many schemas with one another. Use fewer `allOf`, `anyOf` and patterns."
        where = f"A value at {place}" if place else "The payload"
        if (scans := sum(map(_scans, nodes))) > MAX_SCANS:
            return (
                f"{where} is read as a whole by checks that count {scans}, and at most {MAX_SCANS} are allowed. "
                "A pattern counts 1 for each KiB that it compiles to. A format, uniqueItems, and an enum of lists or "
                "objects count 1. Use fewer."
            )
        if is_repeated and (checks := sum(map(_checks, nodes))) > MAX_CHECKS:
            return (
                f"{where}, of which an event may have thousands, passes checks that count {checks}, and at most "
                f"{MAX_CHECKS} are allowed. Use fewer alternatives, a shorter enum, or multipleOf with a whole number."
            )
        for inner, inner_place, repeats in _inside(nodes, place):
            if problem := self._check(inner, inner_place, is_repeated=is_repeated or repeats):
                return problem
        return ""

    def _in_place(self, schema: Any) -> Iterator[Mapping[str, Any]]:
        """Yield a schema and those inside it that apply to the same value."""
        if not isinstance(schema, Mapping):
            yield _NOTHING
            return
        yield schema
        if "$ref" in schema:
            yield from self._in_place(self._definitions.get(_name_of(schema), True))
        for key in _SAME_VALUE & schema.keys():
            for one in schemas_in(schema, key):
                yield from self._in_place(one)


def _inside(nodes: list[Mapping[str, Any]], place: str) -> Iterator[tuple[list[Any], str, bool]]:
    """Yield the schemas that apply to one value inside, where it is, and whether there may be any number of it."""
    by_pattern = [one for node in nodes for one in schemas_in(node, "patternProperties")]
    for name in dict.fromkeys(name for node in nodes for name in node.get("properties", {})):
        declared = [node["properties"][name] for node in nodes if name in node.get("properties", {})]
        rest = [
            node["additionalProperties"]
            for node in nodes
            if "additionalProperties" in node and name not in node.get("properties", {})
        ]
        yield [*declared, *by_pattern, *rest], f"{place}/{name}", False
    for keywords in (
        ("patternProperties", "additionalProperties"),
        ("propertyNames",),
        ("items", "additionalItems", "prefixItems", "contains"),
    ):
        inner = [one for node in nodes for key in keywords for one in schemas_in(node, key)]
        if inner:
            yield inner, f"{place}/*", True


def _checks(node: Mapping[str, Any]) -> int:
    count = 0
    for key, value in node.items():
        if key == "enum":
            count += 1 if _is_looked_up(value) else 3 * len(value)
        elif key == "multipleOf" and not isinstance(value, int):
            count += _TOO_SLOW_IN_LISTS
        elif key in _CHECKING:
            count += _SLOW.get(key, 1)
    return max(count, 1)


def _scans(node: Mapping[str, Any]) -> int:
    count = len(_SCANS & node.keys()) + sum(map(patterns.kib_of, node.get("patternProperties", ())))
    if "pattern" in node:
        count += patterns.kib_of(node["pattern"])
    return count + any(isinstance(one, list | dict) for one in (node.get("const"), *node.get("enum", ())))


def _entries(node: Mapping[str, Any]) -> int:
    """Return how many names and values the keywords of a schema list."""
    count = len(node.get("required", ())) + len(node.get("enum", ()))
    for key in ("dependencies", "dependentRequired"):
        count += sum(len(one) for one in node.get(key, {}).values() if isinstance(one, list))
    return count


def _is_looked_up(values: list[Any]) -> bool:
    """Return whether the library looks a value up in an enum, instead of comparing it with each."""
    return all(isinstance(one, str) for one in values) or all(type(one) is int for one in values)


def _name_of(node: Mapping[str, Any]) -> str:
    return str(node["$ref"]).rpartition("/")[2].replace("~1", "/").replace("~0", "~")
