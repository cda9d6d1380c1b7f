"""Find what a change really changes: the values to write, and their names for `changedFields`."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic.alias_generators import to_camel

from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError

_ABSENT = object()

MAX_KEYS = 100
"""Keys of a mapping that is merged key by key."""
MAX_STAMPS = 300
_REST = ""


def merge(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields of `current` that `wanted` changes, and their names on the wire.

    A mapping is merged key by key, and each key has its own name (`variables.food`). None removes a key. If `current`
    is empty, everything wanted is a change. Raises BeaconfireError if a mapping would get more than `MAX_KEYS` keys.
    """
    values: dict[str, Any] = {}
    fields: list[str] = []
    for name, value in wanted.items():
        wire_name = to_camel(name)
        if isinstance(value, Mapping):
            values[name], keys = _merge_keys(wire_name, current.get(name, {}), value)
            fields += [f"{wire_name}.{key}" for key in keys]
        elif not _same(current.get(name, _ABSENT), value):
            values[name] = value
            fields.append(wire_name)
    return values, tuple(fields)


def _merge_keys(
    wire_name: str, current: Mapping[str, Any], wanted: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    changed = [key for key, value in wanted.items() if not _same(current.get(key), value)]
    merged = {key: value for key, value in {**current, **wanted}.items() if value is not None}
    if len(merged) > MAX_KEYS:
        raise BeaconfireError(errors.BAD_REQUEST, f"{wire_name}: would have {len(merged)} keys, {MAX_KEYS} at most")
    return merged, changed


def _same(one: object, other: object) -> bool:
    # 1 and True are equal in Python, but not in JSON.
    if isinstance(one, dict | list) and isinstance(other, dict | list):
        return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def stamp(stamps: Mapping[str, int], fields: Iterable[str], revision: int) -> dict[str, int]:
    """Return the revision at which each field was last changed. For `fields` it is this one, for others at first 1.

    At most `MAX_STAMPS` variables that come and go are remembered one by one. All others count as changed when the
    latest of them was. So an edit from an older state may get a needless conflict, but never misses one.
    """
    stamped = {**stamps, **dict.fromkeys(fields, revision)}
    if len(stamped) <= MAX_STAMPS:
        return stamped
    latest_first = sorted((name for name in stamped if name != _REST), key=lambda name: -stamped[name])
    kept, rest = latest_first[: MAX_STAMPS // 2], latest_first[MAX_STAMPS // 2 :]
    floor = max(stamped.get(_REST, 1), *(stamped[name] for name in rest))
    return {_REST: floor, **{name: stamped[name] for name in kept}}


def conflicts(stamps: Mapping[str, int], fields: Iterable[str], based_on: int) -> tuple[str, ...]:
    """Return those of the fields that were changed after the revision on which a change is based."""
    return tuple(name for name in fields if stamps.get(name, stamps.get(_REST, 1)) > based_on)


def changed_since(stamps: Mapping[str, int], based_on: int) -> tuple[str, ...]:
    """Return the fields that were changed after a revision."""
    return tuple(name for name, revision in stamps.items() if name != _REST and revision > based_on)
