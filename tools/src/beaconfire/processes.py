"""Start, stop and kill child processes, and read their output line by line. On Linux no child outlives us."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from beaconfire_kit import parent_death

LAST_LINES = 12
FREEZE_S = 5.0
_INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

OnLine = Callable[[str, str], None]
"""Called with a process's name and a line of its output, on another thread."""


class Process:
    """One program. `start` may be called again after it has ended, with the same command and environment.

    Its output goes to `log_path`, and to `on_line` if given. On Linux it is killed when we end, even by kill -9.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        on_line: OnLine | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.environment = dict(environment or {})
        self.log_path = log_path
        self._on_line = on_line
        self._popen: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._was_told = False

    @property
    def pid(self) -> int | None:
        return self._popen.pid if self._popen else None

    @property
    def is_running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while the process runs or was never started. Negative if a signal ended it."""
        return self._popen.poll() if self._popen else None

    @property
    def last_lines(self) -> list[str]:
        """The end of its output since the last start, at most `LAST_LINES` lines."""
        return list(self._last_lines)

    def start(self) -> None:
        """Start the process without waiting for it. Raises OSError if the program cannot be run.

        If a signal handler raises an exception meanwhile, it is raised once the process can be stopped.
        """
        with _signals_deferred():
            self._start()

    def _start(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._last_lines.clear()
        self._was_told = False
        self._popen = subprocess.Popen(
            [*_command_ending_with_us(), *self.command],
            env={**_inherited(), **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only us, and we stop everything in order
        )
        assert self._popen.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._popen.stdout,), name=f"reads {self.name}")
        self._reader.daemon = True
        self._reader.start()

    def terminate(self) -> None:
        """Ask the process to stop (SIGTERM). Does not wait."""
        self._was_told = True
        self._signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the process and of its output. Return False if it still runs after `timeout_s`."""
        if self._popen is None:
            return True
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        if self._reader:
            self._reader.join(timeout=5)
        return True

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop the process. Kill it after `timeout_s` seconds.

        A process that was already asked to stop is not asked again: our services end at once at the second signal.
        """
        if not self._was_told:
            self.terminate()
        if not self.wait(timeout_s):
            self.kill()

    def kill(self) -> None:
        """Kill the process as a crash would (SIGKILL), and wait for its end."""
        self._signal(signal.SIGKILL)
        self.wait(10)

    def freeze(self) -> None:
        """Freeze the process (SIGSTOP). Its connections stay open, but it answers nothing.

        On Linux this returns when all its threads are stopped, or after FREEZE_S seconds.
        """
        self._signal(signal.SIGSTOP)
        until = time.monotonic() + FREEZE_S
        while self.pid is not None and not _is_stopped(self.pid) and time.monotonic() < until:
            time.sleep(0.001)

    def thaw(self) -> None:
        """Let a frozen process continue."""
        self._signal(signal.SIGCONT)

    def hang_up(self) -> None:
        """Send SIGHUP, at which some programs read their configuration again."""
        self._signal(signal.SIGHUP)

    def _signal(self, number: signal.Signals) -> None:
        if self.is_running and self._popen is not None:
            self._popen.send_signal(number)

    def _read(self, output: IO[bytes]) -> None:
        with output, self.log_path.open("ab", buffering=0) as log:
            for raw in output:
                log.write(raw)
                line = raw.decode(errors="replace").rstrip()
                self._last_lines.append(line)
                if self._on_line:
                    self._on_line(self.name, line)


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Call signal handlers only at the end of the block.

    A handler that raises an exception inside `Popen` would leave a process that we do not know. Blocking the signals
    would also work, but the process would inherit that.
    """
    handlers = {number: handler for number in _INTERRUPTING if callable(handler := signal.getsignal(number))}
    held: list[int] = []
    try:
        with ExitStack() as stack:
            if threading.current_thread() is threading.main_thread():  # handlers run only there
                for number, handler in handlers.items():
                    signal.signal(number, lambda number, _frame: held.append(number))
                    stack.callback(signal.signal, number, handler)
            yield
    finally:
        for late in held:
            handlers[signal.Signals(late)](late, None)


def _is_stopped(pid: int) -> bool:
    """Return whether all threads of a process are stopped: on a busy machine some run on. True without /proc."""
    threads = Path(f"/proc/{pid}/task")
    return not threads.is_dir() or all(_state(one) in "TtZX" for one in threads.iterdir())


def _state(thread: Path) -> str:
    """Return a thread's state, a letter of proc(5). X if the thread is gone."""
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _command_ending_with_us() -> list[str]:
    # A process that a short-lived thread starts would end with that thread.
    tied = sys.platform == "linux" and threading.current_thread() is threading.main_thread()
    return [sys.executable, "-I", "-S", parent_death.__file__, str(os.getpid())] if tied else []


def _inherited() -> dict[str, str]:
    """Return our environment without settings of services: a child gets only the settings that it is given."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BEACONFIRE_")}
