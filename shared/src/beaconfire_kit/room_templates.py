"""Make the names of rooms from templates that configuration contains. No I/O.

    user:{sub}                        the user's own room
    workspace:{claims.workspaceId}    the room that the token's claim `workspaceId` names, or several if it is a list
    workspace:*                       every root of this kind in which the user has a role
    workspace:lobby                   one room, the same for all users

A template only names rooms. Whether the user may hear them is decided as for every other room.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator

from beaconfire_kit.subjects import InvalidRoom, is_id, is_reserved, parse_room

MAX_VALUES = 100
"""Rooms that one template makes of a claim's list. Further values are left out."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_SUB, _CLAIMS = "sub", "claims."


@dataclass(frozen=True, slots=True)
class RoomTemplate:
    """A template. Make it with `parse`."""

    text: str
    claim: str = ""
    """The claim of the token whose value it contains. Empty: none."""
    every_root_of: str = ""
    """Set if it means every root of this kind that the user has a role in. Then `rooms` makes no room."""

    @classmethod
    def parse(cls, text: str) -> "RoomTemplate":
        """Return the template. Raises ValueError, with what is wrong and what to write."""
        kind, _, id_ = text.partition(":")
        if id_ == "*":
            if not is_id(kind) or is_reserved(kind):
                raise ValueError(f"{text[:80]!r}: no root has the kind {kind[:80]!r}: write workspace:*")
            return cls(text, every_root_of=kind)
        claims = []
        for name in _PLACEHOLDER.findall(text):
            if name.startswith(_CLAIMS) and name != _CLAIMS:
                claims.append(name.removeprefix(_CLAIMS))
            elif name != _SUB:
                raise ValueError(f"{text[:80]!r}: {{{name[:80]}}} means nothing: write {{sub}} or {{claims.NAME}}")
        if len(claims) > 1:
            raise ValueError(f"{text[:80]!r} names two claims: use one claim in a template")
        try:
            parse_room(_PLACEHOLDER.sub("x", text))
        except InvalidRoom:
            raise ValueError(
                f"{text[:80]!r} makes no room: write kind:id, as user:{{sub}}, workspace:{{claims.workspaceId}} or "
                "workspace:*"
            ) from None
        return cls(text, claim="".join(claims))

    def rooms(self, user_id: str, claims: Mapping[str, Any]) -> Sequence[str]:
        """Return the rooms it makes for a user. `claims` are those of the user's verified token.

        A value that cannot be an id makes no room, so no claim can name another room than the template's kind.
        """
        if self.every_root_of:
            return ()
        if not self.claim:
            return _valid([self._filled(user_id, "")])
        return _valid([self._filled(user_id, value) for value in _ids(claims.get(self.claim))])

    def _filled(self, user_id: str, value: str) -> str:
        return _PLACEHOLDER.sub(lambda found: user_id if found[1] == _SUB else value, self.text)


def _ids(value: Any) -> Sequence[str]:
    """Return the ids that a claim contains: a text, a whole number, or a list of them."""
    values = value[:MAX_VALUES] if isinstance(value, list) else [value]
    texts = [str(one) for one in values if isinstance(one, str) or type(one) is int]
    return [one for one in texts if is_id(one)]


def _valid(rooms: Sequence[str]) -> Sequence[str]:
    """Return those that are rooms. An id with text around it may be too long."""
    valid = []
    for room in rooms:
        try:
            parse_room(room)
        except InvalidRoom:
            continue
        valid.append(room)
    return valid


def _check(text: str) -> str:
    RoomTemplate.parse(text)
    return text


RoomTemplateText = Annotated[str, AfterValidator(_check)]
"""A template in a setting."""
