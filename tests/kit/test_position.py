"""beaconfire_kit.position: cursors that are never ahead of what they are given for."""

from beaconfire_kit.cursor import Cursor
from beaconfire_kit.position import Position


def test_begins_unknown() -> None:
    """There is no cursor before the stream was seen, and an acknowledgement alone does not make one."""
    position = Position()

    assert position.acknowledged(7, position.life) is None
    assert position.cursor() is None


def test_moves_forward() -> None:
    """Acknowledgements and sights of the stream move it forward; an old one, or a repeat, never back."""
    position = Position()
    position.seen("e1", 5, known=0)

    assert position.acknowledged(9, position.life) == Cursor("e1", 9)
    assert position.acknowledged(8, position.life) == Cursor("e1", 8)
    position.seen("e1", 7, known=5)  # asked before the acknowledgement came
    assert position.cursor() == Cursor("e1", 9)


def test_another_stream() -> None:
    """What was sent into a stream that is gone, or has gone back, moves nothing."""
    position = Position()
    position.seen("e1", 500, known=0)
    first = position.life
    position.seen("e2", 3, known=500)

    assert position.acknowledged(501, first) is None
    assert position.cursor() == Cursor("e2", 3)
    position.acknowledged(9, position.life)
    position.seen("e2", 4, known=9)
    assert position.cursor() == Cursor("e2", 4)
