"""How much fits into a message. A gateway closes a connection that sends more than `maxFrameBytes` at once."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

MAX_ROOMS_IN_MESSAGE = 100
"""PROTOCOL.md §4."""
LEAST_FRAME_BYTES = 1024
"""The smallest `maxFrameBytes` that a gateway can be configured to. It counts before the first ack."""
USUAL_FRAME_BYTES = 16_384
"""The default `maxFrameBytes` of a gateway."""

Thing = TypeVar("Thing")


def encode(message: Any) -> str:
    """Return the JSON of a message as it is sent."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def bytes_of(value: Any) -> int:
    """Return the number of bytes that a value takes in a message."""
    return len(encode(value).encode())


def in_lists(
    things: Sequence[Thing], cost_of: Callable[[Thing], int], spare: int, *, most: int = MAX_ROOMS_IN_MESSAGE
) -> list[list[Thing]]:
    """Split things into as few lists as possible, in order. A thing that is too large gets a list of its own.

    Each list has at most `most` things, which cost at most `spare` together.
    """
    lists: list[list[Thing]] = []
    left = 0
    for thing in things:
        cost = cost_of(thing)
        if lists and cost <= left and len(lists[-1]) < most:
            lists[-1].append(thing)
            left -= cost
        else:
            lists.append([thing])
            left = spare - cost
    return lists
