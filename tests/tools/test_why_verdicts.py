"""The verdicts of `beaconfire why` that no test can bring about without waiting: they follow from what was found."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from beaconfire.evidence import Change, Evidence, SessionSeen
from beaconfire.stream_search import Message, event_of
from beaconfire.why import EXIT_CODES, VERDICTS, explain
from beaconfire_kit.broker import StreamState

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
JOINED = {"how": "joined", "after": 90, "position": 90}
RESYNC = {"how": "resync", "after": 120, "position": 120}


def message(offset: int, at: datetime = AT) -> Message:
    body = json.dumps(
        {"id": f"e{offset}", "type": "cursor_moved", "version": 1, "payload": {}, "metadata": {}}
    ).encode()
    return Message(offset, "campaign.c1.map.m1", at, body, f"e{offset}", event_of(body))


def seen(*, offset: int = 110, state: str = "live", began: Sequence[dict[str, Any]] = (JOINED,)) -> Evidence:
    """Evidence about the event at offset 100 and a viewer with one session, which hears its room."""
    room = {"name": "campaign:c1", "room": "campaign:c1", "role": "viewer", "types": None, "began": list(began)}
    session = {"sessionId": "s1", "offset": offset, "state": state, "rooms": [room]}
    allowed = {"allowed": True, "role": "viewer"}
    return Evidence(
        asked="100",
        user={"userId": "u1", "roots": {"campaign:c1": "viewer"}, "rooms": {"campaign:c1": allowed}},
        stream=StreamState("ep", 1, 150, 0.0),
        offset=100,
        message=message(100),
        opinion={"isValid": True, "windowMs": None},
        processes=[{"gateway": "g1"}],
        sessions=[SessionSeen("g1", {}, session)],
        history=[Change(50, AT, "viewer")],
    )


def conflated(after: timedelta) -> Evidence:
    """The next event on the subject comes this much later, and the type is conflated for 100 ms."""
    return replace(seen(), opinion={"isValid": True, "windowMs": 100}, next_on_subject=message(101, AT + after))


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (seen(), "delivered"),
        (seen(offset=80, state="catching_up"), "still_to_come"),
        (seen(offset=80, state="held"), "still_to_come"),
        (seen(began=()), "forgotten"),
        (seen(began=(JOINED, RESYNC)), "resynced"),
        (conflated(timedelta(milliseconds=40)), "conflated"),
        (conflated(timedelta(milliseconds=400)), "delivered"),
        (replace(seen(), sessions=()), "not_connected"),
        (replace(seen(), sessions=(), processes=()), "not_connected"),
        (replace(seen(), message=None, sessions=()), "aged_out"),
    ],
)
def test_the_verdict_follows_from_what_was_found(evidence: Evidence, verdict: str) -> None:
    answer = explain(evidence)

    assert answer.verdict == verdict
    assert answer.says.endswith(".")
    assert VERDICTS[verdict] in EXIT_CODES


def test_a_role_from_a_token_or_an_authorizer_is_not_taken_for_no_membership() -> None:
    by_authorizer = {**seen().user, "roots": {}}

    answer = explain(replace(seen(began=()), user=by_authorizer, history=()))

    assert "not known whether the user was a member" in str(answer.steps)
    assert answer.verdict == "forgotten"
