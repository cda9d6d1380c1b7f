"""Run several gateway processes on one port, with a small parent that watches over them (ADR 0016). Linux only.

The parent imports everything before it forks. So a worker shares the pages of the imported code and starts within
milliseconds. The parent can fork at any time because it runs no event loop and no thread. It also forks one process
that answers the operations port for all workers. If the parent dies, the kernel kills all of them.
"""

import contextlib
import errno
import gc
import mmap
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from beaconfire_kit import logs
from beaconfire_kit.parent_death import end_with_parent

log = logs.get(__name__)

BACKOFF_S = 0.25
MAX_BACKOFF_S = 30.0
STABLE_S = 60.0
"""A worker that lived for so long before it died is started again at once."""
BEYOND_DRAIN_S = 10.0
"""A stopping worker that still runs this long after the end of its drain is killed."""
ROLL_EVERY_S = 0.1
END_WORKER = signal.SIGTERM
END_ONE_WORKER = signal.SIGUSR2
"""The signal to one worker while the others go on. They accept clients, so it stops listening."""
END_OPERATIONS = signal.SIGUSR1
"""Not SIGTERM, which may be sent to the whole group. Operators get answers until the last worker has ended."""
OPERATIONS = 0
"""The number of the process that answers the operations port; workers count from 1."""
_WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class CannotStart(Exception):
    """The workers cannot be started at all. The text contains the reason and what to do."""


@dataclass(frozen=True, slots=True)
class Status:
    """The facts about one process that all processes of its parent can read."""

    pid: int
    starts: int
    listening: bool
    """Whether it accepts clients. For the operations process: whether it answers."""


class Board:
    """A row for each process, in memory that all of them share. It is made before the first fork."""

    _ROW = struct.Struct("=iI?")
    _LISTENING = 8  # the offset in a row; only the process itself writes this byte

    def __init__(self, workers: int) -> None:
        self.workers = range(1, workers + 1)
        self._memory = mmap.mmap(-1, self._ROW.size * (workers + 1))

    def __getitem__(self, number: int) -> Status:
        return Status(*self._ROW.unpack_from(self._memory, number * self._ROW.size))

    def starts(self, number: int) -> None:
        """Note that a process is about to be forked."""
        self._ROW.pack_into(self._memory, number * self._ROW.size, 0, self[number].starts + 1, False)

    def runs(self, number: int, pid: int) -> None:
        """Note the id of a forked process, or 0 when it has ended."""
        struct.pack_into("=i", self._memory, number * self._ROW.size, pid)
        if not pid:
            self._memory[number * self._ROW.size + self._LISTENING] = 0

    def listens(self, number: int) -> None:
        """Note that this process is ready and listens. The process itself calls this."""
        self._memory[number * self._ROW.size + self._LISTENING] = 1


@dataclass(slots=True)
class _Child:
    """A child process. Times are monotonic seconds."""

    number: int
    run: Callable[[], None]
    pid: int = 0
    """0 while it does not run."""
    started_at: float = 0.0
    due: float | None = None
    """When to start it again."""
    failures: int = 0
    stopped_at: float | None = None
    """When it was asked to end."""

    @property
    def name(self) -> str:
        return f"worker {self.number}" if self.number else "the operations process"


@dataclass(slots=True)
class Supervisor:
    """The parent. `run` returns its exit code: 0 if every worker ended in order after a signal, else 1.

    `work(number)` and `operate()` run in the children, which end when they return. A worker has `drain_s` seconds, and
    some more, to end after SIGTERM.
    """

    board: Board
    work: Callable[[int], None]
    operate: Callable[[], None]
    drain_s: float
    _children: list[_Child] = field(default_factory=list)
    _parent: int = 0
    _mask: Iterable[int] = ()
    _stopping: bool = False
    _clean: bool = True
    _served: bool = False
    _rolling: list[int] = field(default_factory=list)

    def run(self) -> int:
        """Start all processes and watch over them until they have ended."""
        self._parent = os.getpid()
        self._children = [
            _Child(OPERATIONS, self.operate),
            *(_Child(number, partial(self.work, number)) for number in self.board.workers),
        ]
        gc.collect()
        gc.freeze()  # no collection looks at objects of the imports any more, so their pages stay shared
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        for child in self._children:
            self._start(child)
        while self._running():
            self._wait()
            self._reap()
            self._go_on()
        return 0 if self._clean else 1

    # Signals.

    def _wait(self) -> None:
        """Wait until there is something to do."""
        now = time.monotonic()
        dues = [child.due for child in self._children if child.due is not None]
        dues += [self._deadline(child) for child in self._children if child.pid and child.stopped_at is not None]
        dues += [now + ROLL_EVERY_S] * bool(self._rolling)
        came = signal.sigtimedwait(_WATCHED, max(0.0, min(dues) - now)) if dues else signal.sigwaitinfo(_WATCHED)
        number = came.si_signo if came else 0
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop()
        elif number == signal.SIGHUP and not self._stopping:
            log.info("restarting every worker, one after the other")
            self._rolling = list(self.board.workers)

    def _stop(self) -> None:
        """Ask every worker to drain. The second time, kill the workers."""
        if self._stopping:
            log.warning("asked to stop a second time: killing the workers")
            self._clean = False
            self._signal(signal.SIGKILL, *self._children)
            return
        log.info("stopping the workers", count=sum(1 for child in self._workers() if child.pid))
        self._stopping = True
        self._rolling.clear()
        for child in self._workers():
            self._tell_to_end(child)

    # Children.

    def _workers(self) -> Iterator[_Child]:
        return (child for child in self._children if child.number)

    def _running(self) -> bool:
        return any(child.pid or child.due is not None for child in self._children)

    def _start(self, child: _Child) -> None:
        child.due, child.stopped_at, child.started_at = None, None, time.monotonic()
        self.board.starts(child.number)
        child.pid = os.fork()
        if not child.pid:
            self._become(child)
        self.board.runs(child.number, child.pid)

    def _become(self, child: _Child) -> NoReturn:
        """Run the child's work in the forked process, and exit. It never returns into the parent's code."""
        code = 1
        try:
            end_with_parent(self._parent)
            for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends these to all; the parent decides for each
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            child.run()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            log.exception("cannot go on")
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)

    def _reap(self) -> None:
        """Handle every child that has ended, and kill those that are late."""
        while ended := _ended():
            pid, code = ended
            for child in self._children:
                if child.pid == pid:
                    self._mourn(child, code)
        for child in self._children:
            if child.pid and child.stopped_at is not None and time.monotonic() > self._deadline(child):
                log.error("killing what does not end", process=child.name, pid=child.pid)
                child.stopped_at = None
                self._signal(signal.SIGKILL, child)

    def _deadline(self, child: _Child) -> float:
        assert child.stopped_at is not None
        return child.stopped_at + self.drain_s + BEYOND_DRAIN_S

    def _mourn(self, child: _Child, code: int) -> None:
        told, listened = child.stopped_at is not None, self.board[child.number].listening
        self._served |= listened and child.number != OPERATIONS
        child.pid = 0
        self.board.runs(child.number, 0)
        # The signal itself ends a process that is still starting. Not asked by us: the signal went to the whole group.
        if (told and code == -signal.SIGTERM) or (code == 0 and (told or self._stopping)):
            log.info("ended", process=child.name)
            if not self._stopping:
                child.failures, child.due = 0, time.monotonic()
            return
        if self._stopping:
            self._clean = False
            log.error("did not end in order", process=child.name, how=_how(code))
            return
        if code > 0 and not listened and not self._has_served():
            self._clean = False
            log.error("cannot start, so nothing does: its own lines say why", process=child.name, how=_how(code))
            self._stop()
            return
        child.failures = 0 if time.monotonic() - child.started_at > STABLE_S else child.failures + 1
        wait_s = min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (child.failures - 1)) if child.failures else 0.0
        child.due = time.monotonic() + wait_s
        log.error("ended unasked, and is started again", process=child.name, how=_how(code), wait_s=wait_s)

    def _serves(self, child: _Child) -> bool:
        return bool(child.pid) and child.stopped_at is None and self.board[child.number].listening

    def _has_served(self) -> bool:
        """Whether a worker has ever been ready. Then a failure does not mean that workers cannot start."""
        self._served |= any(self.board[number].listening for number in self.board.workers)
        return self._served

    def _go_on(self) -> None:
        """Start the children that are due, and take the next step of a stop or restart."""
        if self._stopping:
            for child in self._children:
                child.due = None
            if not any(child.pid for child in self._workers()):
                self._tell_to_end(self._children[OPERATIONS])  # the last: figures and readiness until then
            return
        for child in self._children:
            if child.due is not None and time.monotonic() >= child.due:
                self._start(child)
        if self._rolling and all(self._serves(child) for child in self._workers()):
            self._tell_to_end(self._children[self._rolling.pop(0)], END_ONE_WORKER)

    def _tell_to_end(self, child: _Child, how: signal.Signals = END_WORKER) -> None:
        if child.pid and child.stopped_at is None:
            child.stopped_at = time.monotonic()
            self._signal(how if child.number else END_OPERATIONS, child)

    def _signal(self, number: signal.Signals, *children: _Child) -> None:
        for child in children:
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, number)


def reserve(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    """Bind a port that processes can share, with one socket for each address of `host`.

    The sockets do not listen, so they get no clients. They keep the port for us. A `port` of 0 takes a free one. With
    `shared`, other programs may have bound it already.

    Raises CannotStart.
    """
    if not shared and port:
        for probe in _bind(host, port, reuse_port=False):
            probe.close()
    return _bind(host, port, reuse_port=True)


def listen_at(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets that the current operations process takes connections from. Raises CannotStart."""
    bound = _bind(host, port, reuse_port=False)
    for one in bound:
        one.listen(128)
    return bound


def _bind(host: str, port: int, *, reuse_port: bool) -> list[socket.socket]:
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            chosen = bound[0].getsockname()[1] if bound else port
            one = _bind_one(family, (address[0], chosen, *address[2:]), reuse_port=reuse_port)
            bound += [one] if one else []
    except OSError as error:
        for one in bound:
            one.close()
        raise CannotStart(f"port {port} on {host} cannot be used: {error.strerror or error}") from None
    if not bound:
        raise CannotStart(f"port {port} on {host} cannot be used: this machine has no such address")
    return bound


def _bind_one(family: int, address: tuple[Any, ...], *, reuse_port: bool) -> socket.socket | None:
    """Bind one address, as asyncio would: skip an address that this machine does not have (mostly IPv6)."""
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # even if old connections are in TIME_WAIT
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRNOTAVAIL:
            return None
        raise
    return bound


def _ended() -> tuple[int, int] | None:
    """Return a child that has ended, or None: its id, and its exit code or minus its signal."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
