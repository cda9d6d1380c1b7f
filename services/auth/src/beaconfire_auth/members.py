"""Read and change members of roots and their roles. Every change is an event in the same transaction.

One version counts all changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_auth.email_addresses import EmailAddress
from beaconfire_auth.people import users_with_email
from beaconfire_auth.store import COUNTERS, MEMBERS, MEMBERSHIP_VERSION, USERS, counter, next_membership_version
from beaconfire_kit import errors, logs
from beaconfire_kit.database import Database
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.user import MemberChanged
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.roles import Role, can_own
from beaconfire_kit.subjects import Pair

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """A user with a role in a root."""

    user_id: str
    name: str
    email: str
    role: Role


@dataclass(frozen=True, slots=True)
class Actor:
    """The user behind a change, and the request."""

    user_id: str
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A user's roles as of a `version`. `issued_before` (Unix seconds) is None for a user that does not exist."""

    version: int
    issued_before: int | None
    roles: dict[Pair, Role]

    def is_revoked(self, issued_at: int | None) -> bool:
        """Return whether a token of that age is refused. Every token of an unknown user is."""
        return self.issued_before is None or (issued_at is not None and issued_at < self.issued_before)


def forbidden() -> BeaconfireError:
    """Return the error for callers that are not members. It is the same whether the root exists or not."""
    return BeaconfireError(errors.FORBIDDEN, "no such thing, or you may not do this")


class Members:
    """Read and change memberships."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def of_user(self, user_id: str, kind: str | None = None) -> dict[Pair, Role]:
        """Return a user's roots and roles."""
        found = select(MEMBERS).where(MEMBERS.c.user_id == user_id)
        if kind is not None:
            found = found.where(MEMBERS.c.root_kind == kind)
        async with self._database.reading() as connection:
            rows = await connection.execute(found.order_by(MEMBERS.c.root_kind, MEMBERS.c.root_id))
            return {Pair(row.root_kind, row.root_id): Role(row.role) for row in rows}

    async def standing(self, user_id: str) -> Standing:
        """Return a user's roles and their version. One query reads both, because every join asks for them."""
        version = select(COUNTERS.c.value).where(COUNTERS.c.name == MEMBERSHIP_VERSION).scalar_subquery()
        found = select(version.label("version"), USERS.c.issued_before, MEMBERS).join_from(USERS, MEMBERS, isouter=True)
        in_order = found.where(USERS.c.id == user_id).order_by(MEMBERS.c.root_kind, MEMBERS.c.root_id)
        async with self._database.reading() as connection:
            # One statement reads one moment on every database, so the roles belong to the version that is read with
            # them.
            rows = (await connection.execute(in_order)).all()
            if not rows:
                return Standing(await counter(connection, MEMBERSHIP_VERSION), None, {})
        roles = {Pair(row.root_kind, row.root_id): Role(row.role) for row in rows if row.role is not None}
        return Standing(rows[0].version or 0, rows[0].issued_before, roles)

    async def of_root(self, root: Pair, viewer_id: str) -> Sequence[Member]:
        """Return a root's members, for one of them. Raises `forbidden`."""
        found = select(MEMBERS, USERS.c.name, USERS.c.email).join(USERS, USERS.c.id == MEMBERS.c.user_id)
        async with self._database.reading() as connection:
            rows = await connection.execute(found.where(*_in(root)).order_by(USERS.c.name, USERS.c.id))
            members = [Member(row.user_id, row.name, row.email, Role(row.role)) for row in rows]
        if viewer_id not in (member.user_id for member in members):
            raise forbidden()
        return members

    async def add(self, root: Pair, address: EmailAddress, role: Role, actor: Actor) -> Member:
        """Make the user with this e-mail address a member. Raises `forbidden`, `not_found`, `conflict`."""
        async with self._database.writing() as tx:
            await self._check_owner(tx, root, actor)
            user = next(iter(await users_with_email(tx, address)), None)
            if user is None:
                raise BeaconfireError(errors.NOT_FOUND, "no user with this e-mail address has signed up")
            if await _role(tx, root, user.id) is not None:
                raise BeaconfireError(errors.CONFLICT, "already a member")
            await self._change(tx, root, user.id, role, actor)
        self._outbox.wake()
        return Member(user.id, user.name, user.email, role)

    async def set_role(self, root: Pair, user_id: str, role: Role, actor: Actor) -> Member:
        """Change a member's role. Raises `forbidden`, `not_found`, and `conflict` for the last owner."""
        async with self._database.writing() as tx:
            await self._check_owner(tx, root, actor)
            user = (await tx.execute(select(USERS).where(USERS.c.id == user_id))).one_or_none()
            old = await _role(tx, root, user_id)
            if user is None or old is None:
                raise BeaconfireError(errors.NOT_FOUND, "not a member")
            if old is not role:
                await _check_owner_stays(tx, root, old)
                await self._change(tx, root, user_id, role, actor)
        self._outbox.wake()
        return Member(user_id, user.name, user.email, role)

    async def remove(self, root: Pair, user_id: str, actor: Actor) -> None:
        """Remove a member. Members may remove themselves. Raises as `set_role` does."""
        async with self._database.writing() as tx:
            if actor.user_id != user_id:
                await self._check_owner(tx, root, actor)
            old = await _role(tx, root, user_id)
            if old is None:
                raise forbidden() if actor.user_id == user_id else BeaconfireError(errors.NOT_FOUND, "not a member")
            await _check_owner_stays(tx, root, old)
            await self._change(tx, root, user_id, None, actor)
        self._outbox.wake()

    async def grant(self, root: Pair, user_id: str, role: Role, *, founding: bool = False) -> int:
        """Make a user a member, for a domain service. Idempotent. Return the version.

        With `founding`, only the first member of a root is made, so a removed member cannot come back by it. Raises
        `not_found` if the user does not exist. Raises `conflict` for another role for the last owner, and with
        `founding` for a root that has members.
        """
        async with self._database.writing() as tx:
            if await tx.scalar(select(USERS.c.id).where(USERS.c.id == user_id)) is None:
                raise BeaconfireError(errors.NOT_FOUND, "no such user")
            old = await _role(tx, root, user_id)
            if old is not role:
                if founding and await tx.scalar(select(MEMBERS.c.user_id).where(*_in(root)).limit(1)) is not None:
                    raise BeaconfireError(errors.CONFLICT, f"{root} has members already: an owner among them decides")
                await _check_owner_stays(tx, root, old)
                await self._change(tx, root, user_id, role, Actor(user_id))
            version = await counter(tx, MEMBERSHIP_VERSION)
        self._outbox.wake()
        return version

    async def _check_owner(self, tx: AsyncConnection, root: Pair, actor: Actor) -> None:
        if not can_own(await _role(tx, root, actor.user_id)):
            raise forbidden()

    async def _change(self, tx: AsyncConnection, root: Pair, user_id: str, role: Role | None, actor: Actor) -> None:
        """Write a change and its event."""
        row = {"root_kind": root.kind, "root_id": root.id, "user_id": user_id}
        if role is None:
            await tx.execute(delete(MEMBERS).where(*_in(root), MEMBERS.c.user_id == user_id))
        elif await _role(tx, root, user_id) is None:
            await tx.execute(insert(MEMBERS).values(**row, role=role.value))
        else:
            changed = update(MEMBERS).where(*_in(root), MEMBERS.c.user_id == user_id)
            await tx.execute(changed.values(role=role.value))
        event = MemberChanged.model_validate(
            {**row, "role": role, "membership_version": await next_membership_version(tx)}
        )
        metadata = Metadata(source="auth", user_id=actor.user_id, correlation_id=actor.correlation_id)
        await self._outbox.add(tx, [Envelope(event, metadata)])
        log.info("membership changed", root=str(root), member=user_id, role=role, by=actor.user_id)


def as_json(member: Member) -> Mapping[str, str]:
    """Return a member as JSON for an answer."""
    return {"userId": member.user_id, "name": member.name, "email": member.email, "role": member.role}


async def _role(tx: AsyncConnection, root: Pair, user_id: str) -> Role | None:
    role = await tx.scalar(select(MEMBERS.c.role).where(*_in(root), MEMBERS.c.user_id == user_id))
    return Role(role) if role is not None else None


async def _check_owner_stays(tx: AsyncConnection, root: Pair, leaving: Role | None) -> None:
    if leaving is not Role.OWNER:
        return
    owners = select(MEMBERS.c.user_id).where(*_in(root), MEMBERS.c.role == Role.OWNER.value)
    # Locked, because two owners that leave at the same time would each see the other. SQLite's writers wait anyway.
    if len((await tx.execute(owners.with_for_update())).all()) == 1:
        raise BeaconfireError(errors.CONFLICT, "the last owner must stay: make another member an owner first")


def _in(root: Pair) -> tuple[ColumnElement[bool], ...]:
    return (MEMBERS.c.root_kind == root.kind, MEMBERS.c.root_id == root.id)
