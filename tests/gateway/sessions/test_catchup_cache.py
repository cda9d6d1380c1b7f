"""Events that many sessions missed are encoded once. No I/O."""

from beaconfire_gateway.sessions.catchup_cache import KEEP_BYTES, CatchUpCache, CatchUpWrite


class Maker:
    """Makes pieces of a size, and counts them."""

    def __init__(self, size: int) -> None:
        self.made = 0
        self._size = size

    def __call__(self) -> CatchUpWrite:
        self.made += 1
        return CatchUpWrite(bytes(self._size), self.made)


def test_sessions_that_missed_the_same_get_the_same_bytes_object() -> None:
    cache, make = CatchUpCache(), Maker(10)
    first, second = cache.find("here", make), cache.find("here", make)
    elsewhere = cache.find("elsewhere", make)
    cache.forget()
    later = cache.find("here", make)

    assert first is second
    assert (elsewhere[1], later[1]) == (2, 3)


def test_kept_pieces_stay_within_their_bound_and_one_piece() -> None:
    cache, make, most = CatchUpCache(), Maker(KEEP_BYTES // 10), 0
    for number in range(50):
        cache.find(number, make)
        most = max(most, cache.bytes)

    assert make.made == 50
    assert KEEP_BYTES < most <= KEEP_BYTES * 1.1
