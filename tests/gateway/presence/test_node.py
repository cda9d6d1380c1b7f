"""Who is here, over many gateways: grace, ghosts, gaps and costs."""

import random

import pytest

from beaconfire_gateway.presence.messages import Changes, InvalidSaying, Part, Share, split
from beaconfire_gateway.presence.own import GRACE_S
from beaconfire_gateway.presence.peers import SILENT_S
from beaconfire_gateway.presence.roster import Roster
from beaconfire_gateway.presence.view import MAX_PAUSE_S, PAUSE_S, SAMPLE, View
from beaconfire_gateway.wire.messages import Person, Status
from tests.gateway.presence.nodes import STEP_S, Cluster

ROOM = "campaign:c1"
ONLINE = Share(1, Status.ONLINE)


def both() -> tuple[Cluster, str, str]:
    """Two gateways that know each other."""
    cluster = Cluster(2)
    cluster.pass_time(3)
    first, second = cluster.nodes
    return cluster, first, second


class TestComingAndGoing:
    def test_user_is_known_to_all_gateways_within_a_turn(self) -> None:
        cluster, first, second = both()

        cluster.join(first, "s1", "ann", ROOM)
        cluster.turn()

        assert cluster.users(second, ROOM) == {"ann"}

    def test_user_that_leaves_a_room_is_gone_at_once(self) -> None:
        cluster, first, second = both()
        cluster.join(first, "s1", "ann", ROOM)
        cluster.turn()

        cluster.leave(first, "s1", ROOM)
        cluster.turn()

        assert cluster.users(second, ROOM) == set()

    def test_user_that_reconnects_elsewhere_was_never_gone(self) -> None:
        cluster, first, second = both()
        cluster.join(first, "s1", "ann", ROOM)
        cluster.turn()

        cluster.lose(first, "s1")
        seen = []
        for step in range(round(2 * GRACE_S / STEP_S)):
            if step == round((GRACE_S - 1) / STEP_S):
                cluster.join(second, "s2", "ann", ROOM)
            cluster.turn()
            seen.append((cluster.users(first, ROOM), cluster.users(second, ROOM)))

        assert all(one == ({"ann"}, {"ann"}) for one in seen)

    def test_user_that_does_not_come_back_is_gone_after_the_grace_period(self) -> None:
        cluster, first, second = both()
        cluster.join(first, "s1", "ann", ROOM)
        cluster.turn()

        cluster.lose(first, "s1")
        cluster.pass_time(GRACE_S - 1)
        before = cluster.users(second, ROOM)
        cluster.pass_time(2)

        assert (before, cluster.users(second, ROOM)) == ({"ann"}, set())

    def test_devices_are_counted_over_all_gateways(self) -> None:
        cluster, first, second = both()
        for gateway, session in ((first, "s1"), (first, "s2"), (second, "s3")):
            cluster.join(gateway, session, "ann", ROOM)
        cluster.turn()

        assert cluster.known(first)[ROOM]["ann"] == cluster.known(second)[ROOM]["ann"] == (3, Status.ONLINE)

    @pytest.mark.parametrize(
        ("statuses", "whole"),
        [
            ((Status.AWAY, Status.ONLINE), Status.ONLINE),
            ((Status.BUSY, Status.ONLINE), Status.BUSY),
            ((Status.AWAY, Status.AWAY), Status.AWAY),
        ],
    )
    def test_status_of_a_user_is_that_of_the_most_active_device(
        self, statuses: tuple[Status, Status], whole: Status
    ) -> None:
        cluster, first, second = both()
        for gateway, status in zip((first, second), statuses, strict=True):
            cluster.join(gateway, "s", "ann", ROOM)
            cluster.set_status(gateway, "s", status)
        cluster.turn()

        assert cluster.known(first)[ROOM]["ann"] == (2, whole)


class TestFaults:
    def test_users_of_a_killed_gateway_are_gone_within_15_seconds(self) -> None:
        cluster, first, second = both()
        cluster.join(first, "s1", "ann", ROOM)
        cluster.turn()
        view = View(cluster.nodes[second].roster, ROOM)

        cluster.kill(first)
        told_after = None
        for step in range(1, round(15 / STEP_S)):
            cluster.turn()
            if view.look(cluster.now) is not None:
                told_after = step * STEP_S

        assert told_after is not None
        assert SILENT_S + STEP_S + MAX_PAUSE_S < 15

    def test_users_of_a_stopped_gateway_have_the_grace_period_to_reconnect(self) -> None:
        cluster, first, second = both()
        cluster.join(first, "s1", "ann", ROOM)
        cluster.turn()

        cluster.stop(first)
        cluster.pass_time(GRACE_S - 1)
        before = cluster.users(second, ROOM)
        cluster.pass_time(2)

        assert (before, cluster.users(second, ROOM)) == ({"ann"}, set())

    def test_lost_message_is_noticed_by_its_number_and_everything_is_asked_for(self) -> None:
        cluster, first, second = both()

        cluster.join(first, "s1", "ann", ROOM)
        cluster.turn(losing=[second])
        lost = cluster.users(second, ROOM)
        cluster.pass_time(3)

        assert (lost, cluster.users(second, ROOM)) == (set(), {"ann"})

    def test_gateway_that_was_cut_off_knows_everybody_after_it_is_back(self) -> None:
        cluster, first, second = both()
        cluster.join(first, "s1", "ann", ROOM)
        cluster.join(second, "s2", "bob", ROOM)
        cluster.turn()

        cluster.cut_off.add(second)
        cluster.pass_time(20)
        alone = cluster.users(first, ROOM), cluster.users(second, ROOM)
        cluster.cut_off.clear()
        cluster.pass_time(4)

        assert alone == ({"ann"}, {"bob"})
        assert cluster.users(first, ROOM) == cluster.users(second, ROOM) == {"ann", "bob"}

    def test_gateway_that_stood_still_does_not_take_the_others_for_dead(self) -> None:
        cluster, first, second = both()
        cluster.join(first, "s1", "ann", ROOM)
        cluster.turn()

        cluster.freeze(second)
        cluster.pass_time(60)
        frozen = cluster.frozen[second]
        cluster.frozen.pop(second)
        cluster.nodes[second].turn(cluster.now)  # it turns before it reads what has waited
        cluster.frozen[second] = frozen
        cluster.thaw(second)

        assert cluster.users(second, ROOM) == {"ann"}

    def test_new_gateway_learns_from_all_others_who_is_here(self) -> None:
        cluster, first, second = both()
        cluster.join(first, "s1", "ann", ROOM)
        cluster.join(second, "s2", "bob", ROOM)
        cluster.turn()

        newcomer = cluster.start()
        cluster.pass_time(3)

        assert cluster.users(newcomer, ROOM) == {"ann", "bob"}
        assert cluster.nodes[newcomer].peers.is_complete


class TestManyGateways:
    def test_hundred_gateways_agree_after_kills_starts_and_losses(self) -> None:
        chance = random.Random(7)
        cluster = Cluster(100)
        cluster.pass_time(3)
        for number in range(1_000):
            gateway = chance.choice(list(cluster.nodes))
            cluster.join(gateway, f"s{number}", f"u{number % 700}", f"campaign:c{number % 20}")
            if number % 50 == 0:
                cluster.turn(losing=chance.sample(list(cluster.nodes), 10))
        for gateway in chance.sample(list(cluster.nodes), 10):
            cluster.kill(gateway)
            cluster.start()
        cluster.pass_time(SILENT_S + 4)

        truth = cluster.truth()
        assert all(cluster.known(gateway) == truth for gateway in cluster.nodes)

    def test_idle_gateways_say_half_a_message_a_second_each(self) -> None:
        cluster = Cluster(20)
        cluster.pass_time(4)
        cluster.messages = 0

        cluster.pass_time(60)

        assert cluster.messages <= 20 * 31

    def test_messages_between_gateways_grow_with_time_and_not_with_joins(self) -> None:
        """A gateway says what has changed in one message for a moment, however many rooms and users that is."""
        cluster, first, _ = both()
        cluster.messages = 0

        for number in range(500):
            cluster.join(first, f"s{number}", f"u{number}", f"campaign:c{number % 10}")
        cluster.turn()

        assert cluster.messages == 1


class TestView:
    def test_small_room_is_told_by_name(self) -> None:
        roster = Roster()
        view = View(roster, ROOM)
        roster.put("g1", ROOM, "ann", ONLINE)

        change = view.look(0)

        assert change is not None
        assert (change.count, change.joined) == (1, (Person("ann", Status.ONLINE, 1),))

    def test_large_room_is_told_as_a_count_and_a_sample(self) -> None:
        roster = Roster()
        for number in range(SAMPLE + 50):
            roster.put("g1", ROOM, f"u{number}", ONLINE)
        view = View(roster, ROOM)
        before = view.presence()
        roster.put("g1", ROOM, "late", ONLINE)
        joined = view.look(0)
        roster.put("g1", ROOM, "u0", None)
        left = view.look(10)

        assert (before.count, len(before.users)) == (SAMPLE + 50, SAMPLE)
        assert joined is not None
        assert (joined.count, joined.joined) == (SAMPLE + 51, ())
        assert left is not None
        assert (left.count, left.left, len(left.joined)) == (SAMPLE + 50, ("u0",), 1)
        assert len(view.presence().users) == SAMPLE

    def test_user_that_comes_and_goes_between_two_looks_is_not_told(self) -> None:
        roster = Roster()
        view = View(roster, ROOM)
        roster.put("g1", ROOM, "ann", ONLINE)
        roster.put("g1", ROOM, "ann", None)

        assert view.look(0) is None

    def test_changes_of_a_moment_are_one_message(self) -> None:
        roster = Roster()
        view = View(roster, ROOM)
        roster.put("g1", ROOM, "ann", ONLINE)
        first = view.look(0)
        roster.put("g1", ROOM, "bob", ONLINE)
        too_early = view.look(PAUSE_S / 2)
        roster.put("g1", ROOM, "cem", ONLINE)
        second = view.look(PAUSE_S)

        assert first is not None
        assert too_early is None
        assert second is not None
        assert [one.user_id for one in second.joined] == ["bob", "cem"]

    def test_thousands_who_join_one_room_cost_each_watcher_a_bounded_number_of_messages(self) -> None:
        """2,000 people join within 20 s, and all of them watch: 10 messages for each join, and not 1,000."""
        roster = Roster()
        view = View(roster, ROOM)
        frames = 0
        for number in range(2_000):
            roster.put("g1", ROOM, f"u{number}", ONLINE)
            now = number * 0.01
            if number % 20 == 0 and view.look(now) is not None:
                frames += number + 1

        assert frames <= 10 * 2_000


class TestMessages:
    def test_entries_are_split_into_parts_that_fit_into_a_message(self) -> None:
        entries = {f"campaign:c{room}": {f"user-{one}": ONLINE for one in range(1_000)} for room in range(10)}

        parts = list(split(entries))

        assert len(parts) > 1
        assert all(len(Changes("g", 1, one).encode()) < 200_000 for one in parts)
        together: dict[str, dict[str, Share | None]] = {}
        for part in parts:
            for room, users in part.items():
                together.setdefault(room, {}).update(users)
        assert together == entries

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"[]",
            b'{"n":-1,"d":{}}',
            b'{"n":true,"d":{}}',
            b'{"n":1}',
            b'{"n":1,"d":{"r":[]}}',
            b'{"n":1,"d":{"r":{"u":[1]}}}',
            b'{"n":1,"d":{"r":{"u":[-1,"online"]}}}',
            b'{"n":1,"d":{"r":{"u":[1,"asleep"]}}}',
            b'{"n":1,"d":{"r":{"u":7}}}',
        ],
    )
    def test_what_no_gateway_wrote_is_refused(self, data: bytes) -> None:
        for decode in (Changes.decode, Part.decode):
            with pytest.raises(InvalidSaying):
                decode("g1", data)
