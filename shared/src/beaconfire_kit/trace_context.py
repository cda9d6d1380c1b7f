"""Read the W3C trace context that an event carries in its `metadata` (https://www.w3.org/TR/trace-context/)."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

Context = Mapping[str, str]
"""`traceparent` and, if there is one, `tracestate`: headers of a request or a message, and fields of metadata."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")
"""OpenTelemetry checks its parts. Here it must be impossible to put another header behind it."""
MAX_TEXT = 128
"""Characters of an id and of a type. The catalogue allows no more."""
_MARK = b'"traceparent"'


class Carried(NamedTuple):
    """An event's context, and what its spans say about the event."""

    context: Context
    type: str
    id: str
    correlation_id: str = ""


def carried_by(body: bytes) -> Carried | None:
    """Return what an event carries. None without a valid context: then it costs one search for a word."""
    if _MARK not in body:
        return None
    try:
        event = orjson.loads(body)
        metadata = event["metadata"]
        context = checked(metadata.get("traceparent"), metadata.get("tracestate"))
        if context is None:
            return None
        return Carried(context, _text(event.get("type")), _text(event.get("id")), _text(metadata.get("correlationId")))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None  # no event: its readers say so


def checked(traceparent: Any, tracestate: Any) -> Context | None:
    """Return a context, or None if it is malformed. A malformed `tracestate` is left out."""
    if not is_traceparent(traceparent):
        return None
    return {"traceparent": traceparent, **({"tracestate": tracestate} if is_tracestate(tracestate) else {})}


def is_traceparent(value: Any) -> bool:
    """Whether this looks like a `traceparent` of any version. Of later ones, the part that all versions share."""
    return isinstance(value, str) and bool(_TRACEPARENT.fullmatch(value))


def is_tracestate(value: Any) -> bool:
    """Whether this is printable text within the standard's limit."""
    return isinstance(value, str) and bool(_TRACESTATE.fullmatch(value))


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""
