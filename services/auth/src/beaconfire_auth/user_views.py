"""Show operators one user: who it is, in which roots it has a role, and what was revoked (`beaconfire user`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from beaconfire_auth.decisions import Decisions
from beaconfire_auth.email_addresses import EmailAddress, known_address
from beaconfire_auth.people import users_with_email
from beaconfire_auth.revocations import Revocation, Revocations
from beaconfire_auth.store import MEMBERS, USERS
from beaconfire_kit import errors
from beaconfire_kit.authorization import AuthorizeRequest, RoomDecision
from beaconfire_kit.database import Database
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair, is_id

MAX_ROOMS = 100
"""Rooms in one question."""
MAX_ROOTS = 1_000
"""Roots that are listed. Their number is told in any case."""


@dataclass(frozen=True, slots=True)
class UserView:
    """A user, as operators see them."""

    user_id: str
    name: str
    email: str
    created_at: datetime
    is_placeholder: bool
    tokens_count_from: datetime | None
    """Older tokens are refused, because they were revoked. None: none was."""
    root_count: int
    roles: Mapping[Pair, Role]
    revoked: Mapping[Pair, Revocation]
    """What was revoked of single roots: grants in tokens, and answers of an authorizer."""
    rooms: Mapping[str, RoomDecision]

    def as_json(self) -> dict[str, Any]:
        return {
            "userId": self.user_id,
            "name": self.name,
            "email": self.email,
            "createdAt": _text(self.created_at),
            "placeholder": self.is_placeholder,
            "tokensCountFrom": None if self.tokens_count_from is None else _text(self.tokens_count_from),
            "rootCount": self.root_count,
            "roots": {str(root): role.value for root, role in self.roles.items()},
            "revoked": {str(root): _moment(one.issued_before) for root, one in self.revoked.items()},
            "rooms": {name: one.model_dump(mode="json", exclude_none=True) for name, one in self.rooms.items()},
        }


class UserViews:
    """Finds users for operators."""

    def __init__(self, database: Database, revocations: Revocations, decisions: Decisions) -> None:
        self._database = database
        self._revocations = revocations
        self._decisions = decisions

    async def find(self, name: str, rooms: Sequence[str] = ()) -> UserView:
        """Return the user with this id or e-mail address, and whether they may hear the rooms now.

        What only the user's token grants is not known here. Raises `not_found`, and `bad_request` for too many rooms.
        """
        if len(rooms) > MAX_ROOMS:
            raise BeaconfireError(errors.BAD_REQUEST, f"{len(rooms)} rooms, {MAX_ROOMS} at most")
        user = await self._user(name)
        of_user = MEMBERS.c.user_id == user.id
        async with self._database.reading() as connection:
            found = select(MEMBERS).where(of_user).order_by(MEMBERS.c.root_kind, MEMBERS.c.root_id)
            rows = (await connection.execute(found)).all()
        decided = await self._decisions.authorize(AuthorizeRequest(user_id=user.id, rooms=tuple(rooms)))
        return UserView(
            user_id=user.id,
            name=user.name,
            email=user.email,
            created_at=user.created_at,
            is_placeholder=user.is_placeholder,
            tokens_count_from=datetime.fromtimestamp(user.issued_before, UTC) if user.issued_before else None,
            root_count=len(rows),
            roles={Pair(row.root_kind, row.root_id): Role(row.role) for row in rows[:MAX_ROOTS]},
            revoked=await self._revocations.of(user.id),
            rooms=decided.rooms,
        )

    async def _user(self, name: str) -> Any:
        async with self._database.reading() as connection:
            if is_id(name):
                found = (await connection.execute(select(USERS).where(USERS.c.id == name))).one_or_none()
            else:
                found = next(iter(await users_with_email(connection, _address(name))), None)
        if found is None:
            raise BeaconfireError(errors.NOT_FOUND, f"auth knows no user {name[:80]!r}")
        return found


def _address(name: str) -> EmailAddress:
    try:
        return known_address(name)
    except ValueError:
        raise BeaconfireError(errors.BAD_REQUEST, f"{name[:80]!r} is neither a user id nor an e-mail address") from None


def _moment(unix_s: int) -> str:
    return _text(datetime.fromtimestamp(unix_s, UTC))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
