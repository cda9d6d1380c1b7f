"""Event ⇄ NATS message: the JSON around a payload, written strictly and read tolerantly.

    {"id", "type", "version", "payload", "metadata": {"timestamp", "userId", "source", "correlationId", "audience"}}

A publisher in another language needs only a subject and this JSON (PROTOCOL.md, "Publishing").
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, reduce
from importlib import import_module
from operator import or_
from typing import Annotated, Any, Literal, NoReturn, NotRequired, TypedDict

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.alias_generators import to_camel
from pydantic_core import SchemaValidator, core_schema

from beaconfire_kit.event import Event, Id, MissingId, OpenEvent, SubjectBuilder, events, ids_in, subject_builder
from beaconfire_kit.invalid_event import MAX_EVENT_BYTES, InvalidEvent, check_json, check_size
from beaconfire_kit.roles import Role

Source = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
CorrelationId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]
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


class ReceivedMetadata(Metadata):
    """As `Metadata`, except that the publisher must give the time."""

    timestamp: AwareDatetime


class Received(BaseModel):
    """A valid event from the broker. `id` is empty if the publisher gave none."""

    id: EventId = ""
    type: str
    payload: Event
    metadata: ReceivedMetadata


class CheckedMetadata(TypedDict):
    """The fields of `Metadata` that the publisher gave."""

    timestamp: datetime
    user_id: NotRequired[str | None]
    source: str
    correlation_id: NotRequired[str | None]
    audience: NotRequired[tuple[Role, ...] | None]


class Checked(TypedDict):
    """The fields of `Received` that the publisher gave, as plain dicts."""

    id: NotRequired[str]
    type: str
    payload: dict[str, Any]
    metadata: CheckedMetadata


def read(subject: str, body: bytes) -> Received:
    """Check a message against the event classes and its subject. As `check`, but it returns models.

    An event of another system (`OpenEvent`) has all of its fields, and the ids that its subject has. Skip a message
    whose reason is in `UNKNOWN`: it is an event of a type for which this service has no class.
    """
    check(subject, body)
    received: Received = _reader().validate_json(body, extra="ignore", by_alias=True, by_name=False)
    if isinstance(received.payload, OpenEvent):
        return received.model_copy(update={"payload": _with_every_field(received, subject, body)})
    return received


UNKNOWN = frozenset({"unknown_type", "unknown_version"})
"""Reasons for which a message is not invalid for everybody. Other services may know its type."""


def _with_every_field(received: Received, subject: str, body: bytes) -> Event:
    said: dict[str, Any] = json.loads(body)["payload"]
    ids = {to_camel(name): id_ for name, id_ in ids_in(received.type, subject).items()}
    left_out = {name: id_ for name, id_ in ids.items() if said.get(name) is None}
    return type(received.payload).model_validate_json(json.dumps(said | left_out), by_alias=True, by_name=False)


def check(subject: str, body: bytes) -> Checked:
    """Check a message against the catalogue and its subject. It is used live, for history, and over HTTP.

    No value is converted: `true` and `1.0` are not 1, and a number is not a time. Unknown fields pass. Raises
    InvalidEvent. Its reason is `too_large`, `not_json`, `unknown_type`, `unknown_version`, `invalid` (the text names
    the field) or `wrong_subject`. `not_json` also means invalid UTF-8, NaN, a key twice, or nesting too deep.
    """
    if len(body) > MAX_EVENT_BYTES:
        check_size(body)
    validate, types = _checker()
    try:
        checked: Checked = validate(body, extra="ignore", by_alias=True, by_name=False)
    except ValidationError as error:
        _refuse(error)
    payload = checked["payload"]
    address, colons = types[checked["type"]]
    try:
        right = address(payload)
    except MissingId:
        right = _address_of_shorter(checked["type"], subject, payload)
    if right != subject:
        raise InvalidEvent("wrong_subject", f"a {checked['type']} with these ids belongs on {right}")
    # Every key has a colon behind it. Every time has two inside, and a third in its offset. If there are no other
    # colons than those of the known fields, no key is unknown or there twice. Then the body needs no second look.
    more = body.count(b":") - len(checked) - len(payload) - len(checked["metadata"]) - colons
    if more and not (more == 1 and b'+00:00"' in body):
        check_json(body)
    return checked


def _address_of_shorter(type_: str, subject: str, payload: Mapping[str, Any]) -> str:
    """Return the right subject of an event that leaves out ids, because its subject has them."""
    given = {name: value for name, value in payload.items() if value is not None}
    try:
        return subject_builder(type_)({**ids_in(type_, subject), **given})
    except MissingId:
        raise InvalidEvent("wrong_subject", f"a {type_} does not belong on a subject of this form") from None


@cache
def _reader() -> TypeAdapter[Any]:
    """Return one validator for all events. The type chooses the model, in one pass over the JSON."""
    import_module("beaconfire_kit.events.every")  # here, because a gateway needs this module, but no event class
    models = [
        create_model(
            f"{cls.__name__}Message",
            __base__=Received,
            type=(Literal[type_], ...),  # type: ignore[arg-type]
            version=(Annotated[int, Field(ge=cls.version, le=cls.version)], ...),
            payload=(cls, ...),
        )
        for type_, cls in events().items()
    ]
    return TypeAdapter(Annotated[reduce(or_, models), Field(discriminator="type")])  # type: ignore[arg-type]


@cache
def _checker() -> tuple[Callable[..., Any], Mapping[str, tuple[SubjectBuilder, int]]]:
    """`_reader`, derived from it, but strict, and giving dicts: making instances of models takes as long as checking.

    Beside it, for each type, what makes its address, and how many colons a message has besides those of its keys.
    """
    schema: Any = _reader().core_schema
    choices = {type_: _as_dict(choice, "payload", "metadata") for type_, choice in schema["choices"].items()}
    # Of strings, only names come again and again: to remember the values, too, takes a tenth of the time.
    validator = SchemaValidator({**schema, "choices": choices}, {"cache_strings": "keys"})
    return validator.validate_json, {
        type_: (subject_builder(type_), _colons(choice)) for type_, choice in choices.items()
    }


def _as_dict(model: Any, *inside: str) -> Any:
    """The schema of a model without the making of an instance, strict; of those in the fields `inside`, too.

    A model with validators of its own (of the whole, not of a field) needs the instance: it is made, and taken apart.
    """
    if model["type"] != "model" or model["schema"]["type"] != "model-fields" or "post_init" in model:
        return core_schema.no_info_after_validator_function(lambda instance: dict(vars(instance)), model)
    fields = {}
    for name, field_ in model["schema"]["fields"].items():
        schema, is_required = field_["schema"], True
        if schema["type"] == "default":  # fields that were not given are left out
            schema, is_required = schema["schema"], False
        schema = _as_dict(schema) if name in inside else _strict(schema)
        fields[name] = core_schema.typed_dict_field(
            schema, required=is_required, validation_alias=field_.get("validation_alias")
        )
    return core_schema.typed_dict_schema(fields, config=model.get("config"))


_NO_SCHEMA = frozenset({"metadata", "config", "default", "expected", "cls", "serialization", "ref", "schema_ref"})
_TIME = core_schema.str_schema(strict=True, pattern=r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d")


def _strict(schema: Any) -> Any:
    """Return a strict schema: no text or `true` becomes a number, no number becomes a time, and NaN is refused."""
    if isinstance(schema, list | tuple):
        return type(schema)(_strict(one) for one in schema)
    if not isinstance(schema, dict):
        return schema
    inner = {name: one if name in _NO_SCHEMA else _strict(one) for name, one in schema.items()}
    match schema.get("type"):
        case "int" | "bool":
            return {**inner, "strict": True}
        case "float":
            return {**inner, "strict": True, "allow_inf_nan": False}
        case "datetime":
            return core_schema.chain_schema([_TIME, inner])
    return inner


def _colons(message: Any) -> int:
    """How many colons every message of this schema has at least, besides those of its keys: two in each time."""
    payload = message["fields"]["payload"]["schema"]
    if payload["type"] != "typed-dict":
        return -1_000  # its contents are not known, so it is always looked at
    fields = [*payload["fields"].values(), *message["fields"]["metadata"]["schema"]["fields"].values()]
    return 2 * len([field_ for field_ in fields if field_["required"] and field_["schema"]["type"] == "chain"])


def _refuse(error: ValidationError) -> NoReturn:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(step) for step in first["loc"][1:])
    match first["type"]:
        case "json_invalid":
            reason = "not_json"
        case "union_tag_invalid" | "union_tag_not_found":
            reason = "unknown_type"
        case kind if where == "version" and kind != "missing":
            reason = "unknown_version"
        case _:
            reason = "invalid"
    detail = f"{where}: {first['msg']}" if where else first["msg"]
    raise InvalidEvent(reason, detail[:300]) from None
