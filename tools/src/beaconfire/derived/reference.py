"""Collect what a reference page says of a catalogue, for every format of it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from beaconfire.derived.fields import Field, fields
from beaconfire.derived.words import plain_text
from beaconfire_kit.catalogue.asyncapi import address, rooms
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.examples import example_message
from beaconfire_kit.catalogue.fragment import EventType, RootKind


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one event."""

    title: str
    """Its type, with the version unless it is the only one."""
    anchor: str
    version: int
    description: str
    subject: str
    rooms: Sequence[str]
    notes: Sequence[str]
    fields: Sequence[Field]
    example: str
    """JSON, or empty."""


@dataclass(frozen=True, slots=True)
class Section:
    """The events of one fragment."""

    name: str
    title: str
    roots: Sequence[RootKind]
    entries: Sequence[Entry]


def sections(catalogue: Catalogue) -> list[Section]:
    """Return the fragments in order, then the events of the system, which every catalogue has."""
    found = [
        Section(
            one.name,
            " ".join(plain_text(one.title).split()),
            list(one.roots.values()),
            _entries(list(one.types.values())),
        )
        for one in catalogue.fragments.values()
    ]
    theirs = {key for one in catalogue.fragments.values() for key in one.types}
    system = [
        event
        for versions in catalogue.types.values()
        for event in versions.values()
        if (event.name, event.version) not in theirs
    ]
    return [*found, Section("system", "Events of the system", [], _entries(system))]


def all_types(catalogue: Catalogue) -> list[EventType]:
    """Return every version of every type, in the order of `sections`."""
    fragments = [event for one in catalogue.fragments.values() for event in one.types.values()]
    theirs = {(one.name, one.version) for one in fragments}
    everything = (event for versions in catalogue.types.values() for event in versions.values())
    return [*fragments, *(one for one in everything if (one.name, one.version) not in theirs)]


def _entries(types: Sequence[EventType]) -> list[Entry]:
    return [_entry(one, types) for one in types]


def _entry(event: EventType, types: Sequence[EventType]) -> Entry:
    is_only = sum(one.name == event.name for one in types) == 1
    example = example_message(event)
    return Entry(
        event.name if is_only else f"{event.name} (version {event.version})",
        event.name if is_only else f"{event.name}-v{event.version}",
        event.version,
        plain_text(event.description),
        address(event),
        rooms(event),
        list(_notes(event)),
        fields(event),
        json.dumps(example, indent=2, ensure_ascii=False) if example else "",
    )


def _notes(event: EventType) -> Iterator[str]:
    if event.ephemeral:
        yield (
            "This event is not stored and has no offset. A client that is not connected does not receive it. "
            "A service may send it to several rooms at once (`POST /v1/send`)."
        )
    if event.conflation is not None:
        yield (
            f"Of several events within {event.conflation.window_ms} ms that have the same `{event.conflation.key}`, "
            "a client may receive only the last one."
        )
