"""How many rooms a session and its user may be in. No I/O."""

from collections.abc import Mapping
from typing import TypeAlias

from beaconfire_gateway.sessions.limits import LIMITED, LimitReached
from beaconfire_gateway.sessions.session import Session
from beaconfire_gateway.sessions.subscription import Subscription
from beaconfire_kit.errors import BeaconfireError

Decisions: TypeAlias = Mapping[str, Subscription | BeaconfireError]
"""A subscription or a refusal for each room, by the requested name."""


def within_limits(session: Session, decisions: Decisions) -> Decisions:
    """Return the decisions, with a refusal for each new room that would exceed a limit. The first rooms are let in."""
    others = [one for one in session.gateway.hub.sessions_of(session.user_id) if one is not session]
    elsewhere = sum(len(one.rooms) for one in others)
    held = set(session.rooms)
    answers: dict[str, Subscription | BeaconfireError] = {}
    for name, decision in decisions.items():
        answers[name] = decision
        if isinstance(decision, BeaconfireError) or name in held:
            continue
        if (reached := _reached(session, len(held), elsewhere)) is None:
            held.add(name)
        else:
            LIMITED.labels(reached.limit).inc()
            answers[name] = reached
    return answers


def _reached(session: Session, here: int, elsewhere: int) -> LimitReached | None:
    """The limit that one more room would exceed. The user's other sessions are in `elsewhere` rooms."""
    limits = session.gateway.limits
    if here >= limits.max_rooms:
        return LimitReached("held_rooms", f"a connection may be in {limits.max_rooms} rooms")
    if here + elsewhere >= limits.max_rooms_per_user:
        text = f"a user may be in {limits.max_rooms_per_user} rooms, over all connections"
        return LimitReached("user_held_rooms", text)
    return None
