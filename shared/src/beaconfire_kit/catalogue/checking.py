"""Check messages against the catalogue. No I/O.

    checked = Checker(types).check("campaign.c1.settlement.s1", body)
    checked.type, checked.payload["changedFields"]

The body is parsed once. Two compiled schemas check what is around the payload, and the payload. Code checks the rest:
the version, the ids of the subject, and that no key is there twice. Unknown keys pass.

This is done for every event in every gateway, so each step here was measured (docs/adr/0032).
"""

from collections.abc import Callable, ItemsView, Mapping, Sequence
from typing import Any

import jsonschema_rs
from orjson import JSONDecodeError, dumps, loads

from beaconfire_kit.catalogue import schemas
from beaconfire_kit.catalogue.addressing import ids_in, template_of
from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.invalid_event import MAX_EVENT_BYTES, InvalidEvent, check_json, check_size
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import ID_PATTERN

MAX_DEPTH = 200
"""Objects and arrays inside one another, the body itself included. Parsers of other languages give up soon after it."""
_MAY_BE_DEEP = 2 * MAX_DEPTH
MAX_REMEMBERED = 20_000
"""Subjects whose ids are remembered, of all types together: about 500 bytes each."""
FEW_REMEMBERED = 200
"""The same for a revision that does not count for new events. A gateway may keep hundreds of these."""

_YEAR = "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_BY_4 = "(0[48]|[2468][048]|[13579][26])"
_LEAP_YEAR = f"([0-9]{{2}}{_BY_4}|{_BY_4}00)"
_DAY_OF_ANY_YEAR = "((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
_ZONE = "([Zz]|[-+\u2212]([01][0-9]|2[0-3]):?[0-5][0-9])"
_TIMESTAMP = (
    f"^({_YEAR}-{_DAY_OF_ANY_YEAR}|{_LEAP_YEAR}-02-29)"
    f"[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.,][0-9]+)?{_ZONE}$"
)
# A compiled pattern is no slower for knowing the days of the months. Parsing the time as well takes 0.2 µs.
_ENVELOPE: Mapping[str, Any] = {
    "required": ["payload", "metadata"],
    "properties": {
        "id": {"type": "string", "pattern": r"^[\x21-\x7e]{1,128}$"},
        "payload": {"type": "object"},
        "metadata": {
            "type": "object",
            "required": ["timestamp", "source"],
            "properties": {
                "timestamp": {"type": "string", "pattern": _TIMESTAMP},
                "userId": {"type": ["string", "null"], "pattern": f"^{ID_PATTERN}$"},
                "source": {"type": "string", "pattern": "^[a-z][a-z0-9_-]{0,63}$"},
                "correlationId": {"type": ["string", "null"], "pattern": r"^[\x21-\x7e]{1,128}$"},
                "audience": {"type": ["array", "null"], "items": {"enum": [str(role) for role in Role]}},
            },
        },
    },
}
"""The JSON Schema of what is around a payload. Type and version are not in it: code looks them up."""
_EXPECTED = {
    "": "an event is one JSON object",
    "id": "expected 1 to 128 visible ASCII characters without spaces",
    "payload": "expected an object",
    "metadata": "expected an object",
    "metadata.timestamp": "expected a time with seconds and a zone, like 2026-11-21T10:00:00Z",
    "metadata.userId": f"expected {ID_PATTERN}",
    "metadata.source": "expected the name of a service: [a-z][a-z0-9_-]{0,63}",
    "metadata.correlationId": "expected 1 to 128 visible ASCII characters without spaces",
    "metadata.audience": "expected an array of roles",
}
"""What to write at a place of the envelope, better than a pattern says it."""
_MAX_DETAIL = 300

_envelope = schemas.compiled_schema("draft-07", _ENVELOPE)
_is_envelope = _envelope.is_valid
_role = {role.value: role for role in Role}.__getitem__


class CheckedEvent:
    """A valid event."""

    __slots__ = ("audience", "definition", "message")

    def __init__(self, definition: EventType, message: dict[str, Any], audience: frozenset[Role] | None) -> None:
        self.definition = definition
        """Its type and version in the catalogue."""
        self.message = message
        """The whole body, with keys that nobody knows."""
        self.audience = audience
        """The roles that may see it. None: every role."""

    @property
    def type(self) -> str:
        return self.definition.name

    @property
    def version(self) -> int:
        return self.definition.version

    @property
    def id(self) -> str:
        """Empty if the publisher gave none."""
        found: str = self.message.get("id", "")
        return found

    @property
    def payload(self) -> dict[str, Any]:
        found: dict[str, Any] = self.message["payload"]
        return found

    @property
    def metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = self.message["metadata"]
        return found


class Checker:
    """Checks against one revision of the catalogue. `types` are its types by name and version."""

    def __init__(self, types: Mapping[str, Mapping[int, EventType]], *, max_remembered: int = MAX_REMEMBERED) -> None:
        self._max_remembered = max_remembered
        self._rules = {
            name: {version: _Rule(definition) for version, definition in versions.items()}
            for name, versions in types.items()
        }
        self._remembered = 0

    def check(self, subject: str, body: bytes) -> CheckedEvent:
        """Check a message on the subject it was published on. Raises InvalidEvent.

        Its reason is `too_large`, `not_json`, `unknown_type`, `unknown_version`, `invalid` (the text names the place)
        or `wrong_subject`. `not_json` also means invalid UTF-8, NaN, a key twice, or nesting too deep.
        """
        if len(body) > MAX_EVENT_BYTES:
            check_size(body)
        try:
            message = loads(body)
        except JSONDecodeError as error:
            raise InvalidEvent("not_json", f"Invalid JSON: {error}") from None
        if len(body) > _MAY_BE_DEEP and body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            _check_depth(message, MAX_DEPTH)
        try:
            version = message["version"]
            rule = self._rules[message["type"]][version]
        except (KeyError, TypeError):
            raise self._why_no_rule(message) from None
        # `True` and `1.0` are found as 1, too.
        if type(version) is not int or not _is_envelope(message):
            raise _why_no_envelope(message)
        payload = message["payload"]
        if not (rule.is_valid or rule.compile())(payload):
            raise _why_invalid(rule.validator, payload)
        try:
            ids = rule.ids[subject]
        except KeyError:
            ids = self._find_ids(rule, subject)
        if not ids.fields <= payload.items():
            ids.compare(payload, rule.definition)
        if ids.deeper:
            ids.compare_deeper(payload, rule.definition)
        if dumps(message) != body:
            _check_keys(body, message)
        metadata = message["metadata"]
        if "audience" not in metadata or metadata["audience"] is None:
            return CheckedEvent(rule.definition, message, None)
        return CheckedEvent(rule.definition, message, frozenset(map(_role, metadata["audience"])))

    def remember(self, at_most: int) -> None:
        """Bound how many subjects are remembered from now on."""
        self._max_remembered = at_most
        if self._remembered > at_most:
            self._forget()

    def _forget(self) -> None:
        for versions in self._rules.values():
            for one in versions.values():
                one.ids.clear()
        self._remembered = 0

    def _why_no_rule(self, message: Any) -> InvalidEvent:
        """Say why the catalogue has no event of this type and version."""
        if not isinstance(message, dict):
            return InvalidEvent("invalid", _EXPECTED[""])
        name = message.get("type")
        if not isinstance(name, str) or name not in self._rules:
            return InvalidEvent("unknown_type", f"type: {_show_name(name)} in the catalogue")
        if "version" not in message:
            return InvalidEvent("invalid", "version: it is missing")
        known = ", ".join(map(str, sorted(self._rules[name])))
        return InvalidEvent("unknown_version", f"version: the catalogue has {name} in version {known}")

    def _find_ids(self, rule: "_Rule", subject: str) -> "_Ids":
        """Find the ids in a subject, and remember them. Raises InvalidEvent if it is not a subject of this type."""
        ids = rule.match(subject)
        if self._remembered >= self._max_remembered:
            self._forget()
        self._remembered += 1
        rule.ids[subject] = ids
        return ids


class _Rule:
    """One version of a type, prepared for checking. Its schema is compiled when the first event needs it."""

    __slots__ = ("_validator", "definition", "ids", "is_valid")

    def __init__(self, definition: EventType) -> None:
        self.definition = definition
        self.ids: dict[str, _Ids] = {}
        """The ids in the subjects that were seen."""
        self._validator: jsonschema_rs.Validator | None = None
        self.is_valid: Callable[[Any], bool] | None = None
        """None before the first event. No method of this object, which would keep dropped revisions in memory."""

    @property
    def validator(self) -> jsonschema_rs.Validator:
        if self._validator is None:
            self._validator = schemas.compile(self.definition)
        return self._validator

    def compile(self) -> Callable[[Any], bool]:
        """Make `is_valid`. Raises InvalidEvent if a later version accepted the schema, and this one cannot use it."""
        try:
            self.is_valid = self.validator.is_valid
        except ValueError:
            name, version = self.definition.name, self.definition.version
            raise InvalidEvent(
                "unknown_version", f"version: this program cannot compile the schema of {name} version {version}"
            ) from None
        return self.is_valid

    def match(self, subject: str) -> "_Ids":
        """Find the ids in a subject. Raises InvalidEvent if it is not a subject of this type."""
        ids = ids_in(self.definition, subject)
        if ids is None:
            name, template = self.definition.name, template_of(self.definition)
            raise InvalidEvent("wrong_subject", f"the subjects of {name} are {template}")
        return _Ids(self.definition, ids)


class _Ids:
    """The ids in one subject, and where the payload repeats them."""

    __slots__ = ("deeper", "fields")

    def __init__(self, definition: EventType, ids: Mapping[str, str]) -> None:
        paths = {definition.parameters.get(name, (name,)): id_ for name, id_ in ids.items()}
        self.fields: ItemsView[str, str] = {path[0]: id_ for path, id_ in paths.items() if len(path) == 1}.items()
        """The fields of the payload itself."""
        self.deeper = [(path, id_) for path, id_ in paths.items() if len(path) > 1]

    def compare(self, payload: Mapping[str, Any], definition: EventType) -> None:
        """Compare the fields that are there. Raises InvalidEvent."""
        for name, id_ in self.fields:
            _compare(payload.get(name), id_, (name,), definition)

    def compare_deeper(self, payload: Mapping[str, Any], definition: EventType) -> None:
        """Compare the fields inside other fields, if they are there. Raises InvalidEvent."""
        for path, id_ in self.deeper:
            found: Any = payload
            for step in path:
                found = found.get(step) if isinstance(found, dict) else None
            _compare(found, id_, path, definition)


def _compare(found: Any, id_: str, path: Sequence[str], definition: EventType) -> None:
    if type(found) is int:  # an id that counts, in a system that writes it as a number
        found = str(found)
    if found is not None and found != id_:
        where = ".".join(("payload", *path))
        raise InvalidEvent("wrong_subject", f"{where} is not the id in the subject: {definition.subject}")


def _check_keys(body: bytes, message: dict[str, Any]) -> None:
    """Raise InvalidEvent if a key is there twice, in a body that is not written as orjson writes it.

    A body has a colon for each of its keys, and those inside strings. If a key is there twice, the parsed message has
    fewer. Only `\\u003a` could hide one.
    """
    colons = body.count(b":")
    if b"\\u003" in body or (colons != _colons_at_least(message) and colons != _colons(message)):
        check_json(body)


def _colons_at_least(message: dict[str, Any]) -> int:
    """Count the colons of a message whose payload has no objects inside, nor colons in its strings. Most are so."""
    metadata = message["metadata"]
    timestamp: str = metadata["timestamp"]
    return len(message) + len(message["payload"]) + len(metadata) + timestamp.count(":")


def _colons(message: dict[str, Any]) -> int:
    """Count the keys in a message, and the colons in its strings."""
    count = 0
    todo: list[Any] = [message]
    for one in todo:
        if isinstance(one, str):
            count += one.count(":")
        elif isinstance(one, dict):
            count += len(one) + "".join(one).count(":")
            todo += one.values()
        elif isinstance(one, list):
            todo += one
    return count


def _check_depth(value: Any, depth: int) -> None:
    """Raise InvalidEvent if more than `depth` objects and arrays are inside one another."""
    if not isinstance(value, dict | list):
        return
    if not depth:
        raise InvalidEvent("not_json", f"nested too deep: more than {MAX_DEPTH} objects and arrays inside one another")
    for one in value.values() if isinstance(value, dict) else value:
        _check_depth(one, depth - 1)


def _why_no_envelope(message: dict[str, Any]) -> InvalidEvent:
    """Say what is wrong around the payload."""
    if type(message["version"]) is not int:
        return InvalidEvent("unknown_version", "version: expected an integer, written without a point")
    try:
        _envelope.validate(message)  # not `iter_errors`: it makes all errors first, which takes a second for 32,000
    except jsonschema_rs.ValidationError as error:
        where = ".".join(map(str, error.instance_path))
        expected = "" if error.kind.name == "required" else _EXPECTED.get(where, "")
        return _invalid(where, expected or error.message)
    raise AssertionError("called for a valid envelope")


def _why_invalid(validator: jsonschema_rs.Validator, payload: Any) -> InvalidEvent:
    """Say what is wrong in the payload, without its values."""
    place, problem = schemas.first_error(validator, payload) or ("", "it does not fit its schema")
    return _invalid(f"payload.{place}" if place else "payload", problem)


def _invalid(where: str, problem: str) -> InvalidEvent:
    detail = f"{where}: {problem}" if where else problem
    return InvalidEvent("invalid", detail[:_MAX_DETAIL])


def _show_name(name: Any) -> str:
    if not isinstance(name, str):
        return "there is no name of a type"
    return f"there is no {name[:80]!r}"
