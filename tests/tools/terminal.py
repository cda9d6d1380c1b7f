"""A command line as a person uses it: started, read line by line, interrupted."""

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

from beaconfire.nats_server import free_port
from beaconfire.processes import Process
from beaconfire_demo.applications import APPLICATIONS

PATIENCE_S = 90.0
PORTS = 4 + sum(one.has_service for one in APPLICATIONS.values())
MARK = "STARTED_BELOW"
"""An environment variable that every process started below a terminal inherits."""


class Terminal:
    """`beaconfire …` as a process. It is killed with the test, and what it started with it."""

    def __init__(self, folder: Path, *arguments: str, ignores: str = "", **environment: str) -> None:
        """`ignores` are signals that it inherits as ignored, as below `nohup` (`INT HUP`)."""
        self._lines: Queue[str] = Queue()
        self.seen: list[str] = []
        self.process = Process(
            "beaconfire",
            [
                "sh",
                "-c",
                f'trap "" {ignores or "USR2"}; exec "$@"',
                "sh",
                sys.executable,
                "-m",
                "beaconfire",
                *arguments,
            ],
            environment={"COLUMNS": "200", "NO_COLOR": "1", MARK: str(folder), **environment},
            log_path=folder / f"terminal-{time.monotonic_ns()}.log",
            on_line=lambda _name, line: self._lines.put(line),
        )
        self.process.start()

    def wait_for(self, text: str) -> str:
        """The first new line with `text` in it. Fails with everything seen where it does not come."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                line = self._lines.get(timeout=0.2)
            except Empty:
                if self.process.is_running or not self._lines.empty():
                    continue
                break
            self.seen.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} did not come. Seen:\n" + "\n".join(self.seen))

    def interrupt(self) -> None:
        """Ctrl-C."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGINT)

    def ends(self) -> int:
        """Wait for its end. Returns the exit code."""
        assert self.process.wait(PATIENCE_S), "it still runs"
        while not self._lines.empty():
            self.seen.append(self._lines.get())
        assert self.process.exit_code is not None
        return self.process.exit_code

    @property
    def text(self) -> str:
        return "\n".join(self.seen)


@contextmanager
def terminal(folder: Path, *arguments: str, ignores: str = "", **environment: str) -> Iterator[Terminal]:
    """A command that is gone at the end of the block."""
    one = Terminal(folder, *arguments, ignores=ignores, **environment)
    try:
        yield one
    finally:
        one.process.kill()


def run(folder: Path, *arguments: str, **environment: str) -> Terminal:
    """A command that ends without a signal."""
    with terminal(folder, *arguments, **environment) as one:
        one.ends()
        return one


def free_ports() -> int:
    """The first of as many free ports in a row as `up` uses."""
    while True:
        first = free_port()
        if all(_is_free(port) for port in range(first, first + PORTS)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def processes_of(folder: Path) -> dict[int, str]:
    """Every process that a terminal of this folder started, or that those started: the command lines by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if f"{MARK}={folder}\0".encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue  # no process, one that has ended meanwhile, or another user's
    return found


def have_ended(pids: set[int], timeout_s: float = 20.0) -> bool:
    """Whether all these processes, not necessarily children of ours, end within the time."""
    deadline = time.monotonic() + timeout_s
    for pid in pids:
        try:
            watched = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([watched], [], [], max(0, deadline - time.monotonic()))[0]:
                return False
        finally:
            os.close(watched)
    return True
