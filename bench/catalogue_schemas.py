"""Measure what the most expensive schemas that a push accepts cost for hostile events of 64 KiB.

    python -m bench.catalogue_schemas

Each row is a schema at a limit of `beaconfire_kit.catalogue.schema_cost`, and the payload that makes it work hardest.
The time is the least CPU time of five checks, in milliseconds: of a payload that fits, or with the error of one that
does not.
"""

import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import orjson

from beaconfire_kit.catalogue import patterns, schema_cost, schemas
from beaconfire_kit.catalogue.keywords import FORMATS
from beaconfire_kit.invalid_event import MAX_EVENT_BYTES

Case = tuple[Mapping[str, Any], Any]


def _filled(item: Any) -> dict[str, Any]:
    """Return a payload of 64 KiB: a list of the same item."""
    size = len(orjson.dumps(item)) + 1
    return {"a": [item] * ((MAX_EVENT_BYTES - 10) // size)}


def _items(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"properties": {"a": {"items": schema}}}


def _slow_pattern() -> str:
    """Return the longest pattern of a kind that needs a state for each repetition and each beginning."""
    candidates = (f"[01]*1[01]{{{count}}}x" for count in range(400, 0, -1))
    return next(pattern for pattern in candidates if not patterns.problem_of(pattern))


def cases() -> dict[str, Case]:
    kinds = [
        {"type": "object", "required": ["k"], "properties": {"k": {"const": str(kind)}}}
        for kind in range(schema_cost.MAX_CHECKS // 4)
    ]
    tree = {"items": {"$ref": "#/definitions/T"}, "maxItems": 100_000}
    deep: Any = 1
    for _ in range(190):
        deep = [deep]
    random = Random(1)
    bits = {"a": "".join(random.choices("01", k=MAX_EVENT_BYTES - 10))}
    return {
        "63 checks of types": (_items({"anyOf": [{"type": "string"}] * 62 + [{"type": "integer"}]}), _filled(1)),
        "31 bounds": (_items({"allOf": [{"minimum": -bound} for bound in range(31)]}), _filled(1)),
        "15 conditions": (_items({"allOf": [{"if": {"type": "integer"}, "then": {"minimum": 0}}] * 15}), _filled(1)),
        "16 kinds of objects": (_items({"anyOf": kinds}), _filled({"k": str(len(kinds) - 1)})),
        "16 kinds, none fits": (_items({"anyOf": kinds}), _filled({})),
        "alternatives before a list": (
            {"properties": {"a": {"anyOf": [{"items": {"type": "string", "minLength": n}} for n in range(20)]}}},
            _filled(1),
        ),
        "enum of 21 mixed values": (_items({"enum": [*range(20), "a"]}), _filled("a")),
        "eight passes for equal items": (
            {"properties": {"a": {"allOf": [{"uniqueItems": True}] * 8}}},
            {"a": list(range(11_000))},
        ),
        "a tree": ({**_items({"$ref": "#/definitions/T"}), "definitions": {"T": tree}}, {"a": [deep] * 160}),
        "one slow pattern": ({"properties": {"a": {"pattern": _slow_pattern()}}}, bits),
        "eight small slow patterns": (
            {"properties": {"a": {"anyOf": [{"pattern": "[01]*1[01]{7}[x-z]"}] * 8}}},
            bits,
        ),
        "eight formats": (
            {"properties": {"a": {"allOf": [{"not": {"format": one}} for one in sorted(FORMATS)[-8:]]}}},
            {"a": "a." * 32_000},
        ),
    }


def measure(schema: Mapping[str, Any], payload: Any) -> tuple[float, bool]:
    """Return the milliseconds of a check, with its error if there is one, and whether the payload fits."""
    validator = schemas.compiled_schema("draft-07", schema)

    def check() -> bool:
        return validator.is_valid(payload) or schemas.first_error(validator, payload) is None

    return min(_timed(check) for _ in range(5)), validator.is_valid(payload)


def _timed(call: Callable[[], object]) -> float:
    before = time.process_time()
    call()
    return (time.process_time() - before) * 1e3


def main() -> None:
    for name, (schema, payload) in cases().items():
        problem = schema_cost.too_costly(schema)
        assert not problem, f"{name}: {problem}"
        assert len(orjson.dumps(payload)) <= MAX_EVENT_BYTES, name
        milliseconds, fits = measure(schema, payload)
        print(f"{name:32} {milliseconds:8.2f} ms  {'fits' if fits else 'does not fit'}")


if __name__ == "__main__":
    main()
