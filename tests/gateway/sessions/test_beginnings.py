"""A gateway remembers from where on sessions hear their rooms, in a table that does not grow."""

from beaconfire_gateway.sessions.beginnings import Beginning, Beginnings, How


def test_entries_of_a_sessions_room_come_back_in_order() -> None:
    beginnings = Beginnings()
    beginnings.note("a", "campaign:c1", How.JOINED, after=5, position=5)
    beginnings.note("b", "campaign:c1", How.JOINED, after=6, position=6)
    beginnings.note("a", "campaign:c1", How.RESYNC, after=2**40, position=2**40)
    beginnings.note("a", "campaign:c2", How.RESTORED, after=1, position=9)

    assert beginnings.of("a", "campaign:c1") == [
        Beginning(How.JOINED, 5, 5),
        Beginning(How.RESYNC, 2**40, 2**40),
    ]
    assert beginnings.of("a", "campaign:c2") == [Beginning(How.RESTORED, 1, 9)]
    assert beginnings.of("c", "campaign:c1") == []


def test_the_oldest_entries_are_overwritten() -> None:
    beginnings = Beginnings(most=3)
    for offset in range(5):
        beginnings.note("a", "campaign:c1", How.RESUMED, after=offset, position=offset)

    assert [one.after for one in beginnings.of("a", "campaign:c1")] == [2, 3, 4]


def test_entries_of_another_stream_are_forgotten() -> None:
    beginnings = Beginnings(most=1)
    beginnings.note("a", "campaign:c1", How.JOINED, after=5, position=5)
    beginnings.forget()
    empty = beginnings.of("a", "campaign:c1")
    beginnings.note("a", "campaign:c1", How.JOINED, after=1, position=1)

    assert empty == []
    assert [one.after for one in beginnings.of("a", "campaign:c1")] == [1]
