"""Decide which users may connect and hear a room. Tokens are verified here, and auth decides about rooms.

Changes of membership are events, so they come on the gapless path, in order with the events they must stop. Each
carries auth's membership version and is remembered for a minute: an allow that was in flight with an older version is
asked for again. A session's rooms are leased for ten minutes and renewed in the background. If auth is away, they stay
that long.

If the stream has lost events, or is another one, a change may be lost with them (ADR 0022). Everything that was
allowed is in doubt then: each session is held, so that it hears nothing, until auth was asked about it again.
"""

import asyncio
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TypeAlias

from beaconfire_gateway.fanout.hub import Hub
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_kit import authorization, broker, errors, logs, metrics
from beaconfire_kit.access import refusing_invalid_tokens
from beaconfire_kit.authorization import (
    MAX_ROOMS,
    Auth,
    AuthorizeReply,
    AuthorizeRequest,
    AuthUnavailable,
    RoomDecision,
    offer,
)
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.user import AccessRevoked, MemberChanged
from beaconfire_kit.outside_tokens import OutsideClaims
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import InvalidRoom, Pair, RoomKey, parse_pair, parse_room
from beaconfire_kit.tokens import Claims
from beaconfire_kit.verifier import Verifier

log = logs.get(__name__)

ASKED = metrics.Counter(
    "beaconfire_gateway_authorizations_total",
    "Decisions about rooms that the gateway asked auth for, by result.",
    ["result"],
)

CACHE_S = 30.0
REMEMBER_S = 60.0
CONFIRMS_AT_ONCE = 16
"""Sessions in doubt that auth is asked about at one time: ten thousand must not keep out clients that connect."""
DOUBT_RETRY_S = 0.25
FAILURES = 3
"""Renewals that fail after which the others wait for the next time."""
MAX_KEPT = 10_000
"""Tokens kept while the broker is away."""
AFTER_OUTAGE_S = 30.0
"""After the broker was away, auth and a gateway need a while to renew the leases that ran out meanwhile."""
MAX_ASKS = 5  # an answer out of date is asked again at once; five in a row means that auth itself is behind
_Listed: TypeAlias = tuple[int, str, float, tuple[str, ...]]
"""A list of roots: the token (`_mark`), their kind, when auth answered, and the roots. Remembered as an allow."""
_Allowed: TypeAlias = tuple[int, str, float, str, str]
"""An allow: the token (`_mark`), the room, when auth answered, the root and the role. For another token auth is asked
again, as it also answers whether it was revoked. Numbers and text cost the garbage collector nothing."""
_UNDECIDED = BeaconfireError(
    errors.UNAVAILABLE, "the application that decides about this room does not answer, try again", retry_after_ms=1_000
)
_FORBIDDEN = BeaconfireError(errors.FORBIDDEN, "no such room, or you are not a member")


@dataclass(slots=True)
class AskingPolicy:
    """How auth is asked, and how long its answers last. Operators do not set this; tests choose other values."""

    asks_at_once: int = 64
    """Questions to auth under way at one time. After an outage ten thousand clients connect at once. If all were asked
    together, auth would answer most of them after their clients have given up, and they would all come again."""
    wait_s: float = 5.0
    """How long a client waits for its turn to ask. Then it is refused with `unavailable`, and tries again later."""
    lease_s: float = 600.0
    renew_after_s: float = 300.0
    renew_every_s: float = 10.0
    retry_after_s: float = 60.0
    """When auth is asked again about a session if the authorizer of one of its roots did not answer."""
    doubt_s: float = 10.0
    """How long sessions are held while auth does not answer. Then they lose their rooms, because a client that hears
    nothing for longer than its heartbeat would leave anyway."""


class Authorization:
    """Implements `gateway.Access` and `delivery.AccessChanges` for the sessions of this gateway."""

    def __init__(self, auth: Auth, verifier: Verifier, hub: Hub[Session], policy: AskingPolicy | None = None) -> None:
        self._auth = auth
        self._policy = policy or AskingPolicy()
        self._verifier = verifier
        self._kept: dict[tuple[str, int], str] = {}
        self._away_at = float("-inf")
        self._hub = hub
        self._asks = asyncio.Semaphore(self._policy.asks_at_once)
        self._cache: dict[str, tuple[_Allowed, ...]] = {}  # by user
        self._listed: dict[str, tuple[_Listed, ...]] = {}  # by user
        self._changed: dict[tuple[str, Pair], tuple[float, int]] = {}  # (user, root) → when, version
        self._ahead: dict[tuple[str, Pair], tuple[int, Role]] = {}
        """(user, root) → version and role that auth gave while changes could not be heard. They come later, out of
        date: a member who was removed and put back must not be put out by the first of the two. Roles that may be a
        token's grants are not among them: the user's other sessions do not have them."""
        self._revoked: dict[str, tuple[float, float]] = {}  # user → when, tokens issued before this are refused
        self._life = 0  # answers to questions of an earlier one are too old
        self._doubtful: dict[Session, None] = {}  # in order
        self._has_doubts = asyncio.Event()
        self._undecided: dict[Session, dict[Pair, float]] = {}
        """Since when (monotonic seconds) nobody decides about a root of a session: its lease ends that much later."""
        self._answered_at = 0.0

    async def verify(self, token: str) -> Claims:
        """Implements `Access`. Raises BeaconfireError: `token_invalid`, or `unavailable` without auth's keys."""
        with refusing_invalid_tokens(token):
            claims = await self._verifier.verify(token)
        self._keep(claims, token)
        return claims

    def _keep(self, claims: Claims, token: str) -> None:
        """Allow asking auth over HTTP in this user's name while this message is handled. While the broker is away, also
        for what the client asks next. At other times no token is kept.
        """
        offer(claims, token)
        if self._auth.broker_is_away and len(self._kept) < MAX_KEPT:
            self._kept[claims.user_id, claims.issued_at] = token

    async def decide(self, claims: Claims, rooms: Sequence[str]) -> Mapping[str, Subscription | BeaconfireError]:
        """Implements `Access`. Raises AuthUnavailable, or BeaconfireError with `token_invalid`."""
        answers: dict[str, Subscription | BeaconfireError] = {}
        known = self._known(claims)
        unknown: list[str] = []
        for name in rooms:
            if name in known:
                answers[name] = known[name]
                continue
            try:
                parse_room(name)
                unknown.append(name)
            except InvalidRoom as error:
                answers[name] = BeaconfireError(errors.BAD_ROOM, str(error))
        remembered = {name: known[name] for name in rooms if name in known}
        if unknown or not remembered:  # a remembered answer is forgotten when its token is revoked
            answers |= await self._ask(claims, unknown)
            # While that was asked, a change may have taken back what was remembered. All in one question, then.
            if not remembered.items() <= self._known(claims).items():
                answers |= await self._ask(claims, [*remembered, *unknown])
        self._refuse_revoked(claims)
        return {name: answers[name] for name in rooms}

    async def roots(self, claims: Claims, kind: str) -> Sequence[str]:
        """Implements `Access`. The decisions about these roots are remembered, so `decide` need not ask again."""
        mark = _mark(claims)
        found = next((one[3] for one in self._known_lists(claims) if one[:2] == (mark, kind)), None)
        if found is None:
            found = tuple(await self._ask(claims, (), roots_of=kind))
            self._listed[claims.user_id] = (*self._known_lists(claims), (mark, kind, time.monotonic(), found))
        self._refuse_revoked(claims)
        return found

    def member_changed(self, change: MemberChanged) -> None:
        """Apply a change of membership. Called in the stream's order."""
        root = Pair(change.root_kind, change.root_id)
        self._forget_user(change.user_id)
        self._changed[change.user_id, root] = (time.monotonic(), change.membership_version)
        role = change.role
        if (ahead := self._ahead.get((change.user_id, root))) and ahead[0] >= change.membership_version:
            role = ahead[1]  # this change is older than what auth has said since, while its event was on its way
        for session in self._hub.sessions_of(change.user_id):
            if role is None:
                session.leave_root(root, "membership_removed")
            else:
                session.change_role(root, role)

    def access_revoked(self, revoked: AccessRevoked) -> None:
        """End the user's sessions with an older token, or all that are open.

        If only a root was revoked, ask auth about its rooms.
        """
        if revoked.root is not None:
            self._root_revoked(revoked.user_id, parse_pair(revoked.root), revoked.membership_version)
            return
        if revoked.reason == "disconnected":  # no token is revoked, so a client may come back with the same one
            for session in self._hub.sessions_of(revoked.user_id):
                session.close(BeaconfireError(errors.TOKEN_INVALID, "disconnected: get a new token and connect again"))
            return
        issued_before = revoked.issued_before.timestamp()
        self._forget_user(revoked.user_id)
        self._revoked[revoked.user_id] = (time.monotonic(), issued_before)
        for session in self._hub.sessions_of(revoked.user_id):
            if session.claims is not None and session.claims.issued_at < issued_before:
                session.close(BeaconfireError(errors.TOKEN_INVALID, "access was revoked: sign in again"))

    def _root_revoked(self, user_id: str, root: Pair, version: int) -> None:
        """Hold the user's sessions in the root until auth has said what remains: a membership, a newer token's grant.

        An answer with an older version does not count.
        """
        self._forget_user(user_id)
        self._changed[user_id, root] = (time.monotonic(), version)
        self._ahead.pop((user_id, root), None)
        mine = self._hub.sessions_of(user_id)
        self._ask_again([one for one in mine if any(room.room.root == root for room in one.rooms.values())], user_id)

    def doubt(self, user_id: str | None = None) -> None:
        """Implements `Access`. The sessions hear nothing until auth has answered.

        Answers to earlier questions no longer count.
        """
        self._life += 1
        if user_id is None:
            self._cache.clear()
            self._listed.clear()
            self._changed.clear()
        else:
            self._forget_user(user_id)
        self._ask_again(list(self._hub.all_sessions() if user_id is None else self._hub.sessions_of(user_id)), user_id)

    def _ask_again(self, sessions: Sequence[Session], user_id: str | None) -> None:
        """Hold these sessions until auth has answered what they may hear."""
        for session in sessions:
            session.hold()
            self._doubtful[session] = None
        if sessions:
            log.warning("asking auth about sessions again", count=len(sessions), user=user_id)
            self._answered_at = time.monotonic()
            self._has_doubts.set()

    async def confirm(self) -> None:
        """Ask about the sessions that are in doubt, forever. Owned by the app."""
        while True:
            broker.check_cancelled()
            await self._has_doubts.wait()
            self._has_doubts.clear()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(CONFIRMS_AT_ONCE, len(self._doubtful))):
                    tasks.create_task(self._confirm_some())

    async def _confirm_some(self) -> None:
        while self._doubtful:
            session = next(iter(self._doubtful))
            del self._doubtful[session]
            try:
                await self._confirm(session)
            except Exception:
                log.exception("could not ask what a session may hear", session=session.id)
                session.close(errors.internal(session.id))

    async def _confirm(self, session: Session) -> None:
        """Ask until there is an answer, and let the session go on with what it may hear."""
        while session.claims is not None and session.state is not State.CLOSED:
            broker.check_cancelled()
            try:
                await self._renew(session, session.claims, trusting=False)
                self._answered_at = time.monotonic()
                session.release()
                return
            except AuthUnavailable:
                if time.monotonic() - self._answered_at > self._policy.doubt_s:
                    self._give_up(session)
                    return
            await asyncio.sleep(DOUBT_RETRY_S)

    def _give_up(self, *sessions: Session) -> None:
        """Put these sessions, and all others in doubt, out of their rooms: auth does not answer."""
        log.error("auth does not answer about sessions", count=len(sessions) + len(self._doubtful))
        for session in (*sessions, *self._doubtful):
            _expire(session)
            session.release()
        self._doubtful.clear()

    def let_go(self) -> None:
        """Forget everything that was allowed: auth is asked again, and tokens are checked again."""
        self._cache.clear()
        self._listed.clear()
        _subscription.cache_clear()
        self._verifier.forget()

    async def renew(self) -> None:
        """Renew leases, end those that ran out, and forget what is old, forever. Owned by the app."""
        while True:
            broker.check_cancelled()
            await asyncio.sleep(self._policy.renew_every_s)
            self._forget()
            if self._auth.broker_is_away:  # no event comes either: leases are renewed once it is back
                self._away_at = time.monotonic()
                continue
            self._kept.clear()
            await self._renew_some()
            self._expire_undecided()
            if time.monotonic() - self._away_at > self._policy.lease_s:
                self._ahead.clear()
            if time.monotonic() - self._away_at > AFTER_OUTAGE_S:
                for session in self._leased_before(time.monotonic() - self._policy.lease_s):
                    _expire(session)

    async def _renew_some(self) -> None:
        """Renew what is due. While auth does not answer, only some are tried: each takes seconds."""
        due = self._leased_before(time.monotonic() - self._policy.renew_after_s)
        random.shuffle(due)  # else the same few might fail each time, and the others never have their turn
        failures = 0
        for session in due:
            try:
                if session.claims is not None:
                    await self._renew(session, session.claims)
            except AuthUnavailable:
                failures += 1
                if failures == FAILURES:
                    return

    def _leased_before(self, moment: float) -> list[Session]:
        return [one for one in self._hub.all_sessions() if one.leased_at < moment]

    async def reconsider(self, session: Session, claims: Claims) -> None:
        """Implements `Access`."""
        self._apply(session, await self._decisions_about(session, claims))

    async def _renew(self, session: Session, claims: Claims, *, trusting: bool = True) -> None:
        """Ask what the session may hear in its rooms, and apply the answer. Raises AuthUnavailable without one.

        If the session got a newer token meanwhile, the answer is not about that one, so auth is asked again.
        """
        answer: Mapping[RoomKey, Subscription | BeaconfireError] | BeaconfireError
        try:
            answer = await self._decisions_about(session, claims)
        except AuthUnavailable:
            raise
        except BeaconfireError as error:
            answer = error
        if session.claims is not None and session.claims is not claims:
            await self._renew(session, session.claims, trusting=trusting)
        elif isinstance(answer, BeaconfireError):
            session.close(answer)
        else:
            self._apply(session, answer, trusting=trusting)

    async def _decisions_about(
        self, session: Session, claims: Claims
    ) -> Mapping[RoomKey, Subscription | BeaconfireError]:
        """Ask what the session may hear in its rooms. Raises BeaconfireError: AuthUnavailable, or `token_invalid`."""
        # By the long names: the meaning of a short one may have changed, but the session stays in its room.
        life = self._life
        asked = {str(one.room): one.room for one in session.rooms.values()}
        names = list(asked)
        began = time.monotonic()
        decisions: dict[RoomKey, Subscription | BeaconfireError] = {}
        for start in range(0, len(names) or 1, MAX_ROOMS):
            some = names[start : start + MAX_ROOMS]
            answers = await self._ask(claims, some, in_line=False)
            decisions |= {asked[name]: answer for name, answer in answers.items()}
        is_in_parts = len(names) > MAX_ROOMS
        if life != self._life or (is_in_parts and self._has_changed(claims.user_id, began)):
            raise AuthUnavailable  # a part of the answer may be too old by now
        return decisions

    def _apply(
        self, session: Session, decisions: Mapping[RoomKey, Subscription | BeaconfireError], *, trusting: bool = True
    ) -> None:
        """Put the session out of rooms that are refused now, and change its roles.

        Rooms that are undecided stay for as long as their lease lasts, unless it is not trusted.
        """
        leased_at, now = session.leased_at, time.monotonic()
        session.leased_at = now
        roles = {room.root: decision.role for room, decision in decisions.items() if isinstance(decision, Subscription)}
        for root, role in roles.items():
            session.change_role(root, role)
        undecided = {room.root for room, decision in decisions.items() if decision is _UNDECIDED}
        for name, subscription in list(session.rooms.items()):
            if isinstance(decisions.get(subscription.room), BeaconfireError):
                if subscription.room.root not in undecided:
                    session.leave_room(name, "membership_removed")
                elif not trusting:
                    session.leave_room(name, "lease_expired")
        before = self._undecided.pop(session, {})
        if undecided and trusting:
            self._undecided[session] = {root: before.get(root, leased_at) for root in undecided}
            session.leased_at = now - self._policy.renew_after_s + self._policy.retry_after_s

    def _expire_undecided(self) -> None:
        """Put sessions out of the roots about which nobody has decided for the time of a lease."""
        expired = time.monotonic() - self._policy.lease_s
        for session, roots in list(self._undecided.items()):
            for root in [root for root, since in roots.items() if since < expired]:
                session.leave_root(root, "lease_expired")
                del roots[root]
            if not roots or session.state is State.CLOSED:
                del self._undecided[session]

    async def _ask(
        self, claims: Claims, rooms: Sequence[str], *, roots_of: str | None = None, in_line: bool = True
    ) -> dict[str, Subscription | BeaconfireError]:
        """Return the answer for each of the rooms, and for each of the user's roots of the kind `roots_of`."""
        request = authorization.question(claims, rooms, roots_of=roots_of)
        if isinstance(claims, OutsideClaims):
            offer(claims, claims.token)
        elif kept := self._kept.get((claims.user_id, claims.issued_at)):
            offer(claims, kept)
        for _ in range(MAX_ASKS):
            life = self._life
            try:
                reply = await self._authorize(request, in_line=in_line)
            except AuthUnavailable:
                ASKED.labels("unavailable").inc()
                raise
            if reply.revoked:
                raise BeaconfireError(errors.TOKEN_INVALID, "access was revoked: sign in again")
            reply = _with_roots(reply)
            if life == self._life and not self._is_stale(claims.user_id, reply, roots_of):
                return self._read(claims, [*dict.fromkeys((*rooms, *reply.rooms))], reply)
            ASKED.labels("stale").inc()
        raise AuthUnavailable

    async def _authorize(self, request: AuthorizeRequest, *, in_line: bool) -> AuthorizeReply:
        """Ask auth when it is this one's turn; first come, first served. Leases, one by one, are renewed beside it."""
        if not in_line:
            return await self._auth.authorize(request)
        try:
            async with asyncio.timeout(self._policy.wait_s):
                await self._asks.acquire()
        except TimeoutError:
            raise AuthUnavailable from None
        try:
            return await self._auth.authorize(request)
        finally:
            self._asks.release()

    def _is_stale(self, user_id: str, reply: AuthorizeReply, roots_of: str | None) -> bool:
        """Whether the answer was given before a change this gateway has already applied."""
        roots = {root for decision in reply.rooms.values() if (root := _root(decision)) is not None}
        if roots_of is not None:  # a root that the answer does not have may be new
            roots |= {root for user, root in self._changed if user == user_id and root.kind == roots_of}
        changes = (self._changed.get((user_id, root)) for root in roots)
        return any(change is not None and reply.version < change[1] for change in changes)

    def _has_changed(self, user_id: str, since: float) -> bool:
        """Whether a membership of this user was changed since then (monotonic seconds)."""
        return any(user == user_id and at >= since for (user, _), (at, _) in self._changed.items())

    def _read(
        self, claims: Claims, rooms: Sequence[str], reply: AuthorizeReply
    ) -> dict[str, Subscription | BeaconfireError]:
        """The answer for each room, which is remembered if it allows one."""
        answers: dict[str, Subscription | BeaconfireError] = {}
        allowed: list[tuple[str, str, str]] = []
        for name in rooms:
            decision = reply.rooms.get(name)
            root = _root(decision) if decision is not None else None
            if decision is None or root is None or decision.role is None:
                ASKED.labels("denied").inc()
                answers[name] = _refusal(name, decision)
                continue
            ASKED.labels("allowed").inc()
            if self._auth.broker_is_away and not _is_granted(claims) and len(self._ahead) < MAX_KEPT:
                self._ahead[claims.user_id, root] = (reply.version, decision.role)
            where, role = sys.intern(str(root)), decision.role.value
            answers[name] = _subscription(where, name, role)
            if parse_room(name).root is not None or name == where:  # for others another root may show the same id
                allowed.append((sys.intern(name), where, role))
        if allowed:
            now = time.monotonic()
            mark = _mark(claims)
            new = [(mark, name, now, where, role) for name, where, role in allowed]
            self._remember(claims.user_id, new, oldest=now - CACHE_S)
        return answers

    def _remember(self, user_id: str, allowed: Sequence[_Allowed], *, oldest: float) -> None:
        """Add to what is known of the user, and drop what it replaces or what is too old."""
        replaced = {one[:2] for one in allowed}
        kept = [one for one in self._cache.get(user_id, ()) if one[:2] not in replaced and one[2] > oldest]
        self._cache[user_id] = (*kept, *allowed)

    def _known(self, claims: Claims) -> dict[str, Subscription]:
        oldest, mark = time.monotonic() - CACHE_S, _mark(claims)
        return {
            name: _subscription(root, name, role)
            for of, name, at, root, role in self._cache.get(claims.user_id, ())
            if of == mark and at > oldest
        }

    def _known_lists(self, claims: Claims) -> Sequence[_Listed]:
        oldest = time.monotonic() - CACHE_S
        return [one for one in self._listed.get(claims.user_id, ()) if one[2] > oldest]

    def _forget_user(self, user_id: str) -> None:
        """Forget what auth has allowed a user."""
        self._cache.pop(user_id, None)
        self._listed.pop(user_id, None)

    def _refuse_revoked(self, claims: Claims) -> None:
        revoked = self._revoked.get(claims.user_id)
        if revoked is not None and claims.issued_at < revoked[1]:
            raise BeaconfireError(errors.TOKEN_INVALID, "access was revoked: sign in again")

    def _forget(self) -> None:
        now = time.monotonic()
        self._changed = {key: value for key, value in self._changed.items() if now - value[0] < REMEMBER_S}
        self._revoked = {key: value for key, value in self._revoked.items() if now - value[0] < 3_700}
        for user_id, rooms in list(self._cache.items()):
            if all(now - at > CACHE_S for _, _, at, _, _ in rooms):
                del self._cache[user_id]
        for user_id, lists in list(self._listed.items()):
            if all(now - one[2] > CACHE_S for one in lists):
                del self._listed[user_id]


def _mark(claims: Claims) -> int:
    """Return a number that equal tokens of a user have. Two tokens of an outside issuer may grant different things."""
    return hash(claims.token) if isinstance(claims, OutsideClaims) else claims.issued_at


def _is_granted(claims: Claims) -> bool:
    """Return whether a role may come from the token itself."""
    return isinstance(claims, OutsideClaims) and bool(claims.grants)


def _refusal(name: str, decision: RoomDecision | None) -> BeaconfireError:
    if decision is not None and decision.unavailable:
        return _UNDECIDED
    if decision is not None and decision.ambiguous:
        rooms = " or ".join(decision.ambiguous)
        return BeaconfireError(errors.BAD_ROOM, f"{name} is in several of your roots: ask for {rooms}")
    if decision is not None and decision.impossible:
        return BeaconfireError(errors.BAD_ROOM, decision.impossible)
    return _FORBIDDEN


def _expire(session: Session) -> None:
    """Remove it from its rooms, because auth does not confirm that it may still hear them. Its client asks again."""
    session.leased_at = time.monotonic()  # of what it joins from now on
    for name in list(session.rooms):
        session.leave_room(name, "lease_expired")


@lru_cache(maxsize=65_536)
def _subscription(root: str, name: str, role: str) -> Subscription:
    """One object for all sessions with it. By text, as it is remembered: parsing would take ten times as long."""
    return Subscription(RoomKey(parse_pair(root), parse_room(name).pair), Role(role))


def _with_roots(reply: AuthorizeReply) -> AuthorizeReply:
    """Return the reply with the roots that it lists as rooms that are allowed, as many as a question may name."""
    if len(reply.roots) > MAX_ROOMS:
        log.warning("left out roots of a user", count=len(reply.roots) - MAX_ROOMS)
    listed = islice(reply.roots.items(), MAX_ROOMS)
    roots = {root: RoomDecision(allowed=True, root=root, role=role) for root, role in listed}
    return reply.model_copy(update={"rooms": {**roots, **reply.rooms}}) if roots else reply


def _root(decision: RoomDecision) -> Pair | None:
    return parse_pair(decision.root) if decision.allowed and decision.root else None
