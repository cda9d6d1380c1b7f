"""Define events: the base of event classes, and the registry of all of them.

An event is declared once, as one class in one file under `beaconfire_kit/events/`. Everything else follows from it:
subject, rooms, validation, reference, AsyncAPI, JSON Schemas, client typings (`make generate`). This file is never
edited to add an event. A declaration that cannot work is refused at import, with a sentence that names the class.

Write strictly, read tolerantly. A service may not build an event with unknown fields. A reader lets them pass
(`beaconfire_kit/envelope.py`), so a new optional field needs no gateway deployment.
"""

import re
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

from beaconfire_kit.subjects import ID_PATTERN, ROOT_KINDS, InvalidSubject, parse_subject

Id = Annotated[str, StringConstraints(pattern=f"^{ID_PATTERN}$")]
SubjectBuilder = Callable[[Mapping[str, Any]], str]
"""Builds an event's subject from its fields."""

_TYPE = re.compile(r"[a-z][a-z_]*(\.[a-z][a-z_]*)*")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class InvalidDeclaration(TypeError):
    """The event class cannot work. Raised while its module is imported."""


class Event(BaseModel):
    """The payload of one kind of event.

    A subclass that sets `type` and `subject` is an event of the catalogue; one that does not is a shared shape.
    `subject` is a template: each `{field}` is filled from the field of that name, and must be an id.
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

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "type" in cls.__dict__:
            _check(cls)
            _registry[cls.type] = cls
            _builders[cls.type] = _builder_of(cls)

    def full_subject(self) -> str:
        """Return the subject of this event. For an ephemeral event it is below `ephemeral.`."""
        return _builders[self.type](self.__dict__)


_registry: dict[str, type[Event]] = {}
_builders: dict[str, SubjectBuilder] = {}


def events() -> dict[str, type[Event]]:
    """Return all declared event classes by type, in the order of declaration."""
    return dict(_registry)


def subject_builder(type_: str) -> SubjectBuilder:
    """Return the function that builds the subjects of a type's events, as `Event.full_subject` does."""
    return _builders[type_]


def _builder_of(cls: type[Event]) -> SubjectBuilder:
    # `%` takes an eighth of the time of `format_map`, and this is done for every event in every gateway.
    template = _PLACEHOLDER.sub("%s", f"ephemeral.{cls.subject}" if cls.ephemeral else cls.subject)
    names = _PLACEHOLDER.findall(cls.subject)
    if not names:
        return lambda _payload: template
    fields = itemgetter(*names)
    return lambda payload: template % fields(payload)


def _check(cls: type[Event]) -> None:
    """Refuse a declaration that cannot work."""

    def refuse(why: str) -> InvalidDeclaration:
        return InvalidDeclaration(f"event class {cls.__module__}.{cls.__qualname__}: {why}")

    if not _TYPE.fullmatch(cls.type):
        raise refuse(f"type {cls.type!r} is not lower_case words joined by dots")
    other = _registry.get(cls.type)
    if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise refuse(f"type {cls.type!r} is taken by {other.__module__}.{other.__qualname__}")
    if not isinstance(getattr(cls, "subject", None), str):
        raise refuse("has a type and no subject")
    unknown = set(_PLACEHOLDER.findall(cls.subject)) - set(cls.model_fields)
    if unknown:
        raise refuse(f"subject {cls.subject!r} names {', '.join(sorted(unknown))}, which is not a field")
    left_out = [name for name in _PLACEHOLDER.findall(cls.subject) if not cls.model_fields[name].is_required()]
    if left_out:
        raise refuse(
            f"subject {cls.subject!r} names {', '.join(left_out)}, which may be left out: take its default away"
        )
    first = _PLACEHOLDER.fullmatch(cls.subject.split(".")[0])
    kinds = set(get_args(cls.model_fields[first[1]].annotation)) if first else set()
    if first and not (kinds and kinds <= ROOT_KINDS):
        raise refuse(f"subject {cls.subject!r}: {first[1]} must be a Literal of root kinds")
    sample = cls.subject.replace(first[0], "campaign", 1) if first else cls.subject
    try:
        parse_subject(_PLACEHOLDER.sub("x", sample))
    except InvalidSubject as error:
        raise refuse(f"subject {cls.subject!r}: {error}") from error
