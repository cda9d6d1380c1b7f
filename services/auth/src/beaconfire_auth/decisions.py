"""Decide what other services ask: may a user see these rooms, and may a service make a member.

A role in a root is the highest of three: the user's membership, what the user's token grants, and what the root's
authorizer says. Memberships are auth's own. Grants are read from the token, which auth verifies itself.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from beaconfire_auth.authorizers import Authorizers, Decided
from beaconfire_auth.members import Actor, Members, Standing
from beaconfire_auth.outside_users import OutsideUsers
from beaconfire_auth.projection import Projection
from beaconfire_auth.revocations import Revocation, Revocations
from beaconfire_auth.root_kinds import USER, RootKinds
from beaconfire_auth.service_tokens import ServiceTokens
from beaconfire_kit import errors, logs
from beaconfire_kit.authorization import AuthorizeReply, AuthorizeRequest, GrantReply, GrantRequest, RoomDecision
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.outside_tokens import OutsideClaims
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import InvalidRoom, Pair, Room, membership_of, parse_room, parse_root

log = logs.get(__name__)

MAX_NAMED = 10
"""Rooms that a short name may mean, listed in an answer."""

_DENIED = RoomDecision(allowed=False)


class _Candidates(NamedTuple):
    """A room, and the roots that it may belong to."""

    pair: Pair
    roots: Sequence[Pair]


class Decisions:
    """Decides what other services ask, over the broker and over HTTP."""

    def __init__(
        self,
        members: Members,
        projection: Projection,
        service_tokens: ServiceTokens,
        outside_users: OutsideUsers,
        root_kinds: RootKinds,
        revocations: Revocations,
        authorizers: Authorizers,
    ) -> None:
        self._members = members
        self._revocations = revocations
        self._authorizers = authorizers
        self._projection = projection
        self._service_tokens = service_tokens
        self._outside_users = outside_users
        self._root_kinds = root_kinds

    async def authorize(self, request: AuthorizeRequest) -> AuthorizeReply:
        """See `beaconfire_kit.authorization.AuthorizeRequest`. The answer is at least as new as its version."""
        if request.service_token is not None:
            good = await self._service_tokens.is_good(request.user_id, request.service_token)
            return AuthorizeReply(revoked=not good, rooms=dict.fromkeys(request.rooms, _DENIED))
        if request.after is not None:
            await self._projection.reach(request.after)
        standing = await self._standing(request)
        if standing.is_revoked(request.issued_at):
            return _revoked(request, standing)
        grants = await self._grants(request)
        # A root stays one for its members if the catalogue no longer declares its kind.
        granted = await self._root_kinds.including({root.kind for root in grants.grants}) if grants is not None else ()
        kinds = {USER, *(root.kind for root in standing.roles)}
        rooms, refused = await self._find(request.rooms, kinds)
        answers: Mapping[Pair, Decided | None] = {}
        roots = {root for room in rooms.values() for root in room.roots if root.kind in self._authorizers.kinds}
        if roots:
            answers, standing = await self._ask_authorizers(request, roots, standing)
            if standing.is_revoked(request.issued_at):
                return _revoked(request, standing)
        revoked = await self._revocations.of(request.user_id) if grants is not None else {}
        roles = _roles(request.user_id, standing, grants, revoked, answers, granted)
        undecided = {root for root, answer in answers.items() if answer is None}
        decisions = {name: _decision(room, roles, undecided) for name, room in rooms.items()} | refused
        return AuthorizeReply(
            version=standing.version,
            rooms={name: decisions[name] for name in request.rooms},
            roots={str(root): role for root, role in roles.items() if root.kind == request.roots_of},
        )

    async def _grants(self, request: AuthorizeRequest) -> OutsideClaims | None:
        """Return the user's token if it grants anything."""
        if request.newcomer is None:
            return None
        claims = await self._outside_users.grants_of(request.user_id, request.newcomer.token)
        return claims if claims is not None and claims.grants else None

    async def _find(
        self, names: Sequence[str], kinds: Collection[str]
    ) -> tuple[dict[str, _Candidates], dict[str, RoomDecision]]:
        """Return the roots of each room, and a refusal for each room that cannot be.

        `kinds` are of roots, besides those of the catalogue.
        """
        refused: dict[str, RoomDecision] = {}
        rooms: dict[str, Room] = {}
        for name in names:
            try:
                rooms[name] = parse_room(name)
            except InvalidRoom as error:
                refused[name] = RoomDecision(allowed=False, impossible=str(error))
        known = self._root_kinds.known
        found, impossible = await self._find_among({*(known or ()), *kinds}, rooms)
        unknown = {name: room for name, room in rooms.items() if name not in found | impossible}
        if unknown and (newer := await self._root_kinds.look_again()) != known:
            known = newer
            more = await self._find_among({*(known or ()), *kinds}, unknown)
            found, impossible = found | more[0], impossible | more[1]
        refused |= {name: _unknown(room, known) for name, room in unknown.items() if name not in found}
        return found, refused | impossible

    async def _find_among(
        self, kinds: Collection[str], rooms: Mapping[str, Room]
    ) -> tuple[dict[str, _Candidates], dict[str, RoomDecision]]:
        """Return the roots of the rooms of which they are known, if these are the kinds of roots."""
        found: dict[str, _Candidates] = {}
        impossible: dict[str, RoomDecision] = {}
        bare: dict[str, Pair] = {}
        for name, room in rooms.items():
            if room.root is not None and room.root.kind not in kinds:
                continue
            try:
                key = room.key(kinds)
            except InvalidRoom as error:
                impossible[name] = RoomDecision(allowed=False, impossible=str(error))
                continue
            if key is None:
                bare[name] = room.pair
            else:
                found[name] = _Candidates(key.pair, [key.root])
        parents = await self._projection.roots(bare.values())
        shown = {name: pair for name, pair in bare.items() if pair in parents}
        return found | {name: _Candidates(pair, parents[pair]) for name, pair in shown.items()}, impossible

    async def _ask_authorizers(
        self, request: AuthorizeRequest, roots: Collection[Pair], standing: Standing
    ) -> tuple[Mapping[Pair, Decided | None], Standing]:
        """Return what the authorizers say, and what auth itself knows as of then.

        An answer that a revocation has overtaken is asked again, once: a question may take a second, and the caller
        waits for two.
        """
        person = await self._outside_users.person(request.user_id, request.newcomer.token if request.newcomer else None)
        revoked = await self._revocations.of(request.user_id)
        answers: dict[Pair, Decided | None] = {}
        for _ in range(2):
            left = [root for root in roots if root not in answers]
            answers |= await self._authorizers.ask(person, left, revoked, version=standing.version)
            standing = await self._members.standing(request.user_id)
            revoked = await self._revocations.of(request.user_id)
            overtaken = [root for root, one in answers.items() if one and one.is_older_than(revoked.get(root))]
            if not overtaken:
                return answers, standing
            for root in overtaken:
                del answers[root]
        return {**dict.fromkeys(roots, None), **answers}, standing

    async def _standing(self, request: AuthorizeRequest) -> Standing:
        """Return what the user may do.

        A user of an outside issuer is created at the first request about them, or takes their placeholder over.
        """
        standing = await self._members.standing(request.user_id)
        newcomer = request.newcomer
        is_known = standing.issued_before is not None and not standing.is_placeholder
        if is_known or newcomer is None:
            return standing
        if not await self._outside_users.add_from_token(request.user_id, newcomer.token):
            log.warning("a service believes an outside token that auth does not", user=request.user_id)
            return Standing(standing.version, None, {})
        return await self._members.standing(request.user_id)

    async def grant(self, request: GrantRequest) -> GrantReply:
        """Make a user a member. Raises `bad_room` if the root cannot have members, `not_found` without such a user."""
        try:
            root = parse_root(request.root)
        except InvalidRoom as error:
            raise BeaconfireError(errors.BAD_ROOM, str(error)) from None
        if why := await self._root_kinds.why_without_members(root.kind):
            raise BeaconfireError(errors.BAD_ROOM, f"root: {why}")
        try:
            service = await self._service_tokens.shown_by(request.service_token)
            service.check(f"{root.kind}.{root.id}.member.{request.user_id}")
        except BeaconfireError as error:
            if error.code not in (errors.TOKEN_INVALID, errors.FORBIDDEN):
                raise
            log.warning("refused a grant without a valid service token", root=str(root), user=request.user_id)
            raise BeaconfireError(
                errors.TOKEN_INVALID,
                "serviceToken: a grant needs one of auth's BEACONFIRE_GRANT_TOKENS, or a service token issued for "
                f"{membership_of(root.kind)}",
            ) from None
        actor = Actor(request.user_id)
        version, _ = await self._members.grant(root, request.user_id, request.role, actor, founding=request.founding)
        return GrantReply(version=version)


def _revoked(request: AuthorizeRequest, standing: Standing) -> AuthorizeReply:
    return AuthorizeReply(version=standing.version, revoked=True, rooms=dict.fromkeys(request.rooms, _DENIED))


def _roles(
    user_id: str,
    standing: Standing,
    grants: OutsideClaims | None,
    revoked: Mapping[Pair, Revocation],
    answers: Mapping[Pair, Decided | None],
    kinds: Collection[str],
) -> Mapping[Pair, Role]:
    """Return the user's role in each root: the highest of membership, grant and the authorizer's answer."""
    found: dict[Pair, list[Role | None]] = {root: [role] for root, role in standing.roles.items()}
    if grants is not None:
        for root, granted in grants.grants.items():
            is_revoked = root in revoked and grants.issued_at < revoked[root].issued_before
            if root.kind in kinds and not is_revoked:
                found.setdefault(root, []).append(granted)
    for root, answer in answers.items():
        if answer is not None:
            found.setdefault(root, []).append(answer.role)
    found[Pair(USER, user_id)] = [Role.OWNER]
    return {root: role for root, roles in found.items() if (role := Role.highest(roles)) is not None}


def _decision(room: _Candidates, roles: Mapping[Pair, Role], undecided: Collection[Pair]) -> RoomDecision:
    """Decide about a room that may belong to each of these roots."""
    own = [root for root in room.roots if root in roles]
    if len(own) > 1:
        # If auth chose one, anyone who invites the user and publishes an event for that id could take the room over.
        return RoomDecision(allowed=False, ambiguous=tuple(f"{root}/{room.pair}" for root in own[:MAX_NAMED]))
    if own:
        return RoomDecision(allowed=True, root=str(own[0]), role=roles[own[0]])
    return RoomDecision(allowed=False, unavailable=True) if any(root in undecided for root in room.roots) else _DENIED


def _unknown(room: Room, kinds: Collection[str] | None) -> RoomDecision:
    """Decide about a room of which neither the catalogue nor an event shows a root."""
    if room.root is None or kinds is None:
        return _DENIED
    why = f"{room}: {room.root.kind} is not a kind of root in the catalogue"
    return RoomDecision(allowed=False, impossible=why)
