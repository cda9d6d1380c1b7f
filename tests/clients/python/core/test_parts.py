"""The small parts of the core: pace, pauses, presence, waiting for one's own change, sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_client.core.actions import Sighted
from beaconfire_client.core.backoff import Backoff, cap_s
from beaconfire_client.core.cursor import Cursor, earlier
from beaconfire_client.core.pace import Allowance
from beaconfire_client.core.roster import Roster
from beaconfire_client.core.sightings import REMEMBERED, Sightings
from beaconfire_client.core.sizes import in_lists
from beaconfire_client.core.timers import Timers
from beaconfire_client.core.ways import Ways


@given(chance=st.floats(0, 1, exclude_max=True), number=st.integers(0, 10_000))
def test_pause_is_random_up_to_a_maximum_that_doubles(chance: float, number: int) -> None:
    backoff = Backoff(lambda: chance, last_cap_s=32, max_attempts=None)
    for _ in range(min(number, 50)):
        backoff.next_s()

    assert 0 <= backoff.next_s() <= min(32, 2 ** min(number, 50))
    assert cap_s(number) <= 32


@given(per_minute=st.integers(1, 1000), takes=st.lists(st.integers(1, 20), max_size=50))
def test_allowance_is_never_exceeded_if_one_waits_as_long_as_it_says(per_minute: int, takes: list[int]) -> None:
    """In each minute, no more is taken than one minute allows, and what one minute refills."""
    now = [0.0]
    allowance = Allowance(Timers(lambda: now[0]), per_minute)
    taken = 0
    for take in takes:
        count = min(take, per_minute)
        now[0] += allowance.wait_s(count)
        allowance.take(count)
        taken += count

        assert taken <= per_minute + now[0] * per_minute / 60 + 1e-6


@given(costs=st.lists(st.integers(1, 50)), spare=st.integers(10, 200), most=st.integers(1, 10))
def test_things_are_split_in_order_below_both_bounds(costs: list[int], spare: int, most: int) -> None:
    lists = in_lists(costs, lambda cost: cost, spare, most=most)

    assert [one for some in lists for one in some] == costs
    assert all(0 < len(some) <= most for some in lists)
    assert all(sum(some) <= spare or len(some) == 1 for some in lists)


def test_users_are_replaced_joined_changed_and_gone() -> None:
    roster = Roster()
    roster.take({"count": 2, "users": [_user("u1"), _user("u2")]})
    roster.take({"count": 2, "joined": [_user("u3")], "changed": [_user("u2", "away")], "left": ["u1"]})
    changed = roster.here
    roster.take({"count": 1, "users": [_user("u9")]})

    assert {user.user_id: user.status for user in changed.users.values()} == {"u2": "away", "u3": "online"}
    assert set(roster.here.users) == {"u9"}


def test_user_who_was_not_heard_for_seven_seconds_no_longer_types() -> None:
    roster = Roster()
    roster.types("u1", is_typing=True, now=0)
    roster.types("u2", is_typing=True, now=5)
    roster.forget_silent(now=7)

    assert roster.typing == {"u2"}


def _user(user_id: str, status: str = "online") -> dict[str, object]:
    return {"userId": user_id, "status": status, "devices": 1}


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [("e:1", "e:2", "e:1"), ("e:2", "e:1", "e:1"), ("old:9", "e:1", "old:9"), ("e:1", "old:9", "old:9")],
)
def test_cursor_that_serves_both_is_the_lower_one_or_that_of_another_epoch(one: str, other: str, wanted: str) -> None:
    assert str(earlier(Cursor.parse(one), Cursor.parse(other), "e")) == wanted


@pytest.mark.parametrize("text", ["", "12", "e:", "e:x", ":1", "e:12345678901234567", 5, None])
def test_text_that_is_no_cursor_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="Not a cursor"):
        Cursor.parse(text)


def test_change_that_may_be_among_what_was_missed_is_not_waited_for() -> None:
    """A place in the current epoch still comes: everything up to it is applied or was told."""
    told: list[object] = []
    sightings = Sightings(Timers(lambda: 0.0), lambda _mark: False, told.append)
    of_id, of_place = sightings.wait("an-id", 60), sightings.wait("e:100", 60)
    sightings.skipped("e")

    assert [(one.sighting, one.code) for one in told if isinstance(one, Sighted)] == [(of_id, "resync")]
    assert of_place != of_id


def test_event_that_came_before_it_was_waited_for_is_seen_at_once_unless_it_is_long_ago() -> None:
    told: list[object] = []
    sightings = Sightings(Timers(lambda: 0.0), lambda _mark: False, told.append)
    for number in range(REMEMBERED + 1):
        sightings.note(f"e{number}")
    recent, _old = sightings.wait(f"e{REMEMBERED}", 60), sightings.wait("e0", 60)

    assert [one.sighting for one in told if isinstance(one, Sighted)] == [recent]


def test_websocket_that_worked_is_given_up_only_after_two_attempts() -> None:
    """More likely, the gateway is away."""
    ways = Ways("auto")
    ways.worked("websocket")
    first = ways.after("websocket")
    ways.failed("websocket")
    ways.failed("websocket")

    assert first is None
    assert (ways.first, ways.after("websocket")) == ("websocket", "sse")
    assert (ways.is_second_best("poll"), Ways("sse").is_second_best("sse")) == (True, False)
