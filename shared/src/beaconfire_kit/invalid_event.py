"""What makes a message invalid, whatever its type: its size, its JSON, its lifetime. And the reasons, for operators."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

MAX_EVENT_BYTES = 65_536
"""Bytes of the body of a message, as it is stored. A client that does not read may cost a gateway four of them."""

REASONS = {
    "not_json": "not every client can read the body as the same JSON: it is malformed, or has NaN or a key twice",
    "unknown_type": "no event of the catalogue has this type: declare it first, or correct the type",
    "unknown_version": "gateways do not know this version of the event: bring them up to date before the publisher",
    "invalid": "a field is missing or wrong: see the event's page in docs/reference/events.md",
    "wrong_subject": "the subject does not match the ids in the payload",
    "too_large": "an event has at most 64 KiB: store large data elsewhere, and put its address into the event",
    "has_ttl": "it carries Nats-TTL, and would vanish from the history",
}
"""Why a message is not a valid event, for the operator or developer who fixes its publisher."""


class InvalidEvent(ValueError):
    """The message is not a valid event of the catalogue on its own subject.

    `reason` is a word of `REASONS`, for metrics and the dead letter. The text names the place and the problem. It never
    contains the payload's values.
    """

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def check_size(body: bytes) -> None:
    """Raise InvalidEvent for a message that is too large."""
    if len(body) > MAX_EVENT_BYTES:
        raise InvalidEvent("too_large", f"an event has at most {MAX_EVENT_BYTES} bytes, this one {len(body)}")


def check_lifetime(headers: Mapping[str, str] | None) -> None:
    """Raise InvalidEvent for a message of the stream with a `Nats-TTL` from its publisher. Gateways refuse it, too."""
    if any(name.lower() == "nats-ttl" for name in headers or ()):
        raise InvalidEvent("has_ttl", "an event must not carry Nats-TTL: it would vanish from the history")


def check_json(body: bytes) -> None:
    """Raise InvalidEvent if parsers could disagree about this JSON.

    That is the case for a key that occurs twice, and for NaN and Infinity, which Python reads and a browser does not.
    """
    try:
        json.loads(
            body, object_pairs_hook=_refuse_twice, parse_constant=_refuse_constant, parse_int=len, parse_float=len
        )
    except RecursionError:
        raise InvalidEvent("not_json", "nested too deep") from None
    except ValueError as error:
        if isinstance(error, InvalidEvent):
            raise
        raise InvalidEvent("not_json", str(error)[:300]) from None


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise InvalidEvent("not_json", f"the key {name[:80]!r} is there twice")
        seen.add(name)


def _refuse_constant(constant: str) -> NoReturn:
    raise InvalidEvent("not_json", f"{constant} is not JSON")
