"""The fragments of our own events: `campaign`, `workspace` and `user`, made from our event classes. No I/O.

They take the same way as any other fragment: `beaconfire setup` pushes them.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import beaconfire_kit.events.every  # noqa: F401  (declares them)
from beaconfire_kit.catalogue.fragment import Fragment, RootKind
from beaconfire_kit.catalogue.from_classes import document_of
from beaconfire_kit.catalogue.profile import read_fragment
from beaconfire_kit.catalogue.system import SYSTEM
from beaconfire_kit.event import Event, event_classes

VERSION = 1
"""Raise it in each release that changes our events. An older `setup` leaves fragments of a higher version alone."""


@cache
def documents() -> Mapping[str, Mapping[str, Any]]:
    """Return our fragments as AsyncAPI documents, by name. A fragment has the events below one kind of root."""
    return MappingProxyType(
        {
            "campaign": document_of(
                _events_below("campaign"),
                name="campaign",
                title="Campaign events",
                version=VERSION,
                roots=[RootKind("campaign", presence=True)],
            ),
            "workspace": document_of(
                _events_below("workspace"),
                name="workspace",
                title="Workspace events",
                version=VERSION,
                roots=[RootKind("workspace", presence=True)],
            ),
            "user": document_of(_events_below("user"), name="user", title="User events", version=VERSION),
        }
    )


@cache
def fragments() -> Mapping[str, Fragment]:
    """Return our fragments, by name."""
    return MappingProxyType({name: read_fragment(document) for name, document in documents().items()})


def _events_below(root: str) -> list[type[Event]]:
    return [
        cls
        for cls in event_classes()
        if cls.subject.startswith(f"{root}.")
        and cls.__module__.startswith("beaconfire_kit.events.")  # a service may have declared its own beside them
        and (cls.type, cls.version) not in SYSTEM
    ]
