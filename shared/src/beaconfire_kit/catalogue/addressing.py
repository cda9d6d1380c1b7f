"""Find the subject of an event from the ids in its payload, and the ids in its subject. No I/O."""

from collections.abc import Mapping
from typing import Any

from beaconfire_kit.catalogue.fragment import PARAMETER, EventType
from beaconfire_kit.subjects import ID_PATTERN, is_id


class NoSubject(ValueError):
    """The payload does not determine the subject. The text names the place and says what to do."""


def subject_of(event_type: EventType, payload: Mapping[str, Any]) -> str:
    """Return the subject on which an event with this payload belongs, without `ephemeral.`. Raises NoSubject."""
    return PARAMETER.sub(lambda parameter: _id_at(event_type, payload, parameter[1]), event_type.subject)


def template_of(event_type: EventType) -> str:
    """Return the template of the subjects on which events of this type are published."""
    return f"ephemeral.{event_type.subject}" if event_type.ephemeral else event_type.subject


def ids_in(event_type: EventType, subject: str) -> dict[str, str] | None:
    """Return the ids in a subject by the parameters of its template. None if it is not a subject of this type."""
    template, tokens = template_of(event_type).split("."), subject.split(".")
    if len(template) != len(tokens) or not all(map(is_id, tokens)):
        return None
    ids: dict[str, str] = {}
    for wanted, token in zip(template, tokens, strict=True):
        parameter = PARAMETER.fullmatch(wanted)
        if token != (wanted if parameter is None else ids.setdefault(parameter[1], token)):
            return None
    return ids


def _id_at(event_type: EventType, payload: Mapping[str, Any], parameter: str) -> str:
    path = event_type.parameters.get(parameter, (parameter,))
    found: Any = payload
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    where = ".".join(("payload", *path))
    if found is None:
        raise NoSubject(f"{where}: it is missing: give it, or give the event's subject, {event_type.subject}")
    if type(found) is int:
        found = str(found)
    if not isinstance(found, str) or not is_id(found):
        raise NoSubject(f"{where}: expected an id, {ID_PATTERN}")
    return found
