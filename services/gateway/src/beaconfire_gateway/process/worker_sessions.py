"""Inform other workers that a session was replaced, because a returning client may land on any worker.

A session's id starts with the number of its worker. That worker hears of it through a pipe that the parent makes before
it forks. So no other program can write to it, and a restarted worker uses the same one. Linux only, like workers.
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
"""8,192 sessions. Further ones are dropped, and the heartbeat frees those sessions later."""
_RECORD = struct.Struct("64s64s")
"""A session's id and its user's. Written and read as a whole: it is smaller than PIPE_BUF."""
_READ_RECORDS = 512
_PREFIX_LENGTH = 2
_ID_LENGTH = 18
"""At least. That of a stream of events is longer."""

Replaced = Callable[[str, str], None]
"""(session id, user id): another connection of this user took over from this session."""


class WorkerPipes:
    """The pipes, one for each worker. Make it before the first fork."""

    def __init__(self, workers: int) -> None:
        self._pipes = {number: os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for number in range(1, workers + 1)}
        for _, write_end in self._pipes.values():
            with contextlib.suppress(OSError):  # if the system does not allow this user so much, it holds less
                fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def worker(self, number: int) -> "Worker":
        """Return the side of the worker with this number."""
        return Worker(self, number)

    def send(self, number: int, session_id: str, user_id: str) -> None:
        """Inform a worker, without waiting. The message is lost if the worker does not exist or its pipe is full."""
        if number in self._pipes:
            with contextlib.suppress(BlockingIOError):
                os.write(self._pipes[number][1], _RECORD.pack(session_id.encode(), user_id.encode()))

    def read(self, number: int) -> Iterator[tuple[str, str]]:
        """Yield the (session id, user id) that this worker got since the last call, at most some hundreds."""
        try:
            data = os.read(self._pipes[number][0], _READ_RECORDS * _RECORD.size)
        except BlockingIOError:
            return
        for session_id, user_id in _RECORD.iter_unpack(data):
            yield session_id.rstrip(b"\0").decode(), user_id.rstrip(b"\0").decode()

    def read_end(self, number: int) -> int:
        """Return the file descriptor that is readable when `read` has something."""
        return self._pipes[number][0]


class Worker:
    """One of several processes of a gateway, as its own code sees it."""

    def __init__(self, pipes: WorkerPipes, number: int) -> None:
        self._pipes = pipes
        self._number = number
        self.session_prefix = f"{number:0{_PREFIX_LENGTH}x}"
        """The start of its sessions' ids."""

    def replace(self, session_id: str, user_id: str) -> None:
        """Inform the worker that has this session, if it is another one of this gateway."""
        try:
            number = int(session_id[:_PREFIX_LENGTH], 16) if len(session_id) >= _ID_LENGTH else self._number
        except ValueError:
            return
        if number != self._number and session_id.isascii():
            self._pipes.send(number, session_id, user_id)

    @contextmanager
    def listening(self, replaced: Replaced) -> Iterator[None]:
        """Call `replaced` for each session that another worker reports, until the end of the block."""
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
