"""Do what backends ask for with a service token: roots, members, and the end of a user's access (ADR 0035).

The calls are the same over HTTP (`backend_http`) and over the broker (`rpc`). The request of each is a model of
`beaconfire_kit.backend`. A function here checks the token's rights, counts and makes the changes, and returns the
answer.

The right to change members of a root is a pattern of the token that matches the subject of such a change, and that has
the word `member` itself: `depot.*.member.*`, or `depot.d1.member.*`. The right to end a user's access is a pattern like
`user.*.access`. `depot.>` gives neither: it is for events.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from beaconfire_auth.attempts import Attempts
from beaconfire_auth.members import Actor, Change, Member, Members
from beaconfire_auth.outside_users import OutsideUsers
from beaconfire_auth.revocations import Revocations
from beaconfire_auth.root_kinds import USER, RootKinds
from beaconfire_auth.service_tokens import Service
from beaconfire_kit import errors, logs
from beaconfire_kit.backend import (
    MAX_CHANGES,
    MemberChange,
    MemberChanges,
    MemberRole,
    NewRoot,
    OneMember,
    OneRoot,
    Revocation,
    Roots,
    User,
)
from beaconfire_kit.backend import Members as PageOfMembers
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import Pair, parse_pair
from beaconfire_kit.web import describe

log = logs.get(__name__)

M = TypeVar("M", bound=BaseModel)
Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """A backend that calls, and in which request."""

    service: Service
    correlation_id: str | None = None

    @property
    def actor(self) -> Actor:
        return Actor(None, self.correlation_id, source=self.service.source)


class Backends:
    """Answers the calls."""

    def __init__(
        self,
        members: Members,
        revocations: Revocations,
        outside_users: OutsideUsers,
        root_kinds: RootKinds,
        attempts: Attempts,
    ) -> None:
        self._members = members
        self._revocations = revocations
        self._outside_users = outside_users
        self._root_kinds = root_kinds
        self._attempts = attempts
        self._calls: dict[str, Callable[[bytes, Caller], Awaitable[Answer]]] = {
            "create_root": _reading(NewRoot, self._create_root),
            "list_roots": _reading(Roots, self._list_roots),
            "delete_root": _reading(OneRoot, self._delete_root),
            "list_members": _reading(PageOfMembers, self._list_members),
            "get_member": _reading(OneMember, self._get_member),
            "put_member": _reading(MemberRole, self._put_member),
            "remove_member": _reading(OneMember, self._remove_member),
            "change_members": _reading(MemberChanges, self._change_members),
            "disconnect": _reading(User, self._disconnect),
            "revoke": _reading(Revocation, self._revoke),
        }

    async def answer(self, call: str, request: bytes, caller: Caller) -> Answer:
        """Answer a call with its request as JSON.

        Raises BeaconfireError: `not_found` for an unknown call, `bad_request`, `forbidden` without the right,
        `too_many`, and what the call itself is refused for.
        """
        found = self._calls.get(call)
        if found is None:
            raise BeaconfireError(errors.NOT_FOUND, f"no such call: there are {', '.join(sorted(self._calls))}")
        return await found(request, caller)

    async def _create_root(self, wanted: NewRoot, caller: Caller) -> Answer:
        root, owner = parse_pair(wanted.root), self._id_of(wanted.owner)
        await self._check(caller, Change(root, owner, Role.OWNER))
        await self._attempts.count_service_changes(caller.service.name, 1)
        _, changed = await self._members.grant(root, owner, Role.OWNER, caller.actor, founding=True)
        return {"root": str(root), "member": {"userId": owner, "role": Role.OWNER}, "changed": changed}

    async def _list_roots(self, wanted: Roots, caller: Caller) -> Answer:
        caller.service.check(_subject(Pair(wanted.kind, "*"), "*"))
        rows = await self._members.roots(wanted.kind, after=wanted.after or "", limit=wanted.limit + 1)
        page = rows[: wanted.limit]
        return {
            "roots": [{"root": str(root), "members": count} for root, count in page],
            "next": page[-1][0].id if len(rows) > len(page) else None,
        }

    async def _delete_root(self, wanted: OneRoot, caller: Caller) -> Answer:
        root = parse_pair(wanted.root)
        caller.service.check(_subject(root, "*"))
        await self._attempts.count_service_changes(caller.service.name, max(1, await self._members.count(root)))
        removed = 0
        while some := await self._members.remove_some(root, caller.actor, at_most=MAX_CHANGES):
            removed += some
            if some < MAX_CHANGES:
                break
        return {"removed": removed}

    async def _list_members(self, wanted: PageOfMembers, caller: Caller) -> Answer:
        root = parse_pair(wanted.root)
        caller.service.check(_subject(root, "*"))
        rows = await self._members.page(root, after=wanted.after or "", limit=wanted.limit + 1)
        page = rows[: wanted.limit]
        return {
            "members": [_as_json(member) for member in page],
            "next": page[-1].user_id if len(rows) > len(page) else None,
        }

    async def _get_member(self, wanted: OneMember, caller: Caller) -> Answer:
        root, user_id = parse_pair(wanted.root), self._id_of(wanted)
        caller.service.check(_subject(root, user_id))
        member = await self._members.member(root, user_id)
        if member is None:
            raise BeaconfireError(errors.NOT_FOUND, f"{user_id} is not a member of {root}")
        return {"member": _as_json(member)}

    async def _put_member(self, wanted: MemberRole, caller: Caller) -> Answer:
        change = self._change_of(wanted, wanted.role)
        changed = await self._change_one(change, caller)
        return {"member": {"userId": change.user_id, "role": wanted.role}, "changed": changed}

    async def _remove_member(self, wanted: OneMember, caller: Caller) -> Answer:
        return {"changed": await self._change_one(self._change_of(wanted, None), caller)}

    async def _change_members(self, wanted: MemberChanges, caller: Caller) -> Answer:
        """Make the changes that are not refused, in one transaction."""
        read = await self._read_changes(wanted.members, caller)
        changes = [one for one in read if isinstance(one, Change)]
        if wanted.dry_run:
            made = await self._members.preview(changes)
        else:
            await self._attempts.count_service_changes(caller.service.name, len(read))
            made = await self._members.change(changes, caller.actor)
        of_changes = iter(made)
        results = [next(of_changes) if isinstance(one, Change) else one for one in read]
        return {
            "results": [
                {"error": result.body()} if isinstance(result, BeaconfireError) else {"changed": result}
                for result in results
            ],
            "changed": sum(result is True for result in results),
            "unchanged": sum(result is False for result in results),
            "refused": sum(isinstance(result, BeaconfireError) for result in results),
        }

    async def _read_changes(self, items: Iterable[Any], caller: Caller) -> list[Change | BeaconfireError]:
        """Read each change, or say why it is refused. The kinds of all roots are looked up together."""
        read = [self._read_change(item, caller) for item in items]
        kinds = {one.root.kind for one in read if isinstance(one, Change) and one.role is not None}
        wrong = await self._root_kinds.all_without_members(kinds)
        return [
            _no_members(wrong[one.root.kind])
            if isinstance(one, Change) and one.role is not None and one.root.kind in wrong
            else one
            for one in read
        ]

    def _read_change(self, item: Any, caller: Caller) -> Change | BeaconfireError:
        try:
            wanted = MemberChange.model_validate(item, strict=False, by_name=False, by_alias=True)
            change = self._change_of(wanted, wanted.role)
            caller.service.check(_subject(change.root, change.user_id))
            return change
        except ValidationError as error:
            return BeaconfireError(errors.BAD_REQUEST, describe(error))
        except BeaconfireError as error:
            return error

    async def _disconnect(self, wanted: User, caller: Caller) -> Answer:
        user_id = self._id_of(wanted)
        caller.service.check(f"user.{user_id}.access")
        await self._attempts.count_service_changes(caller.service.name, 1)
        await self._revocations.disconnect(user_id, caller.actor.metadata)
        return {}

    async def _revoke(self, wanted: Revocation, caller: Caller) -> Answer:
        user_id = self._id_of(wanted)
        root = parse_pair(wanted.root) if wanted.root is not None else None
        if root is None:
            caller.service.check(f"user.{user_id}.access")
        elif root.kind == USER:
            raise BeaconfireError(errors.BAD_REQUEST, f"root: {root} is a user's own: leave it out to revoke all")
        else:
            caller.service.check(_subject(root, user_id))
        await self._attempts.count_service_changes(caller.service.name, 1)
        if root is None:
            await self._outside_users.add_if_new(user_id)
        before = wanted.issued_before
        version = await self._revocations.revoke(
            user_id,
            root,
            issued_before=None if before is None else math.ceil(before.timestamp()),
            authorizer_version=wanted.authorizer_version,
            metadata=caller.actor.metadata,
        )
        return {"version": version}

    async def _change_one(self, change: Change, caller: Caller) -> bool:
        await self._check(caller, change)
        await self._attempts.count_service_changes(caller.service.name, 1)
        (result,) = await self._members.change([change], caller.actor)
        if isinstance(result, BeaconfireError):
            raise result
        return result

    def _change_of(self, wanted: OneMember, role: Role | None) -> Change:
        return Change(parse_pair(wanted.root), self._id_of(wanted), role)

    def _id_of(self, user: User) -> str:
        if user.issuer is not None and user.sub is not None:
            return self._outside_users.user_id(user.issuer, user.sub)
        assert user.user_id is not None, "checked by the model"
        return user.user_id

    async def _check(self, caller: Caller, change: Change) -> None:
        """Raise `forbidden` without the right to make this change, and `bad_request` if the root cannot have members.

        Members of a root whose kind the catalogue has no longer can still be removed.
        """
        caller.service.check(_subject(change.root, change.user_id))
        if change.role is None:
            return
        if (why := await self._root_kinds.why_without_members(change.root.kind)) is not None:
            raise _no_members(why)


def _reading(
    model: type[M], handle: Callable[[M, Caller], Awaitable[Answer]]
) -> Callable[[bytes, Caller], Awaitable[Answer]]:
    """Return a handler that reads its request from JSON."""

    async def read_and_handle(request: bytes, caller: Caller) -> Answer:
        try:
            wanted = model.model_validate_json(request, by_name=False, by_alias=True)
        except ValidationError as error:
            raise BeaconfireError(errors.BAD_REQUEST, describe(error)) from None
        return await handle(wanted, caller)

    return read_and_handle


def _no_members(why: str) -> BeaconfireError:
    return BeaconfireError(errors.BAD_REQUEST, f"root: {why}")


def _subject(root: Pair, user_id: str) -> str:
    return f"{root.kind}.{root.id}.member.{user_id}"


def _as_json(member: Member) -> dict[str, Any]:
    return {
        "userId": member.user_id,
        "name": member.name,
        "email": member.email,
        "role": member.role,
        "placeholder": member.is_placeholder,
    }
