"""beaconfire_gateway.sessions.pieces: what many missed is made once. No I/O."""

from beaconfire_gateway.sessions.pieces import KEEP_BYTES, Piece, Pieces


class Maker:
    """Makes pieces of a size, and counts them."""

    def __init__(self, size: int) -> None:
        self.made = 0
        self._size = size

    def __call__(self) -> Piece:
        self.made += 1
        return bytes(self._size), self.made


def test_made_once() -> None:
    """Who needs the same gets the same bytes; who stands elsewhere, or comes after they were let go of, gets others."""
    pieces, make = Pieces(), Maker(10)
    first, second = pieces.find("here", make), pieces.find("here", make)
    elsewhere = pieces.find("elsewhere", make)
    pieces.forget()
    later = pieces.find("here", make)

    assert first is second
    assert (elsewhere[1], later[1]) == (2, 3)


def test_bounded() -> None:
    """However many different ones are needed, no more is kept than the bound and one piece."""
    pieces, make, most = Pieces(), Maker(KEEP_BYTES // 10), 0
    for number in range(50):
        pieces.find(number, make)
        most = max(most, pieces.bytes)

    assert make.made == 50
    assert KEEP_BYTES < most <= KEEP_BYTES * 1.1
