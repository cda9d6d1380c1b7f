"""Event ⇄ NATS message: the JSON around a payload, written strictly and read tolerantly.

    {"id", "type", "version", "payload", "metadata": {"timestamp", "userId", "source", "correlationId", "audience"}}

A publisher in another language needs a subject and this JSON, nothing else (PROTOCOL.md, "Publishing").
"""

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, NoReturn, TypedDict

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

import shared.events  # noqa: F401  (fills the catalogue)
from shared.catalogue import Event, Id, address, events
from shared.roles import Role

Source = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
CorrelationId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]
EventId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]


MAX_EVENT_BYTES = 65_536
"""The body of a message. A client that does not read may cost a gateway four of them."""

REASONS = {
    "not_json": "the body is no JSON that every client could read",
    "unknown_type": "no event of the catalogue has this type: declare it first, or correct the type",
    "unknown_version": "gateways do not know this version of the event: bring them up to date before the publisher",
    "invalid": "a field is missing or wrong: see the event's page in docs/reference/events.md",
    "wrong_subject": "the subject does not say the same as the ids in the payload",
    "too_large": "an event has at most 64 KiB: keep elsewhere what is large, and say in the event where",
    "has_ttl": "it carries Nats-TTL, and would vanish from the history",
}
"""Why a message is no event, for who has to mend it."""


class InvalidEvent(ValueError):
    """A message that is no event of the catalogue on its own subject.

    `reason` is a word of `REASONS`, for metrics and the dead letter; the text says where and what, never the payload's
    values.
    """

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Metadata(BaseModel):
    """Who, when, whence. Unknown keys are ignored when read."""

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
    """The roles that may see the event; None: every member of its rooms."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event that a service is about to publish."""

    event: Event
    metadata: Metadata
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    message_id: str = ""
    """Its `Nats-Msg-Id`: the id, unless a caller chose that. The broker drops a second message under the same one,
    whoever sends it, so a stranger must not be able to guess it."""

    def __post_init__(self) -> None:
        if not self.message_id:
            object.__setattr__(self, "message_id", self.id)

    @property
    def subject(self) -> str:
        return self.event.address()

    def encode(self) -> bytes:
        """The body of the NATS message: compact JSON, UTF-8. Raises InvalidEvent where it is too large."""
        body = {
            "id": self.id,
            "type": self.event.type,
            "version": self.event.version,
            "payload": self.event.model_dump(mode="json"),
            "metadata": self.metadata.model_dump(mode="json", exclude_none=True),
        }
        encoded = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        check_size(encoded)
        return encoded


def check_size(body: bytes) -> None:
    """Raises InvalidEvent for a message that is too large."""
    if len(body) > MAX_EVENT_BYTES:
        raise InvalidEvent("too_large", f"an event has at most {MAX_EVENT_BYTES} bytes, this one {len(body)}")


class ReceivedMetadata(Metadata):
    """As `Metadata`; the publisher must have said when."""

    timestamp: AwareDatetime


class Received(BaseModel):
    """An event as it came from the broker, checked. `id` is empty where the publisher gave none."""

    id: EventId = ""
    type: str
    payload: Event
    metadata: ReceivedMetadata


class CheckedMetadata(TypedDict):
    """The fields of `Metadata`."""

    timestamp: datetime
    user_id: str | None
    source: str
    correlation_id: str | None
    audience: tuple[Role, ...] | None


class Checked(TypedDict):
    """The fields of `Received`, for who needs no models."""

    id: str
    type: str
    payload: dict[str, Any]
    metadata: CheckedMetadata


def read(subject: str, body: bytes) -> Received:
    """Check a message against the catalogue and against the subject it came on.

    Raises InvalidEvent with the reason `not_json` (also invalid UTF-8, NaN, nesting too deep), `unknown_type`,
    `unknown_version`, `invalid` (the field is named) or `wrong_subject`. Unknown fields pass.
    """
    try:
        received: Received = _reader().validate_json(body, extra="ignore", by_alias=True, by_name=False)
    except ValidationError as error:
        _refuse(error)
    _check_whole(subject, body, received.type, received.payload.__dict__)
    return received


def check(subject: str, body: bytes) -> Checked:
    """As `read`, with the same refusals in the same words, and without models: at half the cost."""
    try:
        checked: Checked = _checker().validate_json(body, extra="ignore", by_alias=True, by_name=False)
    except ValidationError as error:
        _refuse(error)
    _check_whole(subject, body, checked["type"], checked["payload"])
    return checked


def _check_whole(subject: str, body: bytes, type_: str, payload: dict[str, Any]) -> None:
    """What no field shows by itself. Raises InvalidEvent."""
    right = address(type_, payload)
    if right != subject:
        raise InvalidEvent("wrong_subject", f"a {type_} with these ids belongs on {right}")
    # JSON has no NaN, but Python's parsers read it; a browser's does not, and would lose the whole frame.
    # Most bodies have no N, and to look for one letter costs a tenth.
    if (b"N" in body and b"NaN" in body) or b"Infinity" in body:
        _refuse_nan(body)


@cache
def _reader() -> TypeAdapter[Any]:
    """One validator for all events: the type picks the model, in one pass over the JSON."""
    models = [
        create_model(
            f"{cls.__name__}Message",
            __base__=Received,
            type=(Literal[type_], ...),  # type: ignore[arg-type]
            version=(Literal[cls.version], ...),  # type: ignore[arg-type]
            payload=(cls, ...),
        )
        for type_, cls in events().items()
    ]
    return TypeAdapter(Annotated[reduce(or_, models), Field(discriminator="type")])  # type: ignore[arg-type]


@cache
def _checker() -> SchemaValidator:
    """`_reader`, derived from it, but that it gives dicts: making instances of models takes as long as checking."""
    schema: Any = _reader().core_schema
    choices = {type_: _as_dict(choice, "payload", "metadata") for type_, choice in schema["choices"].items()}
    # Of strings, only names come again and again: to remember the values, too, takes a tenth of the time.
    return SchemaValidator({**schema, "choices": choices}, {"cache_strings": "keys"})


def _as_dict(model: Any, *inside: str) -> core_schema.CoreSchema:
    """The schema of a model without the making of an instance; of those in the fields `inside`, too.

    A model with validators of its own (of the whole, not of a field) needs the instance: it is made, and taken apart.
    """
    if model["type"] != "model" or model["schema"]["type"] != "model-fields" or "post_init" in model:
        return core_schema.no_info_after_validator_function(lambda instance: dict(vars(instance)), model)
    fields = {}
    for name, field_ in model["schema"]["fields"].items():
        schema = _as_dict(field_["schema"]) if name in inside else field_["schema"]
        fields[name] = core_schema.typed_dict_field(
            schema, required=schema["type"] != "default", validation_alias=field_.get("validation_alias")
        )
    return core_schema.typed_dict_schema(fields, config=model.get("config"))


def _refuse(error: ValidationError) -> NoReturn:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(step) for step in first["loc"][1:])
    match first["type"]:
        case "json_invalid":
            reason = "not_json"
        case "union_tag_invalid" | "union_tag_not_found":
            reason = "unknown_type"
        case "literal_error" if where == "version":
            reason = "unknown_version"
        case _:
            reason = "invalid"
    detail = f"{where}: {first['msg']}" if where else first["msg"]
    raise InvalidEvent(reason, detail[:300]) from None


def _refuse_nan(body: bytes) -> None:
    def refuse(constant: str) -> NoReturn:
        raise InvalidEvent("not_json", f"{constant} is not JSON")

    try:
        json.loads(body, parse_constant=refuse)
    except RecursionError:
        raise InvalidEvent("not_json", "nested too deep") from None
