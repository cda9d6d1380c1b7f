"""Compare two schemas: does the newer one accept every payload that the older one accepts? No I/O.

The comparison is careful: what it does not understand is a break. Where more values in a part can mean fewer in the
whole (`not`, `oneOf`, `if`, `propertyNames`, `dependencies`, `contains`), any change of the part is a break.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from beaconfire_kit.catalogue.keywords import LISTED, NAMED, ONE

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Break:
    """One thing that makes a payload invalid that was valid."""

    path: tuple[str | int, ...]
    """Where in the schema, after its references are replaced by what they refer to."""
    message: str
    """What would break."""


def breaks(old: Schema, new: Schema) -> list[Break]:
    """Return what breaks when the new schema takes the place of the old one. Empty if nothing does."""
    return list(dict.fromkeys(_Comparison(old, new).compare(old, new)))


TEXTS = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "example",
        "readOnly",
        "writeOnly",
        "deprecated",
        "$comment",
        "definitions",
        "$defs",
    }
)
"""Keywords that say something to readers alone."""
_LOWER = {"minLength": "shorter texts", "minItems": "shorter lists", "minProperties": "smaller objects"}
_UPPER = {"maxLength": "longer texts", "maxItems": "longer lists", "maxProperties": "larger objects"}
_ALL_OR_NOTHING = (
    ("oneOf",),
    ("not",),
    ("if", "then", "else"),
    ("propertyNames",),
    ("dependencies",),
    ("dependentRequired",),
    ("dependentSchemas",),
    ("contains", "minContains", "maxContains"),
    ("patternProperties",),
    ("pattern",),
    ("format",),
    ("contentMediaType",),
    ("contentEncoding",),
)
"""Keywords that may stay as they are or be removed, together."""
_COMPARED = frozenset(
    {
        *TEXTS,
        *_LOWER,
        *_UPPER,
        *(key for group in _ALL_OR_NOTHING for key in group),
        "$ref",
        "type",
        "enum",
        "const",
        "minimum",
        "exclusiveMinimum",
        "maximum",
        "exclusiveMaximum",
        "multipleOf",
        "uniqueItems",
        "required",
        "properties",
        "additionalProperties",
        "items",
        "prefixItems",
        "additionalItems",
        "allOf",
        "anyOf",
    }
)
_ANYTHING: Schema = {}


@dataclass(frozen=True, slots=True)
class _Comparison:
    old_root: Schema
    new_root: Schema
    path: tuple[str | int, ...] = ()
    declared: frozenset[str] = frozenset()
    """Names of fields that the old schema declares for the same value, in any of its branches."""
    seen: frozenset[tuple[int, int]] = frozenset()

    def compare(self, old: Any, new: Any) -> Iterator[Break]:
        """Yield what breaks for one value, and for the values inside it."""
        names = frozenset(_declared(self.old_root, old))
        yield from replace(self, declared=names)._same_value(old, new)

    def _same_value(self, old: Any, new: Any) -> Iterator[Break]:
        old, new = _resolved(self.old_root, old), _resolved(self.new_root, new)
        if old is False or new in (True, {}) or (id(old), id(new)) in self.seen:
            return
        if _same(self.old_root, old, self.new_root, new):
            return
        if new is False:
            yield self._broken("no value would be valid any more.")
            return
        old = _ANYTHING if old is True else old
        inside = replace(self, seen=self.seen | {(id(old), id(new))})
        for check in _CHECKS:
            yield from check(inside, old, new)

    def _broken(self, message: str, *path: str | int) -> Break:
        return Break((*self.path, *path), message)

    def _at(self, *path: str | int) -> "_Comparison":
        return replace(self, path=(*self.path, *path))

    def types(self, old: Schema, new: Schema) -> Iterator[Break]:
        if "type" not in new:
            return
        before, after = _types(old), _types(new)
        if before is None:
            yield self._broken(f"the type was open and would have to be {_list(after or ())}.", "type")
        elif lost := sorted(one for one in before if one not in (after or ()) and not _is_wider(one, after or ())):
            yield self._broken(f"{_list(lost)} would not be valid any more.", "type")

    def values(self, old: Schema, new: Schema) -> Iterator[Break]:
        before, after = _allowed(old), _allowed(new)
        if after is None:
            return
        keyword = "const" if "const" in new else "enum"
        if before is None:
            yield self._broken("any value was valid, and only those listed would be.", keyword)
        elif lost := [one for one in before if one not in after]:
            yield self._broken(f"the value {_list(lost[:5])} would not be valid any more.", keyword)

    def numbers(self, old: Schema, new: Schema) -> Iterator[Break]:
        for bound, exclusive, sign, what in (
            ("minimum", "exclusiveMinimum", -1, "smaller"),
            ("maximum", "exclusiveMaximum", 1, "larger"),
        ):
            before, after = _limit(old, bound, exclusive, sign), _limit(new, bound, exclusive, sign)
            if after is not None and (before is None or before > after):
                keyword = bound if bound in new else exclusive
                yield self._broken(f"{what} numbers were valid than {_json(new[keyword])} allows.", keyword)
        step, was = new.get("multipleOf"), old.get("multipleOf")
        if step is not None and step != was and not _is_multiple(was, step):
            yield self._broken(f"only multiples of {_json(step)} would be valid.", "multipleOf")

    def sizes(self, old: Schema, new: Schema) -> Iterator[Break]:
        for keyword, what in _LOWER.items():
            if new.get(keyword, 0) > old.get(keyword, 0):
                yield self._broken(f"{what} were valid than {keyword} {new[keyword]} allows.", keyword)
        for keyword, what in _UPPER.items():
            if keyword in new and (keyword not in old or new[keyword] < old[keyword]):
                yield self._broken(f"{what} were valid than {keyword} {new[keyword]} allows.", keyword)
        if new.get("uniqueItems") is True and old.get("uniqueItems") is not True:
            yield self._broken("a list may have had the same item twice.", "uniqueItems")

    def fields(self, old: Schema, new: Schema) -> Iterator[Break]:
        known = set(old.get("required", ()))
        for name in new.get("required", ()):
            if name not in known:
                yield self._broken(f"the field `{name}` would be required, and events have left it out.", "required")
        before, after = old.get("properties", {}), new.get("properties", {})
        for name, schema in before.items():
            if name in after:
                yield from self._at("properties", name).compare(schema, after[name])
            else:
                yield self._broken(
                    f"the field `{name}` would not be declared any more, and clients read it.", "properties"
                )
        for name, schema in after.items():
            if name not in before:
                yield from self._new_field(name, schema, old)

    def _new_field(self, name: str, schema: Any, old: Schema) -> Iterator[Break]:
        """A new optional field is compatible, unless the old schema said something about fields of its name."""
        here = self._at("properties", name)
        rest = old.get("additionalProperties", True)
        if name in self.declared:
            yield here._broken(
                f"the field `{name}` was declared in another part of the schema, and gets a second meaning."
            )
        elif old.get("patternProperties"):
            yield here._broken(f"the field `{name}` may have been used, as patternProperties allows it.")
        elif rest not in (True, {}):
            yield from here.compare(rest, schema)

    def other_fields(self, old: Schema, new: Schema) -> Iterator[Break]:
        yield from self._rest(old, new, "additionalProperties", "fields that are not declared")

    def items(self, old: Schema, new: Schema) -> Iterator[Break]:
        for keyword in ("items", "prefixItems"):
            before, after = old.get(keyword, True), new.get(keyword, True)
            here = self._at(keyword)
            if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
                for index, pair in enumerate(zip(before, after, strict=True)):
                    yield from here._at(index).compare(*pair)
            elif isinstance(before, list) or isinstance(after, list):
                if after not in (True, {}) or "additionalItems" in new or "items" in new:
                    yield here._broken("the list of items changes, so valid lists become invalid.")
            else:
                yield from here.compare(before, after)
        yield from self._rest(old, new, "additionalItems", "items that are not declared")

    def _rest(self, old: Schema, new: Schema, keyword: str, what: str) -> Iterator[Break]:
        before, after = old.get(keyword, True), new.get(keyword, True)
        if before in (True, {}) and after not in (True, {}):
            yield self._broken(f"{what} could have any value, and would be restricted.", keyword)
        else:
            yield from self._at(keyword).compare(before, after)

    def every(self, old: Schema, new: Schema) -> Iterator[Break]:
        """`allOf`: the old schema must have implied each branch of the new one."""
        before = old.get("allOf", [])
        for index, branch in enumerate(new.get("allOf", [])):
            here = self._at("allOf", index)
            candidates = before[index : index + 1] + before
            if not candidates:
                yield here._broken("a value has to fit one more schema.")
            elif not any(not list(here._same_value(one, branch)) for one in candidates):
                yield from here._same_value(candidates[0], branch)

    def any(self, old: Schema, new: Schema) -> Iterator[Break]:
        """`anyOf`: each branch of the old schema must fit into one of the new ones."""
        if "anyOf" not in new:
            return
        after = new["anyOf"]
        if "anyOf" not in old:
            # A field that may now be null, too, is written as the alternatives of what it was and null.
            if not any(not list(self._at("anyOf", at)._same_value(old, one)) for at, one in enumerate(after)):
                yield self._broken("a value has to fit one of several schemas, and did not have to.", "anyOf")
            return
        for index, branch in enumerate(old["anyOf"]):
            candidates = [(index, after[index])] if index < len(after) else []
            candidates += [(at, one) for at, one in enumerate(after) if at != index]
            if any(not list(self._at("anyOf", at)._same_value(branch, one)) for at, one in candidates):
                continue
            if index < len(after):
                yield from self._at("anyOf", index)._same_value(branch, after[index])
            else:
                yield self._broken(f"alternative {index + 1} would not be valid any more.", "anyOf")

    def whole(self, old: Schema, new: Schema) -> Iterator[Break]:
        for group in _ALL_OR_NOTHING:
            after = {key: new[key] for key in group if key in new}
            before = {key: old[key] for key in group if key in old}
            if after and not _same(self.old_root, before, self.new_root, after):
                keyword = next(iter(after))
                yield self._broken(f"`{keyword}` changes, and a value that it allowed may become invalid.", keyword)
        if "contentEncoding" in old and "contentEncoding" not in new:
            yield self._broken("it was bytes for some clients, and would be a text.", "contentEncoding")
        for key in dict.fromkeys((*old, *new)):
            if key not in _COMPARED and not key.startswith("x-") and old.get(key) != new.get(key):
                yield self._broken(f"`{key}` changes, whose meaning is unknown here.", key)

    def reference(self, old: Schema, new: Schema) -> Iterator[Break]:
        """A `$ref` beside other keywords, as 2020-12 has it."""
        if "$ref" in new:
            if "$ref" in old:
                yield from self._same_value({"$ref": old["$ref"]}, {"$ref": new["$ref"]})
            else:
                yield self._broken("a value has to fit one more schema.", "$ref")


_CHECKS: tuple[Callable[[_Comparison, Schema, Schema], Iterator[Break]], ...] = (
    _Comparison.types,
    _Comparison.values,
    _Comparison.numbers,
    _Comparison.sizes,
    _Comparison.fields,
    _Comparison.other_fields,
    _Comparison.items,
    _Comparison.every,
    _Comparison.any,
    _Comparison.whole,
    _Comparison.reference,
)


def _resolved(root: Schema, node: Any) -> Any:
    """Return a schema, or what it refers to if it is a reference alone."""
    passed: set[str] = set()
    while isinstance(node, Mapping) and "$ref" in node and not node.keys() - TEXTS - {"$ref"}:
        if node["$ref"] in passed:
            break
        passed.add(node["$ref"])
        node = _target(root, node)
    if isinstance(node, Mapping) and not node.keys() - TEXTS:
        return {}
    return node


def _target(root: Schema, node: Schema) -> Any:
    definitions = root.get("definitions") or root.get("$defs") or {}
    return definitions.get(str(node["$ref"]).rpartition("/")[2], True)


def _same(
    old_root: Schema, old: Any, new_root: Schema, new: Any, seen: frozenset[tuple[int, int]] = frozenset()
) -> bool:
    """Return whether two values of a keyword are the same but for texts."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        if (id(old), id(new)) in seen:
            return True
        seen |= {(id(old), id(new))}
        old, new = _without_texts(old), _without_texts(new)
        if old.keys() != new.keys():
            return False
        return all(_same_keyword(key, old_root, old[key], new_root, new[key], seen) for key in old)
    return _key(old) == _key(new)


def _same_keyword(
    key: str, old_root: Schema, old: Any, new_root: Schema, new: Any, seen: frozenset[tuple[int, int]]
) -> bool:
    if key == "$ref":
        return _same(old_root, _target(old_root, {key: old}), new_root, _target(new_root, {key: new}), seen)
    if key in NAMED and isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(_same(old_root, old[name], new_root, new[name], seen) for name in old)
    if key in LISTED and isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(
            _same(old_root, before, new_root, after, seen) for before, after in zip(old, new, strict=True)
        )
    if key in ONE:
        return _same(old_root, old, new_root, new, seen)
    if key in ("required", "enum") and isinstance(old, list) and isinstance(new, list):
        return sorted(map(_key, old)) == sorted(map(_key, new))
    return _key(old) == _key(new)


def _without_texts(node: Schema) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in TEXTS and not key.startswith("x-")}


def _declared(root: Schema, node: Any, passed: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the names of the fields that a schema declares for one value, in any of its branches."""
    if not isinstance(node, Mapping):
        return
    yield from node.get("properties", {})
    if "$ref" in node and node["$ref"] not in passed:
        yield from _declared(root, _target(root, node), passed | {node["$ref"]})
    for key in ("allOf", "anyOf", "oneOf"):
        for one in node.get(key, []):
            yield from _declared(root, one, passed)
    for key in ("not", "if", "then", "else"):
        yield from _declared(root, node.get(key), passed)
    for key in ("dependencies", "dependentSchemas"):
        for one in node.get(key, {}).values():
            yield from _declared(root, one, passed)


def _types(node: Schema) -> tuple[str, ...] | None:
    types = node.get("type")
    return None if types is None else (types,) if isinstance(types, str) else tuple(types)


def _is_wider(one: str, types: tuple[str, ...]) -> bool:
    return one == "integer" and "number" in types


def _allowed(node: Schema) -> list[str] | None:
    """Return the values that a schema lists, as comparable texts. None if it lists none."""
    enum = None if "enum" not in node else [_key(one) for one in node["enum"]]
    if "const" not in node:
        return enum
    const = _key(node["const"])
    return [const] if enum is None or const in enum else []


def _limit(node: Schema, bound: str, exclusive: str, sign: int) -> tuple[float, int] | None:
    """Return a bound that is larger if it allows more."""
    limits = [(sign * node[bound], 1)] if bound in node else []
    limits += [(sign * node[exclusive], 0)] if exclusive in node else []
    return min(limits, default=None)


def _is_multiple(was: Any, step: Any) -> bool:
    return type(was) is int and type(step) is int and was % step == 0


def _key(value: Any) -> str:
    """Return a text that is the same for equal values of JSON: 1 and 1.0, but not true."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list):
        return f"[{','.join(map(_key, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{json.dumps(name)}:{_key(value[name])}' for name in sorted(value))}}}"
    return json.dumps(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _list(values: Any) -> str:
    return " or ".join(f"`{one}`" for one in values)
