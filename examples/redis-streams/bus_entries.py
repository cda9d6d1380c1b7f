"""Turn entries of the Redis bus into messages for the broker. No I/O.

An entry has the fields id, type, source, timestamp, correlationId, tenantId, userId, version and data. A rule maps the
types of a pattern to a subject, and an event's rooms follow from its subject:

    "approval.*" = "workspace.{tenantId}.approval.{data.id}"
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from beaconfire_kit import envelope
from beaconfire_kit.envelope import EventId, Metadata
from beaconfire_kit.invalid_event import InvalidEvent
from beaconfire_kit.subjects import InvalidSubject, is_id, parse_subject

_FIELDS = ("id", "type", "source", "timestamp", "correlationId", "tenantId", "userId", "version", "data")
_PLACE = re.compile(r"\{([^{}]*)\}")
_VERSION = re.compile(r"([1-9]\d{0,8})(\.\d+)*")
_NOT_IN_A_SOURCE = re.compile(r"[^a-z0-9_-]+")
_EVENT_ID: TypeAdapter[str] = TypeAdapter(EventId)


class WrongRules(Exception):
    """The file of rules cannot be used. The text contains the reason."""


class WrongEntry(Exception):
    """The entry can never be published as it is. The text contains the reason."""


@dataclass(frozen=True, slots=True)
class Message:
    """An event, ready to be published."""

    id: str
    subject: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Rule:
    """Entries whose type matches `pattern` are published on `subject`, once its places are filled in."""

    pattern: str
    subject: str


def read_rules(text: str) -> Sequence[Rule]:
    """Read the table `[subjects]` of a TOML file. Raises WrongRules."""
    try:
        subjects = tomllib.loads(text).get("subjects")
    except tomllib.TOMLDecodeError as error:
        raise WrongRules(f"no TOML: {error}") from None
    if not isinstance(subjects, dict) or not subjects:
        raise WrongRules('no rules: write a table [subjects] with lines like "approval.*" = "workspace.{tenantId}.…"')
    return [_rule(pattern, subject) for pattern, subject in subjects.items()]


def type_of(fields: Mapping[bytes, bytes]) -> str:
    """Return an entry's type. Raises WrongEntry."""
    return _text(fields, "type") or _refuse("the field type is missing")


def rule_for(type_: str, rules: Sequence[Rule]) -> Rule | None:
    """Return the first rule that matches. None if the type is not for clients."""
    return next((rule for rule in rules if fnmatchcase(type_, rule.pattern)), None)


def message_of(fields: Mapping[bytes, bytes], rule: Rule) -> Message:
    """Return an entry as a message. Its data is published as it was written. Raises WrongEntry."""
    entry: dict[str, Any] = {name: _text(fields, name) for name in _FIELDS}
    data = entry["data"] or "{}"
    id_ = _id_of(entry["id"])
    subject = _filled_in(rule, {**entry, "data": _parsed(data)})
    try:
        body = envelope.body(
            id_=id_,
            type_=entry["type"],
            version=_version(entry["version"]),
            payload=data,
            metadata=_metadata(entry).model_dump(mode="json", exclude_none=True),
        )
    except InvalidEvent as error:
        raise WrongEntry(str(error)) from None
    return Message(id_, subject, body)


def _rule(pattern: str, subject: Any) -> Rule:
    if not isinstance(subject, str):
        raise WrongRules(f'the subject of "{pattern}" is no text')
    for place in _PLACE.findall(subject):
        for path in place.split("|"):
            if path not in _FIELDS[:-1] and not re.fullmatch(r"data(\.\w+)+", path):
                raise WrongRules(f'"{pattern}": {{{path}}} is no field: write one of {", ".join(_FIELDS[:-1])}, data.…')
    try:
        parse_subject(_PLACE.sub("x", subject))
    except InvalidSubject as error:
        raise WrongRules(f'the subject of "{pattern}": {error}') from None
    return Rule(pattern, subject)


def _text(fields: Mapping[bytes, bytes], name: str) -> str:
    """Return a field's text. An absent field is empty, and `null` and `None` are what some publishers write for it."""
    try:
        text = fields.get(name.encode(), b"").decode()
    except UnicodeDecodeError:
        raise WrongEntry(f"the field {name} is not UTF-8") from None
    return "" if text in ("null", "None") else text


def _id_of(text: str) -> str:
    try:
        return _EVENT_ID.validate_python(text)
    except ValidationError:
        return _refuse("the field id must be 1 to 128 ASCII characters without spaces")


def _parsed(data: str) -> dict[str, Any]:
    try:
        value = json.loads(data, parse_constant=lambda constant: _refuse(f"the field data contains {constant}"))
    except (ValueError, RecursionError):
        return _refuse("the field data is not JSON")
    return value if isinstance(value, dict) else _refuse("the field data is no JSON object")


def _filled_in(rule: Rule, entry: Mapping[str, Any]) -> str:
    return _PLACE.sub(lambda place: _first_id(place[1], entry, rule), rule.subject)


def _first_id(place: str, entry: Mapping[str, Any], rule: Rule) -> str:
    """Return the value of the first of `a|b|c` that the entry has."""
    for path in place.split("|"):
        value: Any = entry
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value in (None, ""):
            continue
        if isinstance(value, bool) or not isinstance(value, str | int) or not is_id(str(value)):
            return _refuse(f"{path} is no id: the subject {rule.subject} needs 1 to 64 letters, digits, _ or -")
        return str(value)
    return _refuse(f"there is no {place.replace('|', ' or ')}: the subject {rule.subject} needs it")


def _version(text: str) -> int:
    found = _VERSION.fullmatch(text or "1")
    return int(found[1]) if found else _refuse("the field version must be a number from 1, such as 1 or 1.0")


def _metadata(entry: Mapping[str, str]) -> Metadata:
    given = {
        "timestamp": _with_zone(entry["timestamp"]),
        "source": _source(entry["source"]),
        "correlationId": entry["correlationId"],
        "userId": entry["userId"],
    }
    try:
        return Metadata.model_validate({name: value for name, value in given.items() if value})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return _refuse(f"the field {first['loc'][0]}: {first['msg']}")


def _with_zone(timestamp: str) -> str:
    """Return a time with its zone. A time that names none is in UTC, as `utcnow().isoformat()` writes it."""
    try:
        time = datetime.fromisoformat(timestamp)
    except ValueError:
        return timestamp  # milliseconds, which the metadata take, or nothing that they take
    return timestamp if time.tzinfo else time.replace(tzinfo=UTC).isoformat()


def _source(name: str) -> str:
    """Return the name of a service as events have it: "Approval Service" is approval-service."""
    words = _NOT_IN_A_SOURCE.sub("-", name.lower()).strip("-_")
    return (words if words[:1].isalpha() else f"bus-{words}".rstrip("-"))[:64]


def _refuse(reason: str) -> NoReturn:
    raise WrongEntry(reason)
