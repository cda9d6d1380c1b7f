"""`beaconfire chaos`: kill, freeze or thaw a process of the running `up`, to see that no event is lost."""

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
    """There is no such process. The text names the existing ones."""


def send_signal(folder: DataFolder, name: str, action: str) -> str:
    """Send the signal of an action (a key of SIGNALS) to a process. Return a sentence about what was done.

    Raises NoSuchPart, DataFolderUnusable.
    """
    processes = folder.running().processes
    pid = processes.get(name)
    if pid is None:
        raise NoSuchPart(f"there is no process {name!r}. The processes are {', '.join(sorted(processes))}")
    if not _is_child(pid, of=folder.holder()):
        raise NoSuchPart(f"{name} has ended, and `beaconfire up` is restarting it: try again")
    try:
        os.kill(pid, SIGNALS[action])
    except ProcessLookupError:
        raise NoSuchPart(f"{name} has just ended, and `beaconfire up` is restarting it: try again") from None
    return _DONE[action].format(name=name, pid=pid)


_DONE = {
    "kill": "{name} (process {pid}) was killed. `beaconfire up` restarts it.",
    "freeze": "{name} (process {pid}) is frozen. Its connections stay open, but it answers nothing. "
    "`beaconfire chaos thaw {name}` lets it continue.",
    "thaw": "{name} (process {pid}) continues.",
}


def _is_child(pid: int, *, of: int) -> bool:
    """Return whether this is still the process that `up` started, and not another one that got its number.

    True on systems without /proc.
    """
    if not Path("/proc/self").exists():
        return True
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return int(fields[1]) == of
