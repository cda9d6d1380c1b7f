"""Cursors that are never ahead of the state they are given for."""

from beaconfire_kit.cursor import Cursor
from beaconfire_kit.position import Position


def test_there_is_no_cursor_before_the_stream_was_seen() -> None:
    position = Position()

    assert position.acknowledged(7, position.life) is None
    assert position.cursor() is None


def test_position_moves_forward_with_acknowledgements_and_never_back() -> None:
    position = Position()
    position.seen("e1", 5, known=0)

    assert position.acknowledged(9, position.life) == Cursor("e1", 9)
    assert position.acknowledged(8, position.life) == Cursor("e1", 8)
    position.seen("e1", 7, known=5)  # asked before the acknowledgement came
    assert position.cursor() == Cursor("e1", 9)


def test_acknowledgement_of_a_lost_stream_moves_nothing() -> None:
    position = Position()
    position.seen("e1", 500, known=0)
    first = position.life
    position.seen("e2", 3, known=500)

    assert position.acknowledged(501, first) is None
    assert position.cursor() == Cursor("e2", 3)
    position.acknowledged(9, position.life)
    position.seen("e2", 4, known=9)
    assert position.cursor() == Cursor("e2", 4)
