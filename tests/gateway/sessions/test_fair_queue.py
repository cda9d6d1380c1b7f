"""Long replays of many sessions take turns. No I/O."""

from beaconfire_gateway.sessions.fair_queue import STEPS, FairQueue, Step


def test_turn_of_the_loop_runs_a_few_steps_of_the_waiting_sessions_in_order() -> None:
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
