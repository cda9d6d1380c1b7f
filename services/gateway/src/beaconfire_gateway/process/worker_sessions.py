"""How workers of a gateway tell each other that a session was replaced: a client that is back lands on any of them.

A session's id begins with the number of the worker that has it. That worker is told through a pipe which the parent has
made before it forks, so that nobody else can write to it, and a worker that was started again hears on the same one.
Linux only, like workers.
"""

import asyncio
import contextlib
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from beaconfire_kit import logs

log = logs.get(__name__)

PIPE_BYTES = 1 << 20
"""8,192 sessions: what comes beyond it is dropped, and the heartbeat frees those sessions later."""
_RECORD = struct.Struct("64s64s")
"""A session's id and its user's. Written and read as a whole: it is smaller than PIPE_BUF."""
_READ_RECORDS = 512
_PREFIX_LENGTH = 2
_ID_LENGTH = 18

Replaced = Callable[[str, str], None]
"""(session id, user id): another connection of this user took over from this session."""


class WorkerPipes:
    """The pipes, one for each worker. Make it before the first fork."""

    def __init__(self, workers: int) -> None:
        self._pipes = {number: os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for number in range(1, workers + 1)}
        for _, write_end in self._pipes.values():
            with contextlib.suppress(OSError):  # over what the system allows one user: then it holds less
                fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def worker(self, number: int) -> "Worker":
        """What the worker of this number uses."""
        return Worker(self, number)

    def tell(self, number: int, session_id: str, user_id: str) -> None:
        """Tell a worker. Does not wait; lost if there is no such worker, or if it has not read for a long time."""
        if number in self._pipes:
            with contextlib.suppress(BlockingIOError):
                os.write(self._pipes[number][1], _RECORD.pack(session_id.encode(), user_id.encode()))

    def read(self, number: int) -> Iterator[tuple[str, str]]:
        """What this worker was told since the last time; at most some hundreds at a time."""
        try:
            data = os.read(self._pipes[number][0], _READ_RECORDS * _RECORD.size)
        except BlockingIOError:
            return
        for session_id, user_id in _RECORD.iter_unpack(data):
            yield session_id.rstrip(b"\0").decode(), user_id.rstrip(b"\0").decode()

    def read_end(self, number: int) -> int:
        """The file descriptor that is readable when `read` has something."""
        return self._pipes[number][0]


class Worker:
    """One of several processes of a gateway, as its own code sees it."""

    def __init__(self, pipes: WorkerPipes, number: int) -> None:
        self._pipes = pipes
        self._number = number
        self.session_prefix = f"{number:0{_PREFIX_LENGTH}x}"
        """What the ids of its sessions begin with."""

    def replace(self, session_id: str, user_id: str) -> None:
        """Tell the worker that has this session, if it is one of this gateway's others."""
        try:
            number = int(session_id[:_PREFIX_LENGTH], 16) if len(session_id) == _ID_LENGTH else self._number
        except ValueError:
            return
        if number != self._number and session_id.isascii():
            self._pipes.tell(number, session_id, user_id)

    @contextmanager
    def listening(self, replaced: Replaced) -> Iterator[None]:
        """Call `replaced` for each session that another worker tells of, to the end of the block."""
        loop, read_end = asyncio.get_running_loop(), self._pipes.read_end(self._number)

        def hear() -> None:
            for session_id, user_id in self._pipes.read(self._number):
                try:
                    replaced(session_id, user_id)
                except Exception:
                    log.exception("could not replace a session", session=session_id)

        loop.add_reader(read_end, hear)
        try:
            yield
        finally:
            loop.remove_reader(read_end)
