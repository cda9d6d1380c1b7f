"""Answer the requests of other services over the broker: `auth.authorize`, `auth.grant`, and `auth.access.*`.

Every request is answered, with `error` if something is wrong; otherwise the caller would wait for its whole timeout. A
message that is not a request (see `_is_request`) gets no answer.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar

import nats.errors
from faststream.nats import NatsMessage
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import BaseModel, ValidationError

from beaconfire_auth.backends import Backends, Caller
from beaconfire_auth.members import Actor, Members, Standing
from beaconfire_auth.outside_users import OutsideUsers
from beaconfire_auth.projection import Projection
from beaconfire_auth.revocations import Revocations
from beaconfire_auth.root_kinds import USER, RootKinds
from beaconfire_auth.service_tokens import ServiceTokens
from beaconfire_auth.settings import Settings
from beaconfire_kit import broker, errors, logs, metrics
from beaconfire_kit.authorization import (
    AUTHORIZE,
    GRANT,
    INBOXES,
    QUEUE,
    AuthorizeReply,
    AuthorizeRequest,
    GrantReply,
    GrantRequest,
    RoomDecision,
)
from beaconfire_kit.backend import ACCESS, PREFIX, Call, subject_of
from beaconfire_kit.consumer import faststream_options
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.roles import Role
from beaconfire_kit.seams.faststream_broker import FastStreamBroker
from beaconfire_kit.subjects import InvalidRoom, Pair, Room, membership_of, parse_room, parse_root
from beaconfire_kit.web import describe

log = logs.get(__name__)

ANSWERED = metrics.Counter(
    "beaconfire_auth_broker_requests_total",
    "Requests that arrived over the broker, by subject and result.",
    ["subject", "result"],
)

WORKERS = 32
"""Requests answered at the same time. One that waits for the projection must not delay the others."""

STOP_S = 1.0
"""How long answers in progress may take when auth stops."""

MAX_NAMED = 10
"""Rooms that a short name may mean, listed in an answer."""

_DENIED = RoomDecision(allowed=False)
R = TypeVar("R", bound=BaseModel)
Handle = Callable[[bytes], Awaitable[bytes]]
"""Reads a request and returns its reply. Raises ValidationError, BeaconfireError."""


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
    ) -> None:
        self._members = members
        self._revocations = revocations
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
            denied = dict.fromkeys(request.rooms, _DENIED)
            return AuthorizeReply(version=standing.version, revoked=True, rooms=denied)
        roles = {**standing.roles, Pair(USER, request.user_id): Role.OWNER}
        grants = await self._grants(request)
        kinds = await self._root_kinds.including({root.kind for root in grants}) if grants else ()
        for root, role in grants.items():
            if root.kind in kinds:
                roles[root] = Role.highest((role, roles.get(root))) or role
        return AuthorizeReply(
            version=standing.version,
            rooms=await self._decide(request.rooms, roles),
            roots={str(root): role for root, role in roles.items() if root.kind == request.roots_of},
        )

    async def _grants(self, request: AuthorizeRequest) -> Mapping[Pair, Role]:
        """Return what the user's token grants and was not revoked since. It is read after the version of the answer."""
        if request.newcomer is None:
            return {}
        claims = await self._outside_users.grants_of(request.user_id, request.newcomer.token)
        if claims is None or not claims.grants:
            return {}
        revoked = await self._revocations.of(request.user_id)
        return {
            root: role
            for root, role in claims.grants.items()
            if root not in revoked or claims.issued_at >= revoked[root].issued_before
        }

    async def _decide(self, names: Sequence[str], roles: Mapping[Pair, Role]) -> dict[str, RoomDecision]:
        """Decide about each room for a user with these roles."""
        decisions, kinds = {}, self._root_kinds.known
        rooms: dict[str, Room] = {}
        for name in names:
            try:
                rooms[name] = parse_room(name)
            except InvalidRoom as error:
                decisions[name] = RoomDecision(allowed=False, impossible=str(error))
        found = await self._decide_among(kinds, rooms, roles)
        unknown = {name: room for name, room in rooms.items() if name not in found}
        if unknown and (newer := await self._root_kinds.look_again()) != kinds:
            kinds, found = newer, found | await self._decide_among(newer, unknown, roles)
        refused = {name: _unknown(room, kinds) for name, room in unknown.items()}
        decisions |= refused | found
        return {name: decisions[name] for name in names}

    async def _decide_among(
        self, known: Collection[str] | None, rooms: Mapping[str, Room], roles: Mapping[Pair, Role]
    ) -> dict[str, RoomDecision]:
        """Decide about the rooms whose root is known, if these are the kinds of roots."""
        # A root stays one for its members if the catalogue no longer declares its kind.
        kinds = {*(known or ()), *(root.kind for root in roles)}
        decisions: dict[str, RoomDecision] = {}
        bare: dict[str, Pair] = {}
        for name, room in rooms.items():
            if room.root is not None and room.root.kind not in kinds:
                continue
            try:
                key = room.key(kinds)
            except InvalidRoom as error:
                decisions[name] = RoomDecision(allowed=False, impossible=str(error))
                continue
            if key is None:
                bare[name] = room.pair
            else:
                decisions[name] = _decision(key.pair, [key.root], roles)
        parents = await self._projection.roots(bare.values())
        shown = {name: pair for name, pair in bare.items() if pair in parents}
        return decisions | {name: _decision(pair, parents[pair], roles) for name, pair in shown.items()}

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


class Rpc:
    """Subscribes to the questions, on a connection of its own, in the queue group that auth's processes share."""

    def __init__(
        self,
        settings: Settings,
        decisions: Decisions,
        service_tokens: ServiceTokens,
        backends: Backends,
        *,
        on_closed: Callable[[], None],
    ) -> None:
        """`on_closed` is called if the connection has ended for good."""
        self._settings = settings
        self._decisions = decisions
        self._service_tokens = service_tokens
        self._backends = backends
        self._on_closed = on_closed
        self._broker: FastStreamBroker | None = None
        self._is_stopping = False

    async def start(self, _nc: Client) -> None:
        """Connect, and answer from now on. Waits for the broker."""
        options = faststream_options(self._settings, "auth-rpc")
        self._broker = rpc = FastStreamBroker(**options, closed_cb=self._closed)

        async def answering(subject: str, message: NatsMessage, handle: Handle) -> None:
            await _reply(rpc, subject, message.raw_message, handle)

        @rpc.subscriber(AUTHORIZE, queue=QUEUE, decoder=_undecoded, no_reply=True, max_workers=WORKERS)
        async def answer_authorize(message: NatsMessage) -> None:
            await answering(AUTHORIZE, message, _handling(AuthorizeRequest, self._decisions.authorize))

        @rpc.subscriber(GRANT, queue=QUEUE, decoder=_undecoded, no_reply=True, max_workers=WORKERS)
        async def answer_grant(message: NatsMessage) -> None:
            await answering(GRANT, message, _handling(GrantRequest, self._decisions.grant))

        @rpc.subscriber(ACCESS, queue=QUEUE, decoder=_undecoded, no_reply=True, max_workers=WORKERS)
        async def answer_access(message: NatsMessage) -> None:
            call = message.raw_message.subject.removeprefix(PREFIX)
            await answering(subject_of(call), message, partial(self._access, call))

        await broker.cancellable(rpc.start())

    async def _access(self, call: str, body: bytes) -> bytes:
        """Answer a backend's call."""
        asked = Call.model_validate_json(body)
        service = await self._service_tokens.shown_by(asked.service_token)
        caller = Caller(service, asked.correlation_id)
        answer = await self._backends.answer(call, json.dumps(asked.request).encode(), caller)
        return json.dumps(answer).encode()

    async def stop(self) -> None:
        """Finish the answers in progress, answer no more, and disconnect."""
        self._is_stopping = True
        if self._broker is None:
            return
        connection = self._broker.nc
        with contextlib.suppress(nats.errors.Error, TimeoutError):  # it drains, and the broker may be away
            async with asyncio.timeout(STOP_S if connection is not None and connection.is_connected else 0):
                await self._broker.stop()
        if connection is not None:
            await broker.close(connection)

    async def _closed(self) -> None:
        if not self._is_stopping:
            log.error("broker connection closed for good")
            self._on_closed()


def _unknown(room: Room, kinds: Collection[str] | None) -> RoomDecision:
    """Decide about a room of which neither the catalogue nor an event shows a root."""
    if room.root is None or kinds is None:
        return _DENIED
    why = f"{room}: {room.root.kind} is not a kind of root in the catalogue"
    return RoomDecision(allowed=False, impossible=why)


def _decision(pair: Pair, candidates: Sequence[Pair], roles: Mapping[Pair, Role]) -> RoomDecision:
    """Decide about a room that may belong to each of these roots."""
    own = [root for root in candidates if root in roles]
    if len(own) > 1:
        # If auth chose one, anyone who invites the user and publishes an event for that id could take the room over.
        return RoomDecision(allowed=False, ambiguous=tuple(f"{root}/{pair}" for root in own[:MAX_NAMED]))
    return RoomDecision(allowed=True, root=str(own[0]), role=roles[own[0]]) if own else _DENIED


def _handling(request: type[R], handle: Callable[[R], Awaitable[BaseModel]]) -> Handle:
    """Return what reads a request of this model and writes its reply."""

    async def read_and_write(body: bytes) -> bytes:
        answer = await handle(request.model_validate_json(body))
        return answer.model_dump_json(exclude_none=True).encode()

    return read_and_write


async def _answer(counted: str, body: bytes, handle: Handle) -> bytes:
    """Return the bytes of the reply, whatever happens."""
    try:
        answer = await handle(body)
        ANSWERED.labels(counted, "answered").inc()
        return answer
    except ValidationError as error:
        refusal = BeaconfireError(errors.BAD_REQUEST, describe(error))
    except BeaconfireError as error:
        refusal = error
    except Exception:
        log.exception("could not answer", subject=counted)
        refusal = BeaconfireError(errors.INTERNAL, "something went wrong in auth, see its log")
    ANSWERED.labels(counted, refusal.code.code).inc()
    return json.dumps({"error": refusal.body()}).encode()


async def _reply(broker: FastStreamBroker, subject: str, message: Msg, handle: Handle) -> None:
    """Answer a request at the inbox that it names. Any other message on the subject is only counted.

    Anyone who may create a consumer can have messages of the stream delivered here. Anyone who may ask can name any
    subject for the answer, even one of the stream. The answer repeats no header of the request: see SECURITY.md.
    """
    counted = ACCESS if subject.startswith(PREFIX) else subject
    if not _is_request(message, subject):
        ANSWERED.labels(counted, "no_request").inc()
        log.warning("ignored a message that is not a request", subject=message.subject[:200], reply=message.reply[:200])
        return
    answer = await _answer(counted, message.data, handle)
    assert broker.nc is not None, "a request arrived, so there is a connection"
    try:
        await broker.nc.publish(message.reply, answer)
    except nats.errors.Error as error:
        log.warning("could not send an answer", subject=subject, error=type(error).__name__)


def _is_request(message: Msg, subject: str) -> bool:
    """Return whether it was sent to this subject itself, asks for an answer at an inbox, and is not from a stream."""
    is_stored = any(name.lower().startswith("nats-") for name in message.headers or ())
    return message.subject == subject and message.reply.startswith(INBOXES) and not is_stored


async def _undecoded(message: NatsMessage) -> NatsMessage:
    """Return the message as it came. FastStream's own decoding would leave a malformed request without an answer."""
    return message
