"""The parent of several workers, with workers that do what a gateway never should."""

import signal
import subprocess
import sys

PROGRAM = """
import os, signal, sys, time
from beaconfire_kit import logs
from beaconfire_gateway.process import supervisor
from beaconfire_gateway.process.supervisor import OPERATIONS, Board, Supervisor

logs.configure("gateway")
supervisor.BEYOND_DRAIN_S = 0.2
board = Board(2)

def wait():
    while True:
        signal.pause()

def operate():
    signal.signal(supervisor.END_OPERATIONS, lambda *_: sys.exit(0))
    board.listens(OPERATIONS)
    wait()

def work(number):
    {work}

sys.exit(Supervisor(board, work, operate, drain_s=0).run())
"""


def run(work: str) -> subprocess.CompletedProcess[str]:
    """A parent whose two workers run this line."""
    command = [sys.executable, "-c", PROGRAM.replace("{work}", work)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_parent_exits_with_1_when_a_worker_fails_before_any_was_ready() -> None:
    end = run("sys.exit(3) if number == 1 else wait()")

    assert end.returncode == 1
    assert end.stderr.count("cannot start, so nothing does") == 1
    assert "exit code 3" in end.stderr
    assert "started again" not in end.stderr


def test_worker_that_keeps_dying_is_restarted_after_longer_and_longer_waits() -> None:
    end = run(
        "board.listens(number);"
        "number == 1 and board[1].starts == 4 and os.kill(os.getppid(), signal.SIGTERM);"
        "number == 1 and board[1].starts < 4 and sys.exit(3);"
        "wait()"
    )

    assert end.returncode == 0
    waits = [f'"wait_s": {wait}' in end.stderr for wait in (0.25, 0.5, 1.0)]
    assert waits == [True, True, True]


def test_worker_that_ignores_sigterm_is_killed_in_time_and_the_parent_exits_with_1() -> None:
    end = run(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN) if number == 2 else None;"
        "board.listens(number);"
        "number == 2 and os.kill(os.getppid(), signal.SIGTERM);"
        "wait()"
    )

    assert end.returncode == 1
    assert "killing what does not end" in end.stderr
    assert signal.SIGKILL.name in end.stderr
