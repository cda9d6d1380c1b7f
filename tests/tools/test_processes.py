"""Child processes are read, stopped, and never outlive their parent."""

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


def test_childs_lines_reach_the_callback_and_the_log_file(tmp_path: Path) -> None:
    child = Child(tmp_path, "print('one'); print('two'); raise SystemExit(3)")

    child.start()

    assert child.wait(10)
    assert [child.next_line(), child.next_line()] == ["one", "two"]
    assert child.last_lines == ["one", "two"]
    assert child.exit_code == 3
    assert (tmp_path / "child.log").read_text() == "one\ntwo\n"


def test_child_that_handles_sigterm_ends_by_it(tmp_path: Path) -> None:
    child = Child(tmp_path, FOREVER)
    child.start()
    child.next_line()

    child.stop(10)

    assert child.exit_code == -signal.SIGTERM


def test_interrupt_during_a_start_is_raised_and_the_child_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    child = Child(tmp_path, FOREVER)
    # A shell without job control starts what runs in the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        with pytest.raises(KeyboardInterrupt):
            child.start()
        child.next_line()
        child.stop(10)

        assert child.exit_code == -signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_child_that_is_already_ending_gets_no_second_signal(tmp_path: Path) -> None:
    """A service that gets two drops its clients at once."""
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


def test_child_that_ignores_sigterm_is_killed_in_time(tmp_path: Path) -> None:
    child = Child(tmp_path, STUBBORN)
    child.start()
    child.next_line()

    child.stop(0.1)

    assert child.exit_code == -signal.SIGKILL


def test_killed_child_can_be_started_again(tmp_path: Path) -> None:
    child = Child(tmp_path, FOREVER)
    child.start()
    child.next_line()
    child.kill()

    child.start()

    assert child.next_line() == "up"
    assert child.is_running
    child.kill()


def test_stopping_a_process_that_never_ran_does_nothing(tmp_path: Path) -> None:
    Child(tmp_path, FOREVER).stop()


def test_child_gets_only_the_beaconfire_variables_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEACONFIRE_PORT", "1")
    child = Child(
        tmp_path, "import os; print(sorted(n for n in os.environ if n.startswith('BEACONFIRE')))", BEACONFIRE_HOST="h"
    )

    child.start()

    assert child.next_line() == "['BEACONFIRE_HOST']"
    assert child.wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does this on Linux only")
def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """A child that ignores SIGTERM ends, too."""
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
