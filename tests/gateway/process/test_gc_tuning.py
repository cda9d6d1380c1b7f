"""The garbage collector does not scan sessions, and memory is given back."""

import gc
from collections.abc import Iterator

import pytest

from beaconfire_gateway.process import gc_tuning
from beaconfire_gateway.process.gc_tuning import PATIENCE_S, STEP, Collector


@pytest.fixture(name="thawed")
def _thawed() -> Iterator[None]:
    """Leaves the process's collector as it was."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("thawed")
def test_objects_present_at_start_and_in_large_numbers_are_frozen() -> None:
    gc_tuning.start()
    at_the_start = gc.get_freeze_count()
    watch, sessions = Collector(_nothing), [[number] for number in range(STEP)]
    watch.look(STEP - 1, 0.0)
    before = gc.get_freeze_count()
    watch.look(STEP, 0.0)
    frozen = gc.get_freeze_count()

    assert at_the_start > 10_000
    assert before == at_the_start
    assert frozen >= before + len(sessions)


@pytest.mark.usefixtures("thawed")
def test_memory_is_given_back_once_most_sessions_have_been_gone_for_a_while() -> None:
    """Garbage that was frozen with them is collected."""

    class Loop:
        def __init__(self) -> None:
            self.me = self

    def loops() -> int:
        return sum(isinstance(one, Loop) for one in everything())

    let_go: list[int] = []
    watch = Collector(lambda: let_go.append(1))
    loop = Loop()
    watch.look(4 * STEP, 0.0)
    del loop
    for now in (1.0, 10 * PATIENCE_S):
        watch.look(2 * STEP, now)
    half = loops(), len(let_go)
    now = 20 * PATIENCE_S
    for sessions in (*[STEP] * 100, 2 * STEP, STEP):  # looks more often than needed; some sessions return
        watch.look(sessions, now)
        now += (PATIENCE_S - 1) / 100
    watch.look(STEP, now + PATIENCE_S - 1)
    for_a_moment = loops(), len(let_go)
    watch.look(STEP, now + PATIENCE_S)
    for_good = loops(), len(let_go)
    watch.look(STEP, now + 10 * PATIENCE_S)

    assert half == for_a_moment == (1, 0)
    assert for_good == (0, 1)
    assert len(let_go) == 1  # given back once, and not every second from then on


@pytest.mark.usefixtures("thawed")
def test_memory_is_not_given_back_while_ended_sessions_are_still_held() -> None:
    let_go: list[int] = []
    watch = Collector(lambda: let_go.append(1), held_s=2 * PATIENCE_S)
    watch.look(STEP, 0.0)
    watch.look(0, 1.0)
    watch.look(0, 2 * PATIENCE_S)
    before = list(let_go)
    watch.look(0, 2 * PATIENCE_S + 1)

    assert (before, let_go) == ([], [1])


def _nothing() -> None: ...


def everything() -> list[object]:
    """All objects, the frozen ones, too."""
    gc.unfreeze()
    found = gc.get_objects()
    gc.freeze()
    return found
