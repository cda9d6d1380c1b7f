"""Read and change members of roots and their roles. Every change is an event in the same transaction.

One version counts all changes.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_auth.email_addresses import EmailAddress
from beaconfire_auth.outside_users import OutsideUsers
from beaconfire_auth.people import users_with_email
from beaconfire_auth.store import COUNTERS, MEMBERS, MEMBERSHIP_VERSION, USERS, counter, next_membership_version
from beaconfire_kit import errors, logs
from beaconfire_kit.database import Database
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.user import MemberChanged
from beaconfire_kit.outbox import Added, Outbox
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
    is_placeholder: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """The role that a user is to have in a root. Without a role, the user is to be no member."""

    root: Pair
    user_id: str
    role: Role | None


@dataclass(frozen=True, slots=True)
class Actor:
    """The user or service that makes a change, and its request. A service is the `source` of the event."""

    user_id: str | None
    correlation_id: str | None = None
    source: str = "auth"

    @property
    def metadata(self) -> Metadata:
        return Metadata(source=self.source, user_id=self.user_id, correlation_id=self.correlation_id)


@dataclass(frozen=True, slots=True)
class Standing:
    """A user's roles as of a `version`. `issued_before` (Unix seconds) is None for a user that does not exist."""

    version: int
    issued_before: int | None
    roles: dict[Pair, Role]
    is_placeholder: bool = False

    def is_revoked(self, issued_at: int | None) -> bool:
        """Return whether a token of that age is refused. Every token of an unknown user is."""
        return self.issued_before is None or (issued_at is not None and issued_at < self.issued_before)


def forbidden() -> BeaconfireError:
    """Return the error for callers that are not members. It is the same whether the root exists or not."""
    return BeaconfireError(errors.FORBIDDEN, "no such thing, or you may not do this")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What changes do: the roles before, the users to create, the changes to write, and the result of each."""

    before: dict[tuple[Pair, str], Role]
    newcomers: set[str]
    changes: list[Change] = field(default_factory=list)
    results: list[bool | BeaconfireError] = field(default_factory=list)


class Members:
    """Read and change memberships."""

    def __init__(self, database: Database, outbox: Outbox, outside_users: OutsideUsers) -> None:
        self._database = database
        self._outbox = outbox
        self._outside_users = outside_users

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
        async with self._database.looking_up() as connection:
            rows = (await connection.execute(_STANDING, {"user_id": user_id})).all()
        if not rows:
            async with self._database.reading() as connection:
                version = await counter(connection, MEMBERSHIP_VERSION)  # first: the answer is as new, or newer
                rows = (await connection.execute(_STANDING, {"user_id": user_id})).all()
            if not rows:
                return Standing(version, None, {})
        roles = {Pair(row.root_kind, row.root_id): Role(row.role) for row in rows if row.role is not None}
        return Standing(rows[0].version or 0, rows[0].issued_before, roles, rows[0].is_placeholder)

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
            added = await self._write(tx, [Change(root, user.id, role)], {}, actor)
        self._outbox.wake(added)
        return Member(user.id, user.name, user.email, role)

    async def set_role(self, root: Pair, user_id: str, role: Role, actor: Actor) -> Member:
        """Change a member's role. Raises `forbidden`, `not_found`, and `conflict` for the last owner."""
        async with self._database.writing() as tx:
            await self._check_owner(tx, root, actor)
            user = (await tx.execute(select(USERS).where(USERS.c.id == user_id))).one_or_none()
            old = await _role(tx, root, user_id)
            if user is None or old is None:
                raise BeaconfireError(errors.NOT_FOUND, "not a member")
            added: Added = ()
            if old is not role:
                await _check_owner_stays(tx, root, old)
                added = await self._write(tx, [Change(root, user_id, role)], {(root, user_id): old}, actor)
        self._outbox.wake(added)
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
            added = await self._write(tx, [Change(root, user_id, None)], {(root, user_id): old}, actor)
        self._outbox.wake(added)

    async def grant(
        self, root: Pair, user_id: str, role: Role, actor: Actor, *, founding: bool = False
    ) -> tuple[int, bool]:
        """Make a user a member, for a domain service. Idempotent. Return the version, and whether this changed it.

        With `founding`, only the first member of a root is made, so a removed member cannot come back by it. Raises
        `not_found` if the user does not exist. Raises `conflict` for another role for the last owner, and with
        `founding` for a root that has members.
        """
        async with self._database.writing() as tx:
            plan = await self._plan(tx, [Change(root, user_id, role)])
            for result in plan.results:
                if isinstance(result, BeaconfireError):
                    raise result
            if plan.changes:
                if founding:
                    await _check_no_member(tx, root)
                await _check_owner_stays(tx, root, plan.before.get((root, user_id)))
                await self._carry_out(tx, plan, actor)
                if founding:  # again: only now is no other change on its way, because the version is locked
                    await _check_no_member(tx, root, besides=user_id)
            version = await counter(tx, MEMBERSHIP_VERSION)
        self._outbox.wake()
        return version, bool(plan.changes)

    async def change(self, changes: Sequence[Change], actor: Actor) -> list[bool | BeaconfireError]:
        """Make changes for a service, in one transaction. Idempotent.

        Return for each whether it changed something, or why it was refused, which stops no other. A role for a user of
        an outside issuer who has never connected makes a placeholder. The last owner may go, because the service owns
        the data.
        """
        async with self._database.writing() as tx:
            plan = await self._plan(tx, changes)
            await self._carry_out(tx, plan, actor)
        self._outbox.wake()
        return plan.results

    async def preview(self, changes: Sequence[Change]) -> list[bool | BeaconfireError]:
        """Return what `change` would return now, and change nothing."""
        async with self._database.reading() as connection:
            return (await self._plan(connection, changes)).results

    async def remove_some(self, root: Pair, actor: Actor, *, at_most: int) -> int:
        """Remove members of a root for a service, in one transaction. Return how many there were."""
        async with self._database.writing() as tx:
            found = select(MEMBERS.c.user_id, MEMBERS.c.role).where(*_in(root)).order_by(MEMBERS.c.user_id)
            before = {(root, row.user_id): Role(row.role) for row in await tx.execute(found.limit(at_most))}
            if before:
                await self._write(tx, [Change(root, user_id, None) for root, user_id in before], before, actor)
        self._outbox.wake()
        return len(before)

    async def count(self, root: Pair) -> int:
        """Return how many members a root has."""
        async with self._database.reading() as connection:
            return await connection.scalar(select(func.count()).select_from(MEMBERS).where(*_in(root))) or 0

    async def page(self, root: Pair, *, after: str, limit: int) -> list[Member]:
        """Return a root's members by id, from the first behind `after`."""
        return await self._read(root, MEMBERS.c.user_id > after, limit=limit)

    async def member(self, root: Pair, user_id: str) -> Member | None:
        """Return one member."""
        return next(iter(await self._read(root, MEMBERS.c.user_id == user_id, limit=1)), None)

    async def roots(self, kind: str, *, after: str, limit: int) -> list[tuple[Pair, int]]:
        """Return the roots of a kind that have members by id, from the first behind `after`, and how many members."""
        found = select(MEMBERS.c.root_id, func.count().label("members")).group_by(MEMBERS.c.root_id)
        of_kind = found.where(MEMBERS.c.root_kind == kind, MEMBERS.c.root_id > after)
        async with self._database.reading() as connection:
            rows = await connection.execute(of_kind.order_by(MEMBERS.c.root_id).limit(limit))
            return [(Pair(kind, row.root_id), row.members) for row in rows]

    async def _read(self, root: Pair, which: ColumnElement[bool], *, limit: int) -> list[Member]:
        found = select(MEMBERS, USERS.c.name, USERS.c.email, USERS.c.is_placeholder)
        of_root = found.join(USERS, USERS.c.id == MEMBERS.c.user_id).where(*_in(root), which)
        async with self._database.reading() as connection:
            rows = await connection.execute(of_root.order_by(MEMBERS.c.user_id).limit(limit))
            return [Member(row.user_id, row.name, row.email, Role(row.role), row.is_placeholder) for row in rows]

    async def _plan(self, connection: AsyncConnection, changes: Sequence[Change]) -> "_Plan":
        """Find out what changes would do, one after the other."""
        wanted = {change.user_id for change in changes if change.role is not None}
        existing, newcomers = await self._outside_users.find(connection, wanted)
        before = await _roles(connection, [(change.root, change.user_id) for change in changes])
        users, now = existing | newcomers, dict(before)
        plan = _Plan(before=before, newcomers=newcomers)
        for change in changes:
            key = (change.root, change.user_id)
            if change.role is not None and change.user_id not in users:
                plan.results.append(_unknown(change.user_id))
                continue
            is_new = now.get(key) is not change.role
            plan.results.append(is_new)
            if is_new:
                plan.changes.append(change)
                now.pop(key, None)
                if change.role is not None:
                    now[key] = change.role
        return plan

    async def _carry_out(self, tx: AsyncConnection, plan: "_Plan", actor: Actor) -> None:
        if plan.changes:
            await self._outside_users.add_placeholders(tx, plan.newcomers)
            await self._write(tx, plan.changes, plan.before, actor)

    async def _check_owner(self, tx: AsyncConnection, root: Pair, actor: Actor) -> None:
        if actor.user_id is None or not can_own(await _role(tx, root, actor.user_id)):
            raise forbidden()

    async def _write(
        self, tx: AsyncConnection, changes: Sequence[Change], before: Mapping[tuple[Pair, str], Role], actor: Actor
    ) -> Added:
        """Write changes and an event for each. `before` has the role that each of these members has now."""
        after = {(change.root, change.user_id): change.role for change in changes}
        if gone := [member for member, role in after.items() if role is None and member in before]:
            await tx.execute(delete(MEMBERS).where(_is_one_of(gone)))
        given = {member: role.value for member, role in after.items() if role is not None}
        if new := [{**_key(member), "role": role} for member, role in given.items() if member not in before]:
            await tx.execute(insert(MEMBERS), new)
        if kept := [{**_bound(member), "new_role": role} for member, role in given.items() if member in before]:
            await tx.execute(_CHANGE_ROLE, kept)
        first = await next_membership_version(tx, len(changes)) - len(changes) + 1
        metadata = actor.metadata
        events = [
            MemberChanged.model_validate(
                {**_key((one.root, one.user_id)), "role": one.role, "membership_version": first + number}
            )
            for number, one in enumerate(changes)
        ]
        added = await self._outbox.add(tx, [Envelope(event, metadata) for event in events])
        for one in changes:
            by = actor.user_id or actor.source
            log.info("membership changed", root=str(one.root), member=one.user_id, role=one.role, by=by)
        return added


_COLUMNS = ("root_kind", "root_id", "user_id")
_CHANGE_ROLE = update(MEMBERS).where(*(MEMBERS.c[one] == bindparam(f"of_{one}") for one in _COLUMNS))
_CHANGE_ROLE = _CHANGE_ROLE.values(role=bindparam("new_role"))


def as_json(member: Member) -> Mapping[str, str]:
    """Return a member as JSON for an answer."""
    return {"userId": member.user_id, "name": member.name, "email": member.email, "role": member.role}


async def _role(tx: AsyncConnection, root: Pair, user_id: str) -> Role | None:
    return (await _roles(tx, [(root, user_id)])).get((root, user_id))


async def _roles(connection: AsyncConnection, members: Collection[tuple[Pair, str]]) -> dict[tuple[Pair, str], Role]:
    """Return the roles of those that are members."""
    if not members:
        return {}
    rows = await connection.execute(select(MEMBERS).where(_is_one_of(members)))
    return {(Pair(row.root_kind, row.root_id), row.user_id): Role(row.role) for row in rows}


async def _check_no_member(tx: AsyncConnection, root: Pair, *, besides: str = "") -> None:
    members = select(MEMBERS.c.user_id).where(*_in(root), MEMBERS.c.user_id != besides)
    if await tx.scalar(members.limit(1)) is not None:
        raise BeaconfireError(errors.CONFLICT, f"{root} has members already: an owner among them decides")


async def _check_owner_stays(tx: AsyncConnection, root: Pair, leaving: Role | None) -> None:
    if leaving is not Role.OWNER:
        return
    owners = select(MEMBERS.c.user_id).where(*_in(root), MEMBERS.c.role == Role.OWNER.value)
    # Locked, because two owners that leave at the same time would each see the other. SQLite's writers wait anyway.
    if len((await tx.execute(owners.with_for_update())).all()) == 1:
        raise BeaconfireError(errors.CONFLICT, "the last owner must stay: make another member an owner first")


def _in(root: Pair) -> tuple[ColumnElement[bool], ...]:
    return (MEMBERS.c.root_kind == root.kind, MEMBERS.c.root_id == root.id)


def _is_one_of(members: Collection[tuple[Pair, str]]) -> ColumnElement[bool]:
    key = tuple_(MEMBERS.c.root_kind, MEMBERS.c.root_id, MEMBERS.c.user_id)
    return key.in_([(root.kind, root.id, user_id) for root, user_id in members])


def _key(member: tuple[Pair, str]) -> dict[str, str]:
    """Return a member's key as columns."""
    root, user_id = member
    return {"root_kind": root.kind, "root_id": root.id, "user_id": user_id}


def _bound(member: tuple[Pair, str]) -> dict[str, str]:
    return {f"of_{column}": value for column, value in _key(member).items()}


def _unknown(user_id: str) -> BeaconfireError:
    return BeaconfireError(errors.NOT_FOUND, f"no such user: {user_id} has not signed up, and is no outside issuer's")


# Built once, because building takes as long as reading. One statement reads one moment on every database, so the roles
# belong to the version that is read with them.
_STANDING = (
    select(
        select(COUNTERS.c.value).where(COUNTERS.c.name == MEMBERSHIP_VERSION).scalar_subquery().label("version"),
        USERS.c.issued_before,
        USERS.c.is_placeholder,
        MEMBERS,
    )
    .join_from(USERS, MEMBERS, isouter=True)
    .where(USERS.c.id == bindparam("user_id"))
    .order_by(MEMBERS.c.root_kind, MEMBERS.c.root_id)
)
