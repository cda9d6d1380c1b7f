"""Events, as consumers get them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from beaconfire_client.core.protocol import Frame


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. The types and their payloads are in the catalogue of the deployment."""

    type: str
    payload: Mapping[str, Any]
    id: str
    version: int
    metadata: Mapping[str, Any]
    """`timestamp`, `userId`, `source` and others, as the publisher gave them."""
    rooms: tuple[str, ...]
    """All rooms of the event, in the long form."""
    offset: int | None
    """Its number in the stream. None for an ephemeral event, which is not stored, or if the gateway held it back."""
    cursor: str | None
    """Its place in the stream. A program that stores it can resume from it after a restart."""

    @classmethod
    def of(cls, frame: Frame, epoch: str) -> "Event":
        """Read an `event` message."""
        event = frame["event"]
        offset = frame.get("offset")
        return cls(
            type=event["type"],
            payload=event["payload"],
            id=event["id"],
            version=event["version"],
            metadata=event["metadata"],
            rooms=tuple(frame["rooms"]),
            offset=offset,
            cursor=frame.get("cursor") if offset is None else f"{epoch}:{offset}",
        )
