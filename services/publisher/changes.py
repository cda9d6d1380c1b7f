"""What a change really changes: the values to write, and the `changedFields` that tell of them."""

from collections.abc import Mapping
from typing import Any

from pydantic.alias_generators import to_camel

from services.publisher.fields import MAX_KEYS
from shared import errors
from shared.errors import BeaconfireError

_ABSENT = object()


def merge(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields of `current` that `wanted` gives another value, and their names on the wire.

    A mapping is merged key by key, each named by itself (`variables.food`); None removes a key. Of nothing (`{}`),
    everything wanted is a change. Raises BeaconfireError where a mapping would get more than `MAX_KEYS` keys.
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
    # To Python, 1 and True are equal; to JSON they are not.
    return one == other and isinstance(one, bool) == isinstance(other, bool)
