"""beaconfire_kit.memory: where objects lie, and that the memory of many that lie apart goes back to the system."""

import os
import subprocess
import sys
import tracemalloc

import pytest

from beaconfire_kit.memory import apart
from tests.memory import is_apart

CROWD = """
from beaconfire_kit.memory import apart, give_back

def held():
    status = open("/proc/self/status").read()
    return int(status.partition("RssAnon:")[2].split()[0])

class One:
    __slots__ = ("name", "rooms")

    def __init__(self, number):
        self.name = f"somebody with the number {number}"
        self.rooms = {f"a room of {number}": self.name}

before, crowd, own = held(), [], []
for number in range(20_000):
    with apart:
        crowd.append(One(number))
    if number % 100 == 0:
        own.append([f"the process's own {number}"])
most = held() - before
crowd.clear()
give_back()
print(most, held() - before, len(own))
"""


def make() -> object:
    """An object that Python keeps no stock of."""
    return os.urandom(20).hex()


def in_a_process(**environment: str) -> list[int]:
    ran = subprocess.run(
        [sys.executable, "-c", CROWD], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return [int(word) for word in ran.stdout.split()]


def test_memory_goes_back() -> None:
    """A crowd made apart leaves next to nothing of its memory with the process, though its own objects came between."""
    most, left, own = in_a_process()

    assert most > 4_000  # KiB
    assert left < most / 5
    assert own == 200


@pytest.mark.parametrize(
    "environment", [{"PYTHONMALLOC": "debug"}, {"PYTHONMALLOC": "malloc"}, {"PYTHONDEVMODE": "1"}], ids=str
)
def test_another_allocator(environment: dict[str, str]) -> None:
    """Where Python's allocator is another one, nothing is changed, and nothing breaks."""
    most, _, own = in_a_process(**environment)

    assert (most > 4_000, own) == (True, 200)


def test_inside_and_outside() -> None:
    """Objects lie apart inside, also inside a second time, and no longer behind it, whatever ended it."""
    before = make()
    with apart:
        first = make()
        with apart:
            second = make()
        third = make()
        with pytest.raises(ValueError, match="nothing"), apart:
            raise ValueError("nothing")
        fourth = make()
    after = make()

    assert [is_apart(one) for one in (first, second, third, fourth)] == [True] * 4
    assert [is_apart(one) for one in (before, after)] == [False] * 2


def test_while_memory_is_traced() -> None:
    """Python's own tracing of memory is not switched off, and goes on behind it."""
    tracemalloc.start(1)
    try:
        with apart:
            inside = make()
        traced = [tracemalloc.get_object_traceback(one) is not None for one in (inside, make())]
    finally:
        tracemalloc.stop()

    assert traced == [True, True]
    assert not is_apart(inside)
