"""Name the rooms that a session joins at connect although its client did not ask for them. No I/O.

Templates name them (`beaconfire_kit.room_templates`), by the session's dialect and by the outside issuer of its token.
They are requested together with the client's own rooms: `requests` lets auth decide, and the ack has each of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from beaconfire_kit import logs
from beaconfire_kit.authorization import MAX_ROOMS
from beaconfire_kit.outside_tokens import OutsideClaims
from beaconfire_kit.room_templates import RoomTemplate
from beaconfire_kit.tokens import Claims, parse

log = logs.get(__name__)


class Roots(Protocol):
    """Knows the roots in which a user has a role."""

    async def roots(self, claims: Claims, kind: str) -> Sequence[str]:
        """Return the user's roots of a kind, as `workspace:w1`. Raises BeaconfireError if nobody can say now."""
        ...


class AutomaticRooms:
    """The templates of a gateway."""

    def __init__(self, by_dialect: Mapping[str, Sequence[str]], by_issuer: Mapping[str, Sequence[str]]) -> None:
        """Dialects are named as in `Dialect.name`, issuers as in `OutsideClaims.outside`."""
        self._by_dialect = _parsed(by_dialect)
        self._by_issuer = _parsed(by_issuer)

    async def added_to(
        self, rooms: Sequence[str], dialect: str, claims: Claims, token: str, roots: Roots
    ) -> Sequence[str]:
        """Return the rooms that a client asks for, and behind them the automatic ones, each once.

        `token` is the client's, and verified. Raises what `roots` raises.
        """
        templates = self._templates(dialect, claims)
        if not templates:
            return rooms
        body: Mapping[str, Any] = parse(token).claims if any(one.claim for one in templates) else {}
        found = dict.fromkeys(rooms)
        for template in templates:
            made = template.rooms(claims.user_id, body)
            if template.claim and not made:
                log.info("a claim names no automatic room", user=claims.user_id, template=template.text)
            found |= dict.fromkeys(made)
            if template.every_root_of:
                found |= dict.fromkeys(await roots.roots(claims, template.every_root_of))
        if len(found) > MAX_ROOMS:
            log.warning("left out automatic rooms", user=claims.user_id, count=len(found) - MAX_ROOMS)
        return list(found)[: max(MAX_ROOMS, len(rooms))]

    def _templates(self, dialect: str, claims: Claims) -> Sequence[RoomTemplate]:
        of_dialect = self._by_dialect.get(dialect, ())
        if isinstance(claims, OutsideClaims) and (more := self._by_issuer.get(claims.outside)):
            return (*of_dialect, *more)
        return of_dialect


def _parsed(texts: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[RoomTemplate]]:
    return {name: tuple(map(RoomTemplate.parse, some)) for name, some in texts.items()}
