"""What a gateway remembers of the subscriptions of long polls."""

from beaconfire_gateway.sessions.continuations import KEEP_S, Continuations
from beaconfire_gateway.sessions.limits import LimitReached, Limits, UserAllowance

ROOMS = {"campaign:c1": None, "user:u1": ("b", "a")}
REFUSED = frozenset({("campaign:c2", "forbidden")})


def test_subscription_is_found_by_user_rooms_and_types_in_any_order() -> None:
    known = Continuations()
    known.note("u1", ROOMS, REFUSED, now=0.0)

    assert known.find("u1", {"user:u1": ["a", "b"], "campaign:c1": None}, now=1.0) == REFUSED
    assert known.find("u2", ROOMS, now=1.0) is None
    assert known.find("u1", {"campaign:c1": None}, now=1.0) is None
    assert known.find("u1", {**ROOMS, "user:u1": None}, now=1.0) is None
    assert known.find("u1", {**ROOMS, "user:u1": ("a",)}, now=1.0) is None


def test_subscription_is_forgotten_two_minutes_after_its_last_poll() -> None:
    known = Continuations()
    known.note("u1", ROOMS, REFUSED, now=0.0)
    known.note("u1", ROOMS, frozenset(), now=KEEP_S - 1)

    assert known.find("u1", ROOMS, now=KEEP_S + 1) == frozenset()
    assert known.find("u1", ROOMS, now=2 * KEEP_S) is None
    known.note("u2", ROOMS, frozenset(), now=2 * KEEP_S)
    assert len(known) == 1


def test_number_of_remembered_subscriptions_is_bounded() -> None:
    known = Continuations(most=3)
    for number in range(10):
        known.note(f"u{number}", ROOMS, frozenset(), now=float(number))

    assert len(known) == 3
    assert [known.find(f"u{number}", ROOMS, now=10.0) is not None for number in range(6, 10)] == [
        False,
        True,
        True,
        True,
    ]


def test_user_may_poll_five_times_a_second_for_each_connection_that_it_may_have() -> None:
    allowance = UserAllowance(Limits(max_sessions_per_user=2))
    granted = 0
    try:
        while True:
            allowance.spend_poll(now=0.0)
            granted += 1
    except LimitReached as reached:
        refused = reached

    assert granted == 2 * 300
    assert (refused.limit, refused.message) == ("user_polls", "a user may poll 600 times a minute")
    allowance.spend_poll(now=0.1 + (refused.retry_after_ms or 0) / 1000)
    allowance.spend_message(now=0.0)
