"""Event ⇄ NATS message: the JSON around a payload, written strictly and read tolerantly.

    {"id", "type", "version", "payload", "metadata": {"timestamp", "userId", "source", "correlationId", "audience",
                                                   "traceparent", "tracestate"}}

A publisher in another language needs only a subject and this JSON (PROTOCOL.md, "Publishing").
"""

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic.alias_generators import to_camel

from beaconfire_kit.event import Event, Id
from beaconfire_kit.invalid_event import InvalidEvent, check_size
from beaconfire_kit.roles import Role
from beaconfire_kit.trace_context import Carried, Context, is_traceparent, is_tracestate

Source = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
CorrelationId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]
# An event with a malformed one is as valid as before there were traces.
Traceparent = Annotated[str | None, BeforeValidator(lambda given: given if is_traceparent(given) else None)]
Tracestate = Annotated[str | None, BeforeValidator(lambda given: given if is_tracestate(given) else None)]
EventId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]


class Metadata(BaseModel):
    """User, time and source of an event. Unknown keys are ignored when read."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    timestamp: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    user_id: Id | None = None
    source: Source
    correlation_id: CorrelationId | None = None
    audience: tuple[Role, ...] | None = None
    """The roles that may see the event. None: all members of its rooms."""
    traceparent: Traceparent = None
    tracestate: Tracestate = None
    """The context of the trace in which the event was created (`beaconfire_kit.tracing`). None: it is not traced."""


@dataclass(frozen=True, slots=True)
class RawEvent:
    """An event of a type for which the service has no class. It must have been checked against the catalogue."""

    type: str
    version: int
    subject: str
    payload: str
    """JSON, published as it is."""

    def full_subject(self) -> str:
        """Return the subject, as `Event.full_subject` does."""
        return self.subject


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event that a service is about to publish."""

    event: Event | RawEvent
    metadata: Metadata
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    message_id: str = ""
    """The event's `Nats-Msg-Id`. It is the id, unless a caller chose another. The broker drops a second message with
    the same one, even from another sender, so it must be impossible to guess."""

    def __post_init__(self) -> None:
        if not self.message_id:
            object.__setattr__(self, "message_id", self.id)

    @property
    def subject(self) -> str:
        return self.event.full_subject()

    def encode(self) -> bytes:
        """Return the body of the NATS message: compact JSON in UTF-8. Raises InvalidEvent if it is too large."""
        event = self.event
        payload = event.payload if isinstance(event, RawEvent) else event.model_dump(mode="json")
        metadata = self.metadata.model_dump(mode="json", exclude_none=True)
        return body(id_=self.id, type_=event.type, version=event.version, payload=payload, metadata=metadata)

    def encode_with(self, context: Context | None) -> bytes:
        """Return the body with the context of a trace, unless the event would be too large with it."""
        if context is not None:
            with suppress(InvalidEvent):
                return replace(self, metadata=self.metadata.model_copy(update=context)).encode()
        return self.encode()

    def about(self) -> Carried:
        """Return what the spans of a trace say about the event."""
        return Carried({}, self.event.type, self.id, self.metadata.correlation_id or "")


def body(*, id_: str, type_: str, version: int, payload: str | Mapping[str, Any], metadata: Mapping[str, Any]) -> bytes:
    """Return the body of an event's message. A payload that is text is JSON, and is kept as it is.

    Raises InvalidEvent if it is too large.
    """
    text = payload.encode() if isinstance(payload, str) else compact(payload)
    head, tail = compact({"id": id_, "type": type_, "version": version}), compact({"metadata": metadata})
    encoded = b'%b,"payload":%b,%b' % (head[:-1], text, tail[1:])
    check_size(encoded)
    return encoded


def compact(value: Mapping[str, Any]) -> bytes:
    """Return JSON as it is stored: UTF-8, without white space."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def described(message: bytes) -> dict[str, Any]:
    """Return the id, type, version and metadata in an event's JSON, without its payload. Empty if it is no event."""
    try:
        event = json.loads(message)
        return {name: event[name] for name in ("id", "type", "version", "metadata") if name in event}
    except (ValueError, TypeError):
        return {}


def correlation_of(message: bytes) -> str | None:
    """Return the correlation id in an event's JSON, None if there is none."""
    try:
        found = json.loads(message)["metadata"].get("correlationId")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return found if isinstance(found, str) else None
