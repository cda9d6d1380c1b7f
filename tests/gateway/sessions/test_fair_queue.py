"""beaconfire_gateway.sessions.fair_queue: the long replays of many sessions, a little of each at a time. No I/O."""

from beaconfire_gateway.sessions.fair_queue import STEPS, FairQueue, Step


def test_a_few_in_a_turn() -> None:
    """However many have work, no turn of the loop runs more than a few steps, and each has its turn, in order."""
    turns: list[Step] = []
    queue = FairQueue(turns.append)
    done: list[int] = []
    left = dict.fromkeys(range(100), 3)

    def step(number: int) -> None:
        done.append(number)
        left[number] -= 1
        if left[number]:
            queue.add(lambda: step(number))

    for number in left:
        queue.add(lambda number=number: step(number))  # type: ignore[misc]
    most = 0
    while turns:
        before, now = len(done), list(turns)
        turns.clear()
        for callback in now:
            callback()
        most = max(most, len(done) - before)

    assert most == STEPS
    assert done == [*range(100)] * 3
