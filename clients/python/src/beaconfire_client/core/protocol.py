"""PROTOCOL.md as data and pure functions: close codes, names of rooms, frames."""

import json
import re
from collections.abc import Mapping
from typing import Any

from beaconfire_client.core.error_table import ERRORS, ErrorRow, Retry

SUBPROTOCOL = "beaconfire.v1"
BATCHING_SUBPROTOCOL = "beaconfire.v1.batch"
"""The same, with the events of one moment in one message."""
BROKE_OFF = 1006
"""The code of a connection that ended without a close frame (RFC 6455 §7.1.5)."""

Frame = Mapping[str, Any]
"""A message of the gateway."""
Message = dict[str, Any]
"""A message of the client."""

_BROKEN_CLIENT = frozenset({1002, 1003, 1007, 1009})
"""The codes that mean a broken client, which must not try again (PROTOCOL.md §6)."""
_ROOM = re.compile(r"[A-Za-z0-9_-]{1,64}:[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}:[A-Za-z0-9_-]{1,64})?")


def retry_of_close(close_code: int) -> Retry:
    """Return what to do after a close. After an unknown code: try again."""
    if close_code in _BROKEN_CLIENT:
        return "no"
    row = _row_of(close_code)
    return "backoff" if row is None else row.retry


def retry_of_error(code: str) -> Retry:
    """Return what to do after a refusal in a reply or an `error`. After an unknown code: nothing."""
    row = ERRORS.get(code)
    return "no" if row is None else row.retry


def describe_close(close_code: int, reason: str) -> tuple[str, str]:
    """Return the code and the text of the error that a close stands for."""
    row = _row_of(close_code)
    if row is None:
        return f"closed_{close_code}", reason or "The connection was closed"
    return row.code, reason or row.meaning


def is_too_large(close_code: int) -> bool:
    """Return whether a close code means that a message was larger than the gateway accepts."""
    return close_code in (ERRORS["too_large"].close, 1009)


def pair_of(room: str) -> str:
    """Return the last pair of a room: `settlement:s1` of `campaign:c1/settlement:s1`."""
    return room.rpartition("/")[2]


def checked_room(room: str) -> str:
    """Return the room unchanged. Raises ValueError if the gateway would refuse the name."""
    if not isinstance(room, str) or _ROOM.fullmatch(room) is None:
        raise ValueError(f"Not a room: {str(room)[:100]!r}. Expected 'kind:id' or 'root:id/kind:id'")
    return room


def read_frames(text: str) -> list[Frame]:
    """Return the messages in a text frame: the events of a batch, or one message.

    What is not a JSON object with a `type` is ignored, like a message of a newer protocol.
    """
    try:
        frame = json.loads(text)
    except ValueError:
        return []
    if isinstance(frame, dict) and frame.get("type") == "events" and isinstance(frame.get("events"), list):
        return [one for one in frame["events"] if _is_message(one)]
    return [frame] if _is_message(frame) else []


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _row_of(close_code: int) -> ErrorRow | None:
    return next((row for row in ERRORS.values() if row.close == close_code), None)
