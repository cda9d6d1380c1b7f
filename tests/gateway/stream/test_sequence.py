"""The sequence delivers every offset once, in order, whatever is lost, doubled or late."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_gateway.stream.sequence import Sequence


class Log:
    """A sequence and what it delivered."""

    def __init__(self, position: int | None = 0, max_held: int = 1000) -> None:
        self.delivered: list[tuple[int, str]] = []
        self.sequence: Sequence[str] = Sequence(
            lambda offset, text: self.delivered.append((offset, text)), max_held=max_held
        )
        if position is not None:
            self.sequence.start(position)

    def _deliver(self, offset: int, text: str) -> None:
        self.delivered.append((offset, text))

    @property
    def offsets(self) -> list[int]:
        return [offset for offset, _ in self.delivered]


def test_offsets_in_order_are_delivered_as_they_come() -> None:
    log = Log()

    assert all(log.sequence.hear(offset, "live") for offset in (1, 2, 3))
    assert log.offsets == [1, 2, 3]
    assert log.sequence.hole is None


def test_messages_behind_a_hole_are_held_until_it_is_filled() -> None:
    log = Log()
    log.sequence.hear(1, "live")

    assert not log.sequence.hear(4, "live")
    assert not log.sequence.hear(5, "live")
    assert (log.offsets, log.sequence.hole) == ([1], 4)

    log.sequence.fill(2, "read")
    log.sequence.fill(3, "read")
    assert log.delivered == [(1, "live"), (2, "read"), (3, "read"), (4, "live"), (5, "live")]
    assert log.sequence.hole is None


def test_offset_heard_twice_or_heard_and_read_is_delivered_once() -> None:
    log = Log()
    for offset in (1, 1, 2, 1, 2):
        log.sequence.hear(offset, "live")
    log.sequence.fill(2, "read")

    assert log.offsets == [1, 2]


def test_offsets_known_to_be_gone_are_skipped() -> None:
    log = Log()
    log.sequence.hear(9, "live")
    log.sequence.skip(4)
    log.sequence.fill(5, "read")
    log.sequence.skip(8)

    assert log.offsets == [5, 9]
    assert log.sequence.hole is None


def test_acknowledged_tick_that_was_not_heard_shows_a_hole() -> None:
    log = Log(10)
    log.sequence.expect(12)
    assert log.sequence.hole == 12

    log.sequence.fill(11, "read")
    log.sequence.skip(12)
    assert log.sequence.hole is None


def test_hold_beyond_its_bound_is_dropped_and_read_instead() -> None:
    log = Log(max_held=3)
    for offset in (5, 6, 7, 8):
        log.sequence.hear(offset, "live")
    assert log.sequence.hole == 8

    for offset in range(1, 8):
        log.sequence.fill(offset, "read")
    assert log.offsets == [1, 2, 3, 4, 5, 6, 7, 8]


def test_hold_is_bounded_in_bytes_and_the_bound_applies_anew_later() -> None:
    delivered: list[int] = []
    sequence: Sequence[str] = Sequence(lambda offset, _: delivered.append(offset), size=len, max_held_bytes=100)
    sequence.start(0)
    for offset in (3, 4):
        sequence.hear(offset, "x" * 40)
    held = sequence.hole
    sequence.hear(5, "x" * 40)
    overflown = sequence.hole
    for offset in range(1, 5):
        sequence.fill(offset, "read")
    sequence.hear(7, "x" * 90)

    assert (held, overflown, delivered, sequence.hole) == (3, 5, [1, 2, 3, 4, 5], 7)


def test_messages_heard_before_the_position_is_known_are_held_and_sorted() -> None:
    log = Log(None)
    log.sequence.hear(8, "live")
    log.sequence.hear(9, "live")
    log.sequence.start(8)

    assert log.delivered == [(9, "live")]


def test_reset_drops_what_was_held_of_the_old_epoch() -> None:
    log = Log(100)
    log.sequence.hear(105, "old")
    log.sequence.reset()
    log.sequence.hear(2, "new")
    log.sequence.start(1)

    assert log.delivered == [(2, "new")]
    assert log.sequence.hole is None


def test_read_that_passes_an_offset_delivers_nothing_behind_it_until_skip() -> None:
    log = Log()

    with pytest.raises(ValueError, match="offset 3 was read, but 1 is next"):
        log.sequence.fill(3, "read")
    assert log.offsets == []
    assert log.sequence.position == 0


@given(st.data())
def test_every_existing_offset_is_delivered_once_and_in_order_through_any_faults(data: st.DataObject) -> None:
    end = data.draw(st.integers(1, 40))
    gone = data.draw(st.sets(st.integers(1, end - 1) if end > 1 else st.nothing(), max_size=end // 2))
    exists = [offset for offset in range(1, end + 1) if offset not in gone]
    heard = data.draw(st.lists(st.sampled_from(exists), max_size=80))
    log = Log(max_held=data.draw(st.integers(1, 10)))
    for offset in heard:
        log.sequence.hear(offset, "live")
        if data.draw(st.booleans()):
            _read_hole(log, exists)
    log.sequence.expect(end)
    while log.sequence.hole is not None:
        _read_hole(log, exists)

    assert log.offsets == exists
    assert log.sequence.position == end


def _read_hole(log: Log, exists: list[int]) -> None:
    """Fill a hole as the intake does."""
    upto, position = log.sequence.hole, log.sequence.position
    if upto is None or position is None:
        return
    for offset in exists:
        if position < offset <= upto:
            log.sequence.skip(offset - 1)
            log.sequence.fill(offset, "read")
    log.sequence.skip(upto)
