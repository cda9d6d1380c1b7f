"""Parse the event types that a subscription wants. No I/O."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache

from beaconfire_gateway.wire.messages import Typing
from beaconfire_kit import errors
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.errors import BeaconfireError

MAX_ADVICE = 20
"""Types that a refusal lists."""

WantedTypes = frozenset[str] | None
"""The event types wanted; None: all."""


def select(names: Sequence[str] | None, catalogue: Catalogue) -> WantedTypes:
    """The types of these names; None for all. Raises BeaconfireError (`unknown_type`), which names similar types.

    `user.typing` is known without a catalogue that has it: clients ask for `typing` messages with it.
    """
    if names is None:
        return None
    for name in names:
        if name not in catalogue.types and name != Typing.EVENT_TYPE:
            raise BeaconfireError(errors.UNKNOWN_TYPE, f"{name!r} is not an event type: {_advice(name, catalogue)}")
    return _shared(tuple(names))


@lru_cache(maxsize=1024)
def _shared(names: tuple[str, ...]) -> frozenset[str]:
    """All sessions that want the same share one set."""
    return frozenset(names)


def _advice(name: str, catalogue: Catalogue) -> str:
    near = get_close_matches(name, catalogue.types, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    some = sorted(catalogue.types)[:MAX_ADVICE]
    more = len(catalogue.types) - len(some)
    return f"there are {', '.join(some)}" + (f" and {more} more" if more else "")
