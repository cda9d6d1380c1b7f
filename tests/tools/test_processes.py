"""beaconfire.processes: children are read, stopped, and never outlive us."""

import signal
import subprocess
import sys
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from beaconfire.processes import Process
from tests.tools.terminal import have_ended

FOREVER = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}"


class Child(Process):
    """A Python child whose lines can be waited for."""

    def __init__(self, folder: Path, script: str, **environment: str) -> None:
        self.lines: Queue[str] = Queue()
        super().__init__(
            "child",
            [sys.executable, "-c", script],
            environment=environment,
            log_path=folder / "child.log",
            on_line=lambda _name, line: self.lines.put(line),
        )

    def next_line(self) -> str:
        return self.lines.get(timeout=10)


def test_its_lines_are_read_and_kept(tmp_path: Path) -> None:
    """Each line reaches `on_line` and the log file, and the last ones are at hand after the end."""
    child = Child(tmp_path, "print('one'); print('two'); raise SystemExit(3)")

    child.start()

    assert child.wait(10)
    assert [child.next_line(), child.next_line()] == ["one", "two"]
    assert child.last_lines == ["one", "two"]
    assert child.exit_code == 3
    assert (tmp_path / "child.log").read_text() == "one\ntwo\n"


def test_stopping_is_sigterm_first(tmp_path: Path) -> None:
    """A child that listens to SIGTERM ends by it."""
    child = Child(tmp_path, FOREVER)
    child.start()
    child.next_line()

    child.stop(10)

    assert child.exit_code == -signal.SIGTERM


def test_interrupted_while_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C at the very moment of a start is heard, and what was started can be stopped."""

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    child = Child(tmp_path, FOREVER)
    handler = signal.getsignal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        child.start()
    child.next_line()
    child.stop(10)

    assert child.exit_code == -signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is handler


def test_told_once(tmp_path: Path) -> None:
    """A child that was told to end, and is about to, is only waited for: asked twice, a service drops everything."""
    child = Child(
        tmp_path,
        "import signal; term = {signal.SIGTERM}; signal.pthread_sigmask(signal.SIG_BLOCK, term);"
        "print('up', flush=True);"
        "signal.sigwait(term); print('told', flush=True); raise SystemExit(9 if signal.sigtimedwait(term, 1) else 0)",
    )
    child.start()
    child.next_line()

    child.terminate()
    assert child.next_line() == "told"
    child.stop(10)

    assert child.exit_code == 0


def test_a_stubborn_child_is_killed(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed when its time is over."""
    child = Child(tmp_path, STUBBORN)
    child.start()
    child.next_line()

    child.stop(0.1)

    assert child.exit_code == -signal.SIGKILL


def test_it_can_be_started_again(tmp_path: Path) -> None:
    """After a kill the same object starts the same program."""
    child = Child(tmp_path, FOREVER)
    child.start()
    child.next_line()
    child.kill()

    child.start()

    assert child.next_line() == "up"
    assert child.is_running
    child.kill()


def test_stopping_what_never_ran_is_nothing(tmp_path: Path) -> None:
    """A set that failed half-way can be stopped as a whole."""
    Child(tmp_path, FOREVER).stop()


def test_our_own_settings_do_not_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child has the BEACONFIRE_ variables it is given and none of ours."""
    monkeypatch.setenv("BEACONFIRE_PORT", "1")
    child = Child(
        tmp_path, "import os; print(sorted(n for n in os.environ if n.startswith('BEACONFIRE')))", BEACONFIRE_HOST="h"
    )

    child.start()

    assert child.next_line() == "['BEACONFIRE_HOST']"
    assert child.wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does this on Linux only")
def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """After kill -9 of the parent no child is left, not even one that ignores SIGTERM."""
    parent = Child(
        tmp_path,
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from beaconfire.processes import Process\n"
        f"grandchild = Process('g', [sys.executable, '-c', {STUBBORN!r}], log_path=Path({str(tmp_path)!r}) / 'g.log',\n"
        "    on_line=lambda name, line: print(line, grandchild.pid, flush=True))\n"
        "grandchild.start()\n"
        "signal.pause()\n",
    )
    parent.start()
    word, pid = parent.next_line().split()
    assert word == "up"

    parent.kill()

    assert have_ended({int(pid)})
