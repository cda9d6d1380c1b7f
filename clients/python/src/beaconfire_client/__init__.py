"""Beaconfire's events in Python.

    from beaconfire_client import connect

    async with connect("ws://127.0.0.1:8080/ws", token) as client:
        async for event in client.room("campaign:c1"):
            print(event.type, event.payload)

* `client`: `connect`, and the connection. `room`: one subscription. `events`, `exceptions`: what they give and raise.
* `carriers`: the network, by aiohttp.
* `core`: the protocol without any I/O. Nothing outside this package should import it.
* `__main__`: `python -m beaconfire_client`, which prints events.
"""

from beaconfire_client.client import Client, GetToken, OnNotice, connect
from beaconfire_client.core.actions import (
    Degraded,
    Live,
    MessageRefused,
    Notice,
    PresenceStatus,
    PresentUser,
    Reason,
    Refusal,
    Resync,
    RoleChanged,
    State,
    StateChanged,
    Status,
    TokenReason,
    WhoIsHere,
)
from beaconfire_client.core.ways import Transport, Way
from beaconfire_client.events import Event
from beaconfire_client.exceptions import (
    BeaconfireError,
    ConnectionFailed,
    NotSeen,
    RequestRefused,
    RoomLeft,
    RoomRefused,
    TokenRefused,
)
from beaconfire_client.room import OnResync, Room

__all__ = [
    "BeaconfireError",
    "Client",
    "ConnectionFailed",
    "Degraded",
    "Event",
    "GetToken",
    "Live",
    "MessageRefused",
    "NotSeen",
    "Notice",
    "OnNotice",
    "OnResync",
    "PresenceStatus",
    "PresentUser",
    "Reason",
    "Refusal",
    "RequestRefused",
    "Resync",
    "RoleChanged",
    "Room",
    "RoomLeft",
    "RoomRefused",
    "State",
    "StateChanged",
    "Status",
    "TokenReason",
    "TokenRefused",
    "Transport",
    "Way",
    "WhoIsHere",
    "connect",
]
