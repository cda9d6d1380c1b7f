"""Prepare the start of a session: its place in the stream, its event types, and its place among other connections.

A new client's session takes these steps (`requests`), and so does a session that comes from another process (`moving`).
No I/O.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from beaconfire_gateway.fanout.wanted_types import select
from beaconfire_gateway.sessions.limits import LimitReached
from beaconfire_gateway.sessions.room_limits import Decisions
from beaconfire_gateway.sessions.session import Session, State
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_gateway.wire.messages import Connect
from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.errors import BeaconfireError


def narrowed(decisions: Decisions, wanted: Mapping[str, Sequence[str]], catalogue: Catalogue) -> Decisions:
    """Return the decisions, each with the wanted event types of its room. An unknown type makes it a refusal."""
    if not wanted:
        return decisions

    def narrow(name: str, decision: Subscription | BeaconfireError) -> Subscription | BeaconfireError:
        if isinstance(decision, BeaconfireError):
            return decision
        try:
            return replace(decision, types=select(wanted.get(name), catalogue))
        except BeaconfireError as error:
            return error

    return {name: narrow(name, decision) for name, decision in decisions.items()}


async def reach(session: Session, cursor: str | None) -> None:
    """Wait until this gateway has reached a cursor that another one gave, unless the stream itself ends below it.

    The deadline for `connect` bounds it. A `subscribe` waits as long as the broker is away.
    """
    gateway = session.gateway
    offset = gateway.read_cursor(cursor)
    if offset is None or offset <= gateway.position:
        return
    end = await gateway.history.end()
    # The epoch may change while we wait.
    while session.state is not State.CLOSED and gateway.position < (gateway.read_cursor(cursor) or 0) <= end:
        await gateway.waiters.wait(session, offset)


async def make_room(session: Session, user_id: str, request: Connect) -> bool:
    """Drop dead connections until there is room for this one. Returns whether it had to wait for that.

    A returning client must not be refused because of connections that it lost. So this waits if a limit is reached, but
    not again for some seconds. Living connections stay.
    """
    gateway = session.gateway
    while session.state is State.CONNECTING and (crowd := _crowd(session, user_id, request)) is not None:
        name, find = crowd
        if await gateway.probes.probe(session, name, find):
            return True
        if not gateway.probes.drop_one(name):
            return False
    return False


def spend_start(session: Session, user_id: str, request: Connect) -> None:
    """Count the start of a session, which may still be refused. Raises LimitReached if the user starts too many."""
    allowance, now = session.gateway.users.of(user_id), time.monotonic()
    if session.continues(user_id, request):
        allowance.spend_poll(now)
        return
    allowance.spend_message(now)
    if find_replaced(session, user_id, request) is None:
        allowance.spend_rooms(len(request.rooms), now)


def check_places(session: Session, user_id: str, replaced: Session | None) -> None:
    """Raises LimitReached if the user or the address may not have one more connection, besides the one it replaces."""
    gateway = session.gateway
    mine = gateway.hub.sessions_of(user_id)
    limit = gateway.limits.max_sessions_per_user
    if len(mine) - (replaced is not None) >= limit:
        raise LimitReached("sessions", f"a user may have {limit} connections")
    if not session.connection.is_connected:
        gateway.door.check(session.address, replaced=None if replaced is None else replaced.address)


def find_replaced(session: Session, user_id: str, request: Connect) -> Session | None:
    """The session that this one takes over from. It must be the user's own, and here; any other name is ignored."""
    mine = session.gateway.hub.sessions_of(user_id)
    return next((one for one in mine if one.id == request.replaces), None)


def _crowd(session: Session, user_id: str, request: Connect) -> tuple[str, Callable[[], Sequence[Session]]] | None:
    """The sessions of its user or of its address that leave no room for one more, and a name for them."""
    gateway, limits = session.gateway, session.gateway.limits
    replaced = find_replaced(session, user_id, request)
    mine = [one for one in gateway.hub.sessions_of(user_id) if one is not replaced]
    held = sum(len(one.rooms) for one in mine)
    if len(mine) >= limits.max_sessions_per_user or (held and held + len(request.rooms) > limits.max_rooms_per_user):
        return f"user {user_id}", lambda: mine
    address = session.address
    if not session.connection.is_connected and gateway.door.is_full(
        address, replaced=None if replaced is None else replaced.address
    ):
        others = (one for one in gateway.hub.all_sessions() if one.address == address and one is not replaced)
        return f"address {address}", lambda: list(others)
    return None
