"""`beaconfire chaos`: kill, freeze or thaw a part of the running `up`, to see that nothing is lost."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from beaconfire.data_folder import DataFolder

SIGNALS: Mapping[str, signal.Signals] = {
    "kill": signal.SIGKILL,
    "freeze": signal.SIGSTOP,
    "thaw": signal.SIGCONT,
}


class NoSuchPart(Exception):
    """There is no such process. The text names those there are."""


def send_signal(folder: DataFolder, name: str, deed: str) -> str:
    """Do it, one of SIGNALS, to the part of that name. Returns what was done, in a sentence.

    Raises NoSuchPart, DataFolderUnusable.
    """
    processes = folder.running().processes
    pid = processes.get(name)
    if pid is None:
        raise NoSuchPart(f"there is no part {name!r}; there are {', '.join(sorted(processes))}")
    if not _is_child(pid, of=folder.holder()):
        raise NoSuchPart(f"{name} has ended, and `up` is starting it again: try again")
    try:
        os.kill(pid, SIGNALS[deed])
    except ProcessLookupError:
        raise NoSuchPart(f"{name} has just ended, and `up` is starting it again: try again") from None
    return _DONE[deed].format(name=name, pid=pid)


_DONE = {
    "kill": "{name} (process {pid}) was killed as by a crash; `up` starts it again",
    "freeze": "{name} (process {pid}) stands still: its connections stay open and nothing answers. "
    "`beaconfire chaos thaw {name}` lets it go on",
    "thaw": "{name} (process {pid}) goes on",
}


def _is_child(pid: int, *, of: int) -> bool:
    """Whether it is still the process that `up` started: its number may have been given to another. True without
    /proc."""
    if not Path("/proc/self").exists():
        return True
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return int(fields[1]) == of
