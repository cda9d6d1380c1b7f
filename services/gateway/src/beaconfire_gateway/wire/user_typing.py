"""Read and write `user.typing`, which is how dialects of existing systems say that a user is typing.

It has the fields of the event `user.typing` of the catalogue, which services publish. So a client shows both alike.
"""

from collections.abc import Mapping
from typing import Any

from beaconfire_gateway.wire.messages import SetTyping, Typing

TYPE = Typing.EVENT_TYPE


def as_native(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a client's fields as those of the native message. They name the room, or the chat or target by its id."""
    found: dict[str, Any] = {"type": SetTyping.TYPE}
    if "typing" in fields:
        found["typing"] = fields["typing"]
    if "room" in fields:
        found["room"] = fields["room"]
    elif "targetKind" in fields and _is_id(fields.get("targetId")):
        found["room"] = f"{fields['targetKind']}:{fields['targetId']}"
    elif _is_id(fields.get("chatId")):
        found["room"] = f"chat:{fields['chatId']}"
    return found


def payload_of(message: Typing) -> Mapping[str, Any]:
    """Return what other clients are sent. In a chat of a workspace it has `workspaceId` and `chatId`."""
    root, target = message.room
    return {
        f"{root.kind}Id": root.id,
        f"{target.kind}Id": target.id,
        "targetKind": target.kind,
        "targetId": target.id,
        "room": str(message.room),
        "userId": message.user_id,
        "typing": message.typing,
    }


def _is_id(value: Any) -> bool:
    return type(value) in (str, int)
