"""Read a fragment from an AsyncAPI document, or refuse it with everything that is wrong. No I/O.

    fragment = read_fragment(yaml.safe_load(text))

docs/reference/catalogue.md describes the profile for those who write fragments.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from beaconfire_kit.catalogue import plain, pointers
from beaconfire_kit.catalogue.fragment import (
    VENDOR,
    Conflation,
    EventType,
    Fragment,
    InvalidFragment,
    Problem,
    RootKind,
)
from beaconfire_kit.catalogue.payloads import PayloadReader
from beaconfire_kit.catalogue.pointers import NotFound, below
from beaconfire_kit.catalogue.templates import InvalidTemplate, Template, parse_template
from beaconfire_kit.event import RESERVED_TYPES, TYPE
from beaconfire_kit.subjects import is_id, is_reserved

MAX_TYPES = 1_000
MAX_VERSION = 1_000_000
MAX_WINDOW_MS = 60_000

_ASYNCAPI = re.compile(r"3\.[01]\.\d+")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_LOCATION = "$message.payload#"
_TOP = frozenset({"asyncapi", "info", "channels", "components", "defaultContentType"})
_CHANNEL = frozenset({"address", "messages", "parameters", "title", "summary", "description"})
_MESSAGE = frozenset({"name", "payload", "contentType", "title", "summary", "description", "examples"})
_PARAMETER = frozenset({"location", "description"})


def read_fragment(document: Mapping[str, Any]) -> Fragment:
    """Return the fragment that a document declares. Raises InvalidFragment with all problems, each with its place."""
    if unreadable := plain.problems_of(document):
        raise InvalidFragment(unreadable)
    if not isinstance(document, Mapping):
        raise InvalidFragment([Problem("", "The document is not a mapping. Begin it with `asyncapi: 3.0.0`.")])
    return _read(document, is_accepted=False)


def read_accepted(document: Mapping[str, Any]) -> Fragment:
    """As `read_fragment`, for a document of the catalogue, whose schemas were judged when it was pushed.

    So a gateway reads it in a quarter of the time, and reads what an earlier version with wider bounds has accepted.
    """
    return _read(document, is_accepted=True)


def _read(document: Mapping[str, Any], *, is_accepted: bool) -> Fragment:
    reader = _Reader(document, is_accepted=is_accepted)
    fragment = reader.fragment()
    if reader.problems:
        raise InvalidFragment(list(dict.fromkeys(reader.problems)))
    return fragment


class _Reader:
    """Reads one document. It collects problems and reads on, so that its author sees all of them at once."""

    def __init__(self, document: Mapping[str, Any], *, is_accepted: bool) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._document = document
        self._payloads = PayloadReader(document, self.problems, self.warnings, is_accepted=is_accepted)
        self._types: dict[tuple[str, int], EventType] = {}
        self._places: dict[tuple[str, int], str] = {}

    def fragment(self) -> Fragment:
        document = self._document
        version = document.get("asyncapi")
        if not isinstance(version, str) or not _ASYNCAPI.fullmatch(version):
            what = "does not say its version" if version is None else f"is AsyncAPI {version!r}"
            self._refuse("/asyncapi", f"The document {what}. Write `asyncapi: 3.0.0` or 3.1.0.")
        self._ignore(document, "", _TOP)
        info = self._mapping(document.get("info"), "/info")
        title = info.get("title")
        if not isinstance(title, str) or not title.strip():
            self._refuse("/info/title", "The document has no title. Write one: it stands above the events in the docs.")
            title = ""
        self._check_content_type(document.get("defaultContentType"), "/defaultContentType")
        name, roots = self._vendor_of_document()
        for key, place in self._entries(document.get("channels"), "/channels"):
            self._channel(key, place)
        if len(self._types) > MAX_TYPES:
            self._refuse("/channels", f"The fragment has {len(self._types)} types. At most {MAX_TYPES} are allowed.")
        return Fragment(name, title, document, self._types, roots, self._places, tuple(dict.fromkeys(self.warnings)))

    def _vendor_of_document(self) -> tuple[str, dict[str, RootKind]]:
        place = pointers.pointer(VENDOR)
        vendor = self._vendor(self._document, "", {"fragment", "roots"})
        name = vendor.get("fragment")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            what = "The fragment has no name" if name is None else f"The fragment's name is {name!r}"
            self._refuse(
                below(place, "fragment"),
                f"{what}. Give it one of lower-case letters, digits, `_` and `-`: "
                "`x-beaconfire: {fragment: logistics}`.",
            )
            name = ""
        roots: dict[str, RootKind] = {}
        declared = vendor.get("roots")
        for kind, value in self._mapping({} if declared is None else declared, below(place, "roots")).items():
            root = self._root(kind, value, below(place, "roots", kind))
            if root:
                roots[kind] = root
        return name, roots

    def _root(self, kind: str, value: Any, place: str) -> RootKind | None:
        if not is_id(kind):
            self._refuse(place, f"{kind!r} is not a kind. Use up to 64 letters, digits, `_` and `-`.")
            return None
        if kind == "user":
            self._refuse(place, "`user` is a root of every catalogue already. Take this declaration away.")
            return None
        if is_reserved(kind) or kind == "member":
            self._refuse(place, f"{kind!r} is reserved for the broker's own traffic. Rename the root.")
            return None
        flags = {"members": True, "presence": False}
        for key, flag in self._mapping({} if value is None else value, place).items():
            if key not in flags:
                self._refuse(below(place, key), f"{key!r} is unknown here. A root has `members` and `presence`.")
            elif not isinstance(flag, bool):
                self._refuse(below(place, key), f"`{key}` is {flag!r}. Write true or false.")
            elif key == "members" and not flag:
                self._refuse(below(place, key), "Every root of yours has members. Take `members` away.")
            else:
                flags[key] = flag
        return RootKind(kind, presence=flags["presence"])

    def _channel(self, key: str, place: str) -> None:
        found = self._follow(place)
        if found is None:
            return
        channel, place = found
        self._ignore(channel, place, _CHANNEL)
        template = self._template(channel.get("address"), below(place, "address"))
        paths = self._parameters(channel, template, place)
        for message, message_place in self._entries(channel.get("messages"), below(place, "messages")):
            self._message(message, message_place, template, paths)

    def _template(self, address: Any, place: str) -> Template | None:
        if not isinstance(address, str) or not address:
            self._refuse(
                place, f"The address is {address!r}. Write the subject: `depot.{{depotId}}.parcel.{{parcelId}}`."
            )
            return None
        try:
            return parse_template(address)
        except InvalidTemplate as error:
            self._refuse(place, str(error))
            return None

    def _parameters(
        self, channel: Mapping[str, Any], template: Template | None, place: str
    ) -> dict[str, tuple[str, ...]]:
        names = template.parameters if template else ()
        paths: dict[str, tuple[str, ...]] = {name: (name,) for name in names}
        for name, where in self._entries(channel.get("parameters") or {}, below(place, "parameters")):
            found = self._follow(where)
            if found is None:
                continue
            parameter, where = found
            self._ignore(parameter, where, _PARAMETER)
            if template and name not in names:
                self._refuse(
                    where, f"The address {template.text!r} has no {{{name}}}. Remove the parameter, or use it."
                )
            path = self._location(parameter.get("location"), below(where, "location"))
            if path:
                paths[name] = path
        return paths

    def _location(self, location: Any, place: str) -> tuple[str, ...] | None:
        if location is None:
            return None
        if isinstance(location, str) and location.startswith(_LOCATION + "/"):
            path = pointers.tokens(location.removeprefix(_LOCATION))
            if all(path):
                return path
        self._refuse(place, f"The location is {location!r}. Name a field of the payload: `{_LOCATION}/depotId`.")
        return None

    def _message(self, key: str, place: str, template: Template | None, paths: Mapping[str, tuple[str, ...]]) -> None:
        found = self._follow(place)
        if found is None:
            return
        message, place = found
        self._ignore(message, place, _MESSAGE)
        self._check_content_type(message.get("contentType"), below(place, "contentType"))
        name = message.get("name", key)
        if not isinstance(name, str) or not TYPE.fullmatch(name):
            self._refuse(
                below(place, "name") if "name" in message else place,
                f"The type is {name!r}. Use words of letters, digits, `_`, `-` and `:`, joined by dots, "
                "that begin with a letter: `parcel.moved`.",
            )
            return
        if name in RESERVED_TYPES:
            self._refuse(
                below(place, "name") if "name" in message else place,
                f"The type {name!r} is the name of a message of the socket protocols. Choose another, like "
                f"`parcel.{name}`.",
            )
            return
        version, ephemeral, conflation = self._vendor_of_message(message, place)
        payload = self._payload(message, place)
        if template is None or payload is None:
            return
        known = self._places.setdefault((name, version), place)
        if known != place or (name, version) in self._types:
            self._refuse(
                place,
                f"{name!r} version {version} is declared twice, also at {known}. An event type has one subject: "
                "give this one another name or version.",
            )
            return
        schema, dialect = payload
        self._types[name, version] = EventType(
            name,
            version,
            template.text,
            dict(paths),
            schema,
            dialect,
            _text(message),
            ephemeral,
            conflation,
        )

    def _vendor_of_message(self, message: Mapping[str, Any], place: str) -> tuple[int, bool, Conflation | None]:
        vendor = self._vendor(message, place, {"version", "ephemeral", "conflate"})
        place = below(place, VENDOR)
        version = vendor.get("version", 1)
        if type(version) is not int or not 1 <= version <= MAX_VERSION:
            self._refuse(below(place, "version"), f"The version is {version!r}. Write a whole number from 1.")
            version = 1
        ephemeral = vendor.get("ephemeral", False)
        if not isinstance(ephemeral, bool):
            self._refuse(below(place, "ephemeral"), f"`ephemeral` is {ephemeral!r}. Write true or false.")
        conflate = vendor.get("conflate")
        return (
            version,
            ephemeral is True,
            None if conflate is None else self._conflation(conflate, below(place, "conflate")),
        )

    def _conflation(self, value: Any, place: str) -> Conflation | None:
        conflate = self._mapping(value, place)
        key, window = conflate.get("key"), conflate.get("windowMs")
        for unknown in conflate.keys() - {"key", "windowMs"}:
            self._refuse(below(place, unknown), f"{unknown!r} is unknown here. `conflate` has `key` and `windowMs`.")
        if not isinstance(key, str) or not key.startswith("/") or len(key) < 2:
            self._refuse(below(place, "key"), f"The key is {key!r}. Name a field of the payload: `/parcelId`.")
            return None
        if type(window) is not int or not 1 <= window <= MAX_WINDOW_MS:
            self._refuse(
                below(place, "windowMs"), f"The window is {window!r}. Write 1 to {MAX_WINDOW_MS} milliseconds."
            )
            return None
        return Conflation(key, window)

    def _payload(self, message: Mapping[str, Any], place: str) -> Any:
        if "payload" not in message:
            near = get_close_matches("payload", [key for key in message if isinstance(key, str)], n=1)
            what = f"Is {near[0]!r} meant?" if near else "Write `payload: {type: object}` if its events have no fields."
            self._refuse(below(place, near[0]) if near else place, f"The message has no `payload`. {what}")
            return None
        return self._payloads.read(below(place, "payload"))

    def _vendor(self, holder: Mapping[str, Any], place: str, known: set[str]) -> Mapping[str, Any]:
        place = below(place, VENDOR)
        value = holder.get(VENDOR)
        vendor = self._mapping({} if value is None else value, place)
        for key in vendor.keys() - known:
            self._refuse(
                below(place, key),
                f"{key!r} is unknown here. Known are {', '.join(f'`{one}`' for one in sorted(known))}.",
            )
        return vendor

    def _entries(self, value: Any, place: str) -> list[tuple[str, str]]:
        return [(key, below(place, key)) for key in self._mapping({} if value is None else value, place)]

    def _mapping(self, value: Any, place: str) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        self._refuse(place, f"Here must be a mapping, and not {_show(value)}.")
        return {}

    def _follow(self, place: str) -> tuple[Mapping[str, Any], str] | None:
        """Return the mapping at a place and where it really is, after its references."""
        try:
            found, real = pointers.follow(self._document, place)
        except NotFound as error:
            reference = pointers.value_at(self._document, place)
            self._refuse(below(place, "$ref"), f"The reference {_show(reference.get('$ref'))} cannot be used: {error}.")
            return None
        if isinstance(found, Mapping):
            return found, real
        self._refuse(real, f"Here must be a mapping, and not {_show(found)}.")
        return None

    def _check_content_type(self, value: Any, place: str) -> None:
        if value is None:
            return
        kind = value.split(";")[0].strip() if isinstance(value, str) else ""
        if kind != "application/json" and not kind.endswith("+json"):
            self._refuse(place, f"The content type is {_show(value)}. Events are JSON: write `application/json`.")

    def _ignore(self, holder: Mapping[str, Any], place: str, known: frozenset[str]) -> None:
        for key in holder:
            if key not in known and not key.startswith("x-"):
                self.warnings.append(Problem(below(place, key), f"`{key}` is ignored."))

    def _refuse(self, place: str, message: str) -> None:
        self.problems.append(Problem(place, message))


def _text(message: Mapping[str, Any]) -> str:
    for key in ("description", "summary", "title"):
        if isinstance(message.get(key), str) and message[key].strip():
            return str(message[key]).strip()
    return ""


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
