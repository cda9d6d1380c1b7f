"""The two event types that are in every catalogue and in no fragment, because gateways and auth act on them. No I/O."""

from collections.abc import Mapping
from types import MappingProxyType

from beaconfire_kit.catalogue.fragment import EventType
from beaconfire_kit.catalogue.from_classes import event_type_of
from beaconfire_kit.events.user import AccessRevoked, MemberChanged

SYSTEM: Mapping[tuple[str, int], EventType] = MappingProxyType(
    {(cls.type, cls.version): event_type_of(cls) for cls in (MemberChanged, AccessRevoked)}
)
"""By type and version."""
