"""Define events: the base of event classes, and the registry of all of them.

An event is declared once, as one class in one file under `beaconfire_kit/events/`. Everything else follows from it:
subject, rooms, validation, reference, AsyncAPI, JSON Schemas, client typings (`make generate`). This file is never
edited to add an event. A declaration that cannot work is refused at import, with a sentence that names the class.

Write strictly, read tolerantly. A service may not build an event with unknown fields. A reader lets them pass
(`beaconfire_kit/envelope.py`), so a new optional field needs no gateway deployment.
"""

import re
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, Strict, StringConstraints, model_serializer
from pydantic.alias_generators import to_camel

from beaconfire_kit.subjects import ID_PATTERN, InvalidSubject, parse_subject

Id = Annotated[str, StringConstraints(pattern=f"^{ID_PATTERN}$")]
ItemId = Id | Annotated[int, Strict()]
"""An id of another system, which may count its items: `17`. In the subject it is written with the same digits."""

TYPE = re.compile(r"(?=.{1,128}$)[A-Za-z][A-Za-z0-9_:-]*(\.[A-Za-z0-9_:-]+)*")
"""The name of a type, in a class and in a document. Pages, file names and headers can show all of these characters."""
RESERVED_TYPES = frozenset(
    [
        "connect",
        "connect_error",
        "connection.ack",
        "constructor",
        "degraded",
        "disconnect",
        "disconnecting",
        "error",
        "event",
        "goaway",
        "live",
        "newListener",
        "ping",
        "pong",
        "position",
        "presence",
        "ready",
        "refresh",
        "removeListener",
        "reply",
        "restored",
        "resync",
        "role.changed",
        "room.left",
        "subscribe",
        "token.expiring",
        "typing",
        "unsubscribe",
    ]
)
"""Names that clients get as messages of the plain protocol or of Socket.IO, or that each JavaScript object has."""
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class InvalidDeclaration(TypeError):
    """The event class cannot work. Raised while its module is imported."""


class MissingId(ValueError):
    """An event has no subject, because an id of its subject was not given."""


class Event(BaseModel):
    """The payload of one kind of event.

    A subclass that sets `type` and `subject` is an event of the catalogue; one that does not is a shared shape.
    `subject` is a template: each `{field}` is filled from the field of that name, and must be an id. Such a field with
    the default None may be missing in a message, because the message's subject has the id. A service must give it.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    type: ClassVar[str]
    subject: ClassVar[str]
    version: ClassVar[int] = 1
    ephemeral: ClassVar[bool] = False
    """Sent over core NATS below `ephemeral.`, only to connected clients. It is never stored and has no offset."""
    conflate: ClassVar[tuple[str, int] | None] = None
    """A field and milliseconds. Of the events in that time with the same value, a client may get the latest alone."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "type" in cls.__dict__:
            _check(cls)
            _registry[cls.type, cls.version] = cls

    def full_subject(self) -> str:
        """Return the subject of this event. For an ephemeral event it is below `ephemeral.`. Raises MissingId."""

        def fill(field: re.Match[str]) -> str:
            id_: str | int | None = getattr(self, field[1])
            if id_ is None:
                raise MissingId(f"{self.type}: its subject needs {to_camel(field[1])}, which is missing")
            return str(id_)

        subject = _PLACEHOLDER.sub(fill, self.subject)
        return f"ephemeral.{subject}" if self.ephemeral else subject


class OpenEvent(Event):
    """An event in the shape of another system: an item of theirs, with whatever fields it has.

    Unknown fields are kept and published. Fields that were not given are left out, and are not null.
    """

    model_config = ConfigDict(extra="allow")

    @model_serializer(mode="wrap")
    def _leave_out_what_was_not_given(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        left_out = {field.alias for name, field in type(self).model_fields.items() if name not in self.model_fields_set}
        return {name: value for name, value in serialize(self).items() if name not in left_out}


_registry: dict[tuple[str, int], type[Event]] = {}


def events() -> dict[str, type[Event]]:
    """Return the newest event class of each type, in the order of declaration."""
    newest: dict[str, type[Event]] = {}
    for cls in _registry.values():
        if cls.type not in newest or newest[cls.type].version < cls.version:
            newest[cls.type] = cls
    return newest


def event_classes() -> tuple[type[Event], ...]:
    """Return all declared event classes, also those of earlier versions, in the order of declaration."""
    return tuple(_registry.values())


def _check(cls: type[Event]) -> None:
    """Refuse a declaration that cannot work."""

    def refuse(why: str) -> InvalidDeclaration:
        return InvalidDeclaration(f"event class {cls.__module__}.{cls.__qualname__}: {why}")

    if not TYPE.fullmatch(cls.type):
        raise refuse(f"type {cls.type!r} is not words of letters, digits, `_`, `-` and `:`, joined by dots")
    if cls.type in RESERVED_TYPES:
        raise refuse(f"type {cls.type!r} is the name of a message of the socket protocols: choose another")
    other = _registry.get((cls.type, cls.version))
    if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise refuse(f"type {cls.type!r} version {cls.version} is taken by {other.__module__}.{other.__qualname__}")
    if not isinstance(getattr(cls, "subject", None), str):
        raise refuse("has a type and no subject")
    unknown = set(_PLACEHOLDER.findall(cls.subject)) - set(cls.model_fields)
    if unknown:
        raise refuse(f"subject {cls.subject!r} names {', '.join(sorted(unknown))}, which is not a field")
    fields = {name: cls.model_fields[name] for name in _PLACEHOLDER.findall(cls.subject)}
    if cls.conflate and cls.conflate[0] not in cls.model_fields:
        raise refuse(f"conflate names {cls.conflate[0]}, which is not a field")
    if wrong := [name for name, field in fields.items() if not field.is_required() and field.default is not None]:
        raise refuse(f"subject {cls.subject!r} names {', '.join(wrong)}, whose default is an id: make it None")
    try:
        parse_subject(_PLACEHOLDER.sub("x", cls.subject))
    except InvalidSubject as error:
        raise refuse(f"subject {cls.subject!r}: {error}") from error
