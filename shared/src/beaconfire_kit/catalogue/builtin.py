"""The fragments of our own events: `campaign`, `workspace` and `user`, made from our event classes. No I/O.

They take the same way as any other fragment: `beaconfire setup` pushes them. The two events of the system are in no
fragment, because gateways and auth act on them. They are part of every catalogue.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from beaconfire_kit.catalogue.fragment import EventType, Fragment, RootKind
from beaconfire_kit.catalogue.from_classes import document_of, event_type_of
from beaconfire_kit.catalogue.profile import read_fragment
from beaconfire_kit.event import Event, events
from beaconfire_kit.events import campaign, tracker, user, workspace

SYSTEM: Mapping[tuple[str, int], EventType] = MappingProxyType(
    {(cls.type, cls.version): event_type_of(cls) for cls in (user.MemberChanged, user.AccessRevoked)}
)
"""The types that are in every catalogue, by type and version."""


@cache
def documents() -> Mapping[str, Mapping[str, Any]]:
    """Return our fragments as AsyncAPI documents, by name."""
    return MappingProxyType(
        {
            "campaign": document_of(
                _events_of(campaign),
                name="campaign",
                title="Campaign events",
                roots=[RootKind("campaign", presence=True)],
            ),
            "workspace": document_of(
                [*_events_of(workspace), *_events_of(tracker)],
                name="workspace",
                title="Workspace events",
                roots=[RootKind("workspace", presence=True)],
            ),
            "user": document_of(_events_of(user), name="user", title="User events"),
        }
    )


@cache
def fragments() -> Mapping[str, Fragment]:
    """Return our fragments, by name."""
    return MappingProxyType({name: read_fragment(document) for name, document in documents().items()})


def _events_of(module: object) -> list[type[Event]]:
    name = module.__name__  # type: ignore[attr-defined]
    return [cls for cls in events().values() if cls.__module__ == name and (cls.type, cls.version) not in SYSTEM]
