"""Parse the event types that a subscription wants. No I/O."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache

import beaconfire_kit.events  # noqa: F401  (fills the catalogue)
from beaconfire_kit import errors
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.event import events

WantedTypes = frozenset[str] | None
"""The event types wanted; None: all."""


def select(names: Sequence[str] | None) -> WantedTypes:
    """The types of these names; None for all. Raises BeaconfireError (`unknown_type`), which names similar types."""
    return None if names is None else _select(tuple(names))


@lru_cache(maxsize=1024)
def _select(names: tuple[str, ...]) -> frozenset[str]:
    # Remembered, so that all sessions that want the same share one set.
    for name in names:
        if name not in events():
            raise BeaconfireError(errors.UNKNOWN_TYPE, f"{name!r} is not an event type: {_advice(name)}")
    return frozenset(names)


def _advice(name: str) -> str:
    near = get_close_matches(name, events(), n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(events()))}"
