"""Each offset of the stream has the revision of the last marker before it."""

import json

from beaconfire_kit.catalogue.catalogue import Catalogue
from beaconfire_kit.catalogue.checking import FEW_REMEMBERED
from beaconfire_kit.catalogue.timeline import Timeline


def revisions(count: int) -> list[Catalogue]:
    return [Catalogue.of(number, {}) for number in range(1, count + 1)]


def numbers(timeline: Timeline, *offsets: int) -> list[int]:
    return [timeline.at(offset).revision for offset in offsets]


def test_marker_counts_for_what_is_behind_it() -> None:
    one, two, three = revisions(3)
    timeline = Timeline()
    timeline.begin([(0, one), (10, two)])
    timeline.add(20, three)

    assert numbers(timeline, 1, 10, 11, 20, 21, 1_000) == [1, 1, 2, 2, 3, 3]
    assert timeline.current is three
    assert [offset in timeline for offset in (0, 9, 10, 20, 21)] == [True, False, True, True, False]


def test_first_revision_counts_for_everything_before_it_too() -> None:
    one, two = revisions(2)
    timeline = Timeline()
    timeline.begin([(50, two), (30, one)])

    assert numbers(timeline, 1, 30, 50, 51) == [1, 1, 1, 2]


def test_timeline_that_has_not_begun_knows_the_types_of_the_system() -> None:
    assert set(Timeline().current.types) == {"member_changed", "access_revoked"}


def test_marker_that_is_reached_before_a_later_one_that_is_known_counts_up_to_that_one() -> None:
    """A gateway that starts during several pushes may learn of the last one first, from the bucket."""
    one, two, three = revisions(3)
    timeline = Timeline()
    timeline.begin([(10, one), (30, three)])
    timeline.add(20, two)

    assert numbers(timeline, 20, 21, 30, 31) == [1, 2, 2, 3]
    assert timeline.current is three


def test_revisions_that_no_event_needs_are_forgotten() -> None:
    timeline = Timeline()
    timeline.begin(zip((0, 10, 20, 30), revisions(4), strict=True))
    timeline.forget(21)

    assert len(timeline) == 2
    assert numbers(timeline, 21, 30, 31) == [3, 3, 4]
    timeline.forget(1_000)
    assert numbers(timeline, 1_000) == [4]


def check_users(catalogue: Catalogue, count: int) -> int:
    """Check an event of each user. Returns how many subjects the catalogue remembers afterwards."""
    revoked = {"issuedBefore": "2026-11-21T10:00:00Z", "reason": "revoked", "membershipVersion": 1}
    metadata = {"timestamp": "2026-11-21T10:00:00Z", "source": "auth"}
    for number in range(count):
        payload = {**revoked, "userId": f"u{number}"}
        body = {"type": "access_revoked", "version": 1, "payload": payload, "metadata": metadata}
        catalogue.check(f"user.u{number}.access", json.dumps(body).encode())
    rules = catalogue.checker._rules.values()
    return sum(len(rule.ids) for versions in rules for rule in versions.values())


def test_revision_remembers_few_subjects_once_another_one_counts() -> None:
    """A gateway keeps hundreds of old revisions. 20,000 subjects of each would take 10 MB."""
    timeline, (one, two) = Timeline(), revisions(2)
    timeline.begin([(0, one)])
    before = check_users(one, 300)
    timeline.add(10, two)
    old = check_users(one, 300)
    timeline.begin([(0, two), (10, one)])
    again = check_users(one, 300)

    assert (before, again) == (300, 300)
    assert old <= FEW_REMEMBERED
