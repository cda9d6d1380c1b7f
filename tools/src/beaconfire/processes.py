"""Child processes: started, stopped, killed, and read line by line. None outlives us, not even after our kill -9."""

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
"""Called with a process's name and a line of its output, on a thread of its own."""


class Process:
    """One program. After it ended, `start` starts it again, with the same command and environment.

    Its output goes to `log_path` and, where given, to `on_line`. On Linux it is killed when we end, however we end.
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
        """None while it runs or was never started; negative for a signal."""
        return self._popen.poll() if self._popen else None

    @property
    def last_lines(self) -> list[str]:
        """The end of its output since it was last started, `LAST_LINES` lines at most."""
        return list(self._last_lines)

    def start(self) -> None:
        """Start it. Does not wait for more than that. Raises OSError where the program cannot be run.

        What the handler of a signal raises meanwhile, it raises when the process can be stopped.
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
            start_new_session=True,  # Ctrl-C in the terminal reaches us, and we stop everything in order
        )
        assert self._popen.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._popen.stdout,), name=f"reads {self.name}")
        self._reader.daemon = True
        self._reader.start()

    def terminate(self) -> None:
        """Ask it to end in order (SIGTERM). Does not wait."""
        self._was_told = True
        self._signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end and for the end of its output. False where it still runs then."""
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
        """End it in order, and by force after `timeout_s` seconds.

        One that was told to end is not told again: our services end at once when they are asked twice.
        """
        if not self._was_told:
            self.terminate()
        if not self.wait(timeout_s):
            self.kill()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL), and wait for that."""
        self._signal(signal.SIGKILL)
        self.wait(10)

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): connections stay open and nothing answers. On Linux it stands still on return, or
        FREEZE_S seconds are over."""
        self._signal(signal.SIGSTOP)
        until = time.monotonic() + FREEZE_S
        while self.pid is not None and not _is_stopped(self.pid) and time.monotonic() < until:
            time.sleep(0.001)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._signal(signal.SIGCONT)

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
    """Call the handlers of signals at the end of the block only: raising from within `Popen`, one would leave a process
    that nobody knows of. Blocking the signals would do it, too, but the process would inherit that."""
    handlers = {number: handler for number in _INTERRUPTING if callable(handler := signal.getsignal(number))}
    held: list[int] = []
    try:
        with ExitStack() as stack:
            if threading.current_thread() is threading.main_thread():  # handlers run in no other
                for number, handler in handlers.items():
                    signal.signal(number, lambda number, _frame: held.append(number))
                    stack.callback(signal.signal, number, handler)
            yield
    finally:
        for late in held:
            handlers[signal.Signals(late)](late, None)


def _is_stopped(pid: int) -> bool:
    """Whether all threads of a process are stopped: a busy machine lets some go on for a while. True without /proc."""
    threads = Path(f"/proc/{pid}/task")
    return not threads.is_dir() or all(_state(one) in "TtZX" for one in threads.iterdir())


def _state(thread: Path) -> str:
    """A letter of proc(5); X for one that is gone."""
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _command_ending_with_us() -> list[str]:
    # One from a short-lived thread would end with that.
    tied = sys.platform == "linux" and threading.current_thread() is threading.main_thread()
    return [sys.executable, "-I", "-S", parent_death.__file__, str(os.getpid())] if tied else []


def _inherited() -> dict[str, str]:
    """Our environment without the settings of services: a child has those it is given, and no others by accident."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BEACONFIRE_")}
