"""Events as a service receives them: checked, and read into instances of their classes.

    received = read(message.subject, message.data)
    if isinstance(received.payload, SettlementUpdated): ...

The check is that of gateways, with the schemas of the classes that this service has. So it takes a message exactly if
gateways do, as long as its classes are those of the deployment's catalogue.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from pydantic import AwareDatetime, BaseModel, ValidationError

from beaconfire_kit.catalogue.addressing import ids_in
from beaconfire_kit.catalogue.checking import CheckedEvent, Checker
from beaconfire_kit.catalogue.from_classes import event_type_of
from beaconfire_kit.envelope import EventId, Metadata
from beaconfire_kit.event import Event, OpenEvent, event_classes
from beaconfire_kit.invalid_event import InvalidEvent


class ReceivedMetadata(Metadata):
    """As `Metadata`, except that the publisher must give the time."""

    timestamp: AwareDatetime


class Received(BaseModel):
    """A valid event from the broker. `id` is empty if the publisher gave none."""

    id: EventId = ""
    type: str
    payload: Event
    metadata: ReceivedMetadata


UNKNOWN = frozenset({"unknown_type", "unknown_version"})
"""Reasons for which a message is not invalid for everybody. Other services may know its type."""


def read(subject: str, body: bytes) -> Received:
    """Check a message, and read it. Unknown fields pass. Raises InvalidEvent, see `checking.Checker.check`.

    An event of another system (`OpenEvent`) has all of its fields, and the ids that its subject has. Skip a message
    whose reason is in `UNKNOWN`: it is an event of a type for which this service has no class.
    """
    checked = _checker().check(subject, body)
    cls = _classes()[checked.type][checked.version]
    try:
        if issubclass(cls, OpenEvent):
            payload: Event = cls.model_validate(_with_ids(checked, subject), by_alias=True, by_name=False)
        else:
            payload = cls.model_validate(checked.payload, extra="ignore", by_alias=True, by_name=False)
        metadata = ReceivedMetadata.model_validate(checked.metadata, by_alias=True, by_name=False)
    except ValidationError as error:  # a schema takes a leap second, and Python has none
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidEvent("invalid", f"{where}: {first['msg']}"[:300]) from None
    return Received.model_construct(id=checked.id, type=checked.type, payload=payload, metadata=metadata)


def _with_ids(checked: CheckedEvent, subject: str) -> dict[str, Any]:
    """Return the payload with the ids that it leaves out, because its subject has them."""
    ids = ids_in(checked.definition, subject) or {}
    return checked.payload | {name: id_ for name, id_ in ids.items() if checked.payload.get(name) is None}


@cache
def _classes() -> Mapping[str, Mapping[int, type[Event]]]:
    """Return all event classes by type and version."""
    import_module("beaconfire_kit.events.every")
    classes: dict[str, dict[int, type[Event]]] = {}
    for cls in event_classes():
        classes.setdefault(cls.type, {})[cls.version] = cls
    return classes


@cache
def _checker() -> Checker:
    return Checker(
        {
            type_: {version: event_type_of(cls) for version, cls in versions.items()}
            for type_, versions in _classes().items()
        }
    )
