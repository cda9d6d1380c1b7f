"""Judge why a user did, or did not, get an event: step by step, with a verdict. No I/O.

    answer = explain(evidence)
    answer.verdict, answer.says        # "not_a_member", "The user was never a member of campaign:c1."

A gateway writes nothing down for an event (docs/adr/0084), so some things cannot be known later. The answer says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from beaconfire.evidence import Change, Evidence, Row, SessionSeen
from beaconfire_kit.broker import ANCHOR, CATALOGUE, TICK

Delivered = Literal["yes", "no", "later", "unknown"]

VERDICTS: Mapping[str, Delivered] = {
    "delivered": "yes",
    "delivered_later": "yes",
    "waits_in_outbox": "later",
    "still_to_come": "later",
    "refused_by_broker": "no",
    "set_aside": "no",
    "no_event": "no",
    "aged_out": "no",
    "never_a_member": "no",
    "member_later": "no",
    "removed_before": "no",
    "revoked": "no",
    "other_audience": "no",
    "other_types": "no",
    "other_rooms": "no",
    "joined_later": "no",
    "resynced": "no",
    "conflated": "unknown",
    "not_connected": "unknown",
    "removed_since": "unknown",
    "forgotten": "unknown",
    "not_found": "unknown",
}
"""What each verdict says about the delivery. `later`: it is on its way. `unknown`: it cannot be known."""

EXIT_CODES: Mapping[Delivered, int] = {"yes": 0, "no": 3, "later": 4, "unknown": 5}

_ORDER = (
    "delivered",
    "delivered_later",
    "still_to_come",
    "conflated",
    "resynced",
    "forgotten",
    "joined_later",
    "other_audience",
    "other_types",
    "other_rooms",
)
"""Verdicts about single sessions: the best one counts for the user."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was checked. `ok` is None if it neither helps nor hinders, or could not be seen."""

    name: str
    ok: bool | None
    says: str


@dataclass(frozen=True, slots=True)
class OfSession:
    """What one session of the user got of the event."""

    session_id: str
    gateway: str
    worker: int | None
    verdict: str
    says: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Why a user did, or did not, get an event."""

    verdict: str
    says: str
    advice: str
    steps: Sequence[Step]
    sessions: Sequence[OfSession]

    @property
    def delivered(self) -> Delivered:
        return VERDICTS[self.verdict]


@dataclass(frozen=True, slots=True)
class _Verdict:
    code: str
    says: str
    advice: str = ""


def explain(found: Evidence) -> Answer:
    """Explain what happened to an event on its way to a user."""
    steps: list[Step] = []
    sessions = [_of_session(found, one) for one in found.sessions] if found.rooms and found.offset else []
    verdict = _before_gateways(found, steps)
    if found.rooms:
        steps.append(_rooms_step(found))
        steps += _member_steps(found)
        if found.offset is not None:
            steps.append(_sessions_step(found, sessions))
        verdict = verdict or _at_gateways(found, sessions)
    if verdict is None:
        verdict = _Verdict("no_event", f"{found.subject!r} is not the subject of an event, so no client gets it.")
    return Answer(verdict.code, verdict.says, verdict.advice, steps, sessions)


def describe(found: Evidence) -> Sequence[Step]:
    """Return the steps of an event until gateways have it, and its rooms."""
    steps: list[Step] = []
    _before_gateways(found, steps)
    if found.rooms:
        steps.append(_rooms_step(found))
    return steps


# Until a gateway has it.


def _before_gateways(found: Evidence, steps: list[Step]) -> _Verdict | None:
    """Follow the event from its row to the stream and the check of the gateways. None: it got through."""
    steps.append(_written_step(found))
    row = found.row
    if row is not None and row.written.refused is not None:
        return _Verdict(
            "refused_by_broker",
            f"The broker refused the event: {row.written.refused}.",
            f"Fix the cause, then run `beaconfire outbox {row.service} --resend {row.written.event_id}`.",
        )
    if row is not None and row.written.published_at is None:
        return _Verdict(
            "waits_in_outbox", f"The event waits in the outbox of {row.service}. {_queue(row)}.", _LOOK_THERE
        )
    steps.append(_stored_step(found))
    if found.offset is None or (found.message is None and found.offset > found.stream.last):
        return _Verdict("not_found", _not_found(found), _FIND_IT)
    if found.message is None:
        return _gone(found)
    if found.subject in _OURS:
        return _Verdict("no_event", f"Offset {found.offset} is {_OURS[found.subject]}, which no client gets.")
    steps.append(_accepted_step(found))
    reason = _refusal(found)
    if reason is not None:
        return _Verdict(
            "set_aside",
            f"Gateways set the event aside, because it is invalid: {reason}.",
            "Correct the publisher or the catalogue. `beaconfire deadletters` shows the event.",
        )
    return None


_OURS = {
    TICK: "a tick, by which gateways check the stream",
    ANCHOR: "an anchor, by which gateways see what the stream still has",
    CATALOGUE: "the marker of a change of the catalogue",
}
_LOOK_THERE = "`beaconfire outbox` lists what waits. `/readyz` of the service says why the broker does not take it."
_FIND_IT = (
    "Search the services' logs for the id: a change that failed wrote no event. Ephemeral events are stored nowhere."
)


def _written_step(found: Evidence) -> Step:
    row = found.row
    if row is None:
        if not found.outboxes:
            return Step("written", None, "No outbox was searched")
        says = f"No outbox ({', '.join(found.outboxes)}) has the event. A program may have published it onto the broker"
        return Step("written", None, says)
    written = row.written
    if written.refused is not None:
        return Step("written", False, f"By {row.service}, {_at(written.created_at)}. The broker refused it")
    if written.published_at is None:
        return Step("written", False, f"By {row.service}, {_at(written.created_at)}. {_queue(row)}")
    took_s = (written.published_at - written.created_at).total_seconds()
    return Step("written", True, f"By {row.service}, {_at(written.created_at)}, and sent {took_s:.1f} s later")


def _queue(row: Row) -> str:
    written = row.written
    if not written.ahead:
        return "It is the first of its root, so the broker has not taken it yet"
    waiting = "1 event of its root waits" if written.ahead == 1 else f"{written.ahead} events of its root wait"
    return f"{waiting} before it; the first is {written.first_ahead}"


def _stored_step(found: Evidence) -> Step:
    stream = found.stream
    if found.message is not None:
        return Step("stored", True, f"At offset {found.offset} of the stream, {_at(found.message.stored_at)}")
    if found.offset is None:
        where = "" if found.searched_from is None else f" from offset {found.searched_from} to {stream.last}"
        return Step("stored", False, f"The stream has no event with this id{where}")
    if found.offset > stream.last:
        return Step("stored", False, f"The stream ends at offset {stream.last}")
    if found.offset < stream.first:
        return Step("stored", False, f"It left the stream, which begins at offset {stream.first} now (by age or size)")
    return Step("stored", False, "The stream no longer has it: it was erased, or was a tick that has expired")


def _not_found(found: Evidence) -> str:
    if found.offset is not None:
        return f"There is no event at offset {found.offset} yet: the stream ends at {found.stream.last}."
    if found.searched_from is not None and found.searched_from > found.stream.first:
        return (
            f"No event with the id {found.asked} was found, and offsets below {found.searched_from} were not searched."
        )
    return f"No event with the id {found.asked} was found. It was never stored, or has left the stream."


def _gone(found: Evidence) -> _Verdict | None:
    """Return the verdict about an event that the stream no longer has, unless a session still shows what it got."""
    if found.rooms and found.sessions:
        return None
    return _Verdict(
        "aged_out",
        "The stream no longer has the event, so no client can get it any more. What sessions got of it before "
        "cannot be known.",
        "A client that comes back from before it is told to load its state again (`resync`).",
    )


def _accepted_step(found: Evidence) -> Step:
    reason = _refusal(found)
    if reason is not None:
        return Step("accepted", False, f"Gateways set it aside: {reason}")
    if found.opinion is None:
        return Step("accepted", None, "No dead letter is about it; no gateway could be asked")
    return Step("accepted", True, f"A valid {found.type}, version {found.event.get('version')}")


def _refusal(found: Evidence) -> str | None:
    if found.letter is not None:
        return f"{found.letter.reason}, {found.letter.detail}"
    if found.opinion is not None and found.opinion.get("isValid") is False:
        return f"{found.opinion.get('reason')}, {found.opinion.get('detail')}"
    return None


def _rooms_step(found: Evidence) -> Step:
    rooms = " and ".join(map(str, found.rooms))
    roles = "all roles" if found.audience is None else f"only {' and '.join(found.audience)}"
    return Step("rooms", None, f"It goes to {rooms}, for {roles}")


# May the user hear it?


@dataclass(frozen=True, slots=True)
class _Standing:
    """The user's membership at some moment. `role` None: no member. `is_known` False: it cannot be known."""

    role: str | None
    is_known: bool = True


def _now(found: Evidence) -> _Standing:
    """Return the role that opens the event's rooms for the user now, by membership or by an authorizer."""
    decisions = found.user["rooms"]
    decided = [decisions[str(room)] for room in found.rooms if str(room) in decisions]
    roles = [one["role"] for one in decided if one["allowed"]]
    if roles:
        return _Standing(str(roles[0]))
    return _Standing(None, is_known=not any(one.get("unavailable") for one in decided))


def _then(found: Evidence) -> _Standing:
    """Return the role that the user had when the event was stored."""
    now, offset = _now(found), found.offset
    if found.root == f"user:{found.user['userId']}":
        return _Standing("owner")
    if offset is None:
        return now
    before = [one for one in found.history if one.offset <= offset]
    if before:
        return _Standing(before[-1].role)
    if not found.history:  # nothing has changed for as long as the stream reaches back
        by_membership = found.root in found.user["roots"] or now.role is None
        return now if by_membership and offset >= found.stream.first else _Standing(None, is_known=False)
    return _Standing(None, is_known=found.stream.first <= 1)


def _member_steps(found: Evidence) -> Iterator[Step]:
    then, now = _then(found), _now(found)
    changes = "; ".join(_change(one) for one in found.history[-4:])
    changes = f". Its membership: {changes}" if changes else ""
    says = _role_in(found, then.role, "was") if then.is_known else _UNKNOWN_ROLE
    yield Step("member then", then.role is not None if then.is_known else None, f"{says}{changes}")
    yield Step("member now", now.role is not None if now.is_known else None, _role_in(found, now.role, "is"))
    for one in found.revocations[-2:]:
        what = f"what was granted in {one.root}" if one.root else "all tokens of the user"
        if one.reason == "disconnected":
            yield Step(
                "revoked", None, f"All connections of the user were closed at offset {one.offset}, {_at(one.at)}"
            )
        else:
            yield Step("revoked", None, f"At offset {one.offset}, {_at(one.at)}, {what} became invalid ({one.reason})")


_UNKNOWN_ROLE = (
    "It is not known whether the user was a member: the stream does not reach back so far, or the role came from a "
    "token or an authorizer"
)


def _role_in(found: Evidence, role: str | None, verb: str) -> str:
    return f"The user {verb} {role} of {found.root}" if role else f"The user {verb} no member of {found.root}"


def _change(change: Change) -> str:
    what = "removed" if change.role is None else f"made {change.role}"
    return f"{what} at offset {change.offset}, {_at(change.at)}"


# What its sessions got.


def _sessions_step(found: Evidence, sessions: Sequence[OfSession]) -> Step:
    if not found.processes:
        return Step("sessions", None, "No gateway could be asked")
    if not sessions:
        return Step("sessions", None, "The user has no connection now")
    count = "1 connection" if len(sessions) == 1 else f"{len(sessions)} connections"
    return Step("sessions", any(VERDICTS[one.verdict] == "yes" for one in sessions), f"The user has {count} now")


def _at_gateways(found: Evidence, sessions: Sequence[OfSession]) -> _Verdict:
    """Return the verdict about an event that gateways had."""
    best = min(sessions, key=lambda one: _ORDER.index(one.verdict), default=None)
    if best is not None and best.verdict in ("delivered", "delivered_later", "still_to_come"):
        return _Verdict(best.verdict, best.says, _ADVICE.get(best.verdict, ""))
    if (barred := _barred(found)) is not None:
        return barred
    if best is None:
        return _without_session(found)
    if found.message is None:
        return _Verdict("aged_out", f"The stream no longer has the event. {best.says}")
    return _Verdict(best.verdict, best.says, _ADVICE.get(best.verdict, ""))


_ADVICE = {
    "delivered": "If the page does not show it, look at the page: its handlers, and its cache.",
    "delivered_later": "If the page does not show it, look at the page: its handlers, and its cache.",
    "other_audience": "Give the user a role of the audience, or publish the event for more roles.",
    "other_types": "Let the client subscribe without `types`, or name this type in them.",
    "other_rooms": "Let the client subscribe to one of the event's rooms.",
    "joined_later": "Let the client load the room's state, and subscribe with the cursor of that state.",
    "resynced": "Let the client load its state again on `resync`, as clients have to.",
}


def _barred(found: Evidence) -> _Verdict | None:
    """Return why the user could not hear the event at all, if that is known."""
    then, now, offset = _then(found), _now(found), found.offset or 0
    invite = f"`beaconfire member put {found.root} {found.user['userId']}` makes the user a member."
    if not then.is_known:
        return None
    if then.role is None:
        removal = next((one for one in reversed(found.history) if one.offset <= offset and one.role is None), None)
        joined = next((one for one in found.history if one.offset > offset and one.role is not None), None)
        if joined is not None:
            return _Verdict(
                "member_later",
                f"The user became a member of {found.root} only after the event ({_change(joined)}).",
                "Members see older changes when their client loads the state.",
            )
        if removal is not None:
            return _Verdict(
                "removed_before", f"The user was no member of {found.root} any more: {_change(removal)}.", invite
            )
        return _Verdict("never_a_member", f"The user was no member of {found.root}, and is none.", invite)
    if found.audience is not None and then.role not in found.audience:
        audience = " and ".join(found.audience)
        return _Verdict(
            "other_audience",
            f"The event is for {audience}, and the user was {then.role} of {found.root}.",
            _ADVICE["other_audience"],
        )
    revoked = next((one for one in reversed(found.revocations) if one.reason != "disconnected"), None)
    if now.role is None and now.is_known and found.history:
        return _Verdict(
            "removed_since",
            f"The user was a member when the event came, and was removed later ({_change(found.history[-1])}). "
            "What the sessions got before that was not written down.",
            invite,
        )
    if revoked is not None and revoked.root in (None, found.root) and not found.sessions and revoked.offset <= offset:
        return _Verdict(
            "revoked",
            f"The user's access was revoked before the event, at offset {revoked.offset}, {_at(revoked.at)}, "
            "and no client of the user has connected since, or it has left again.",
            "The user has to sign in again.",
        )
    return None


def _without_session(found: Evidence) -> _Verdict:
    if not found.processes:
        return _Verdict(
            "not_connected",
            "No gateway could be asked, so it cannot be known what the user's clients got.",
            "Name the gateways with --gateway-ops.",
        )
    if found.message is None:
        return _Verdict("aged_out", "The stream no longer has the event, and the user has no connection now.")
    return _Verdict(
        "not_connected",
        "The user has no connection now. What earlier connections got was not written down. A client that comes back "
        "from before the event gets it, as long as the stream has it.",
        "The gateways' logs have `connected` and `disconnected` with the user's id.",
    )


def _of_session(found: Evidence, seen: SessionSeen) -> OfSession:
    code, says = _judged(found, seen)
    if code == "delivered" and _is_replaceable(found):
        code, says = "conflated", _conflated(found)
    return OfSession(
        session_id=str(seen.session["sessionId"]),
        gateway=seen.gateway,
        worker=seen.session.get("worker"),
        verdict=code,
        says=says,
    )


def _judged(found: Evidence, seen: SessionSeen) -> tuple[str, str]:
    """Return the verdict about one session, and a sentence."""
    session = seen.session
    names = set(map(str, found.rooms))
    inside = [room for room in session["rooms"] if room["room"] in names]
    if not inside:
        rooms = ", ".join(room["name"] for room in session["rooms"][:8]) or "no room"
        return "other_rooms", f"Its client is not subscribed to {' or '.join(map(str, found.rooms))}, but to {rooms}."
    allowed = [one for one in inside if found.audience is None or one["role"] in found.audience]
    if not allowed:
        roles = " and ".join(sorted({one["role"] for one in inside}))
        return "other_audience", f"The event is for {' and '.join(found.audience or ())}, and the session is {roles}."
    wanting = [one for one in allowed if one["types"] is None or found.type in one["types"]]
    if not wanting:
        types = ", ".join(sorted({type_ for one in allowed for type_ in one["types"]}))
        return "other_types", f"Its client wants only {types}, and the event is {found.type}."
    judged = (_placed(found, seen, one) for one in wanting)
    return min(judged, key=lambda one: _ORDER.index(one[0]))


def _placed(found: Evidence, seen: SessionSeen, room: Mapping[str, Any]) -> tuple[str, str]:
    """Compare the event's offset with what the session was given of a room that hears it."""
    session, offset, name = seen.session, found.offset or 0, room["name"]
    began: Sequence[Mapping[str, Any]] = room["began"]
    if offset > session["offset"]:
        state = {"held": "waits until auth has said what it may hear", "catching_up": "is catching up"}
        doing = state.get(session["state"], f"waits for its gateway ({seen.process.get('status', 'unknown')})")
        return "still_to_come", f"It is still to come: the session is at offset {session['offset']}, and {doing}."
    if not began:
        return "forgotten", f"The gateway no longer knows since when the session hears {name}."
    if (reload := next((one for one in began if one["how"] == "resync" and one["after"] >= offset), None)) is not None:
        return (
            "resynced",
            f"Its client could not be given everything, and was told at offset {reload['after']} to load its state "
            "again (`resync`). That state has the change; the event itself may not have been sent.",
        )
    if all(one["after"] >= offset for one in began):
        return "joined_later", f"Its client joined {name} only after the event, at offset {began[0]['after']}."
    late = next((one for one in began if one["how"] != "joined" and one["after"] < offset <= one["position"]), None)
    if late is not None:
        return "delivered_later", f"Its client was away, came back from offset {late['after']}, and was sent it then."
    return "delivered", f"It was sent to the session, in {name}."


def _is_replaceable(found: Evidence) -> bool:
    """Whether a later event may have taken its place, because its type is conflated."""
    window_ms = (found.opinion or {}).get("windowMs")
    if window_ms is None or found.message is None or found.next_on_subject is None:
        return False
    passed = found.next_on_subject.stored_at - found.message.stored_at
    return passed <= timedelta(milliseconds=window_ms)


def _conflated(found: Evidence) -> str:
    later = found.next_on_subject
    assert later is not None
    return (
        f"{found.type} is conflated: of events that come fast, a client gets the first and the latest. "
        f"Offset {later.offset} came on the same subject, {_at(later.stored_at)}, so this one may have been left out."
    )


# Words.


def _at(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
