"""Kill a process when its parent ends, even if the parent is killed. Linux only.

Also a program: `python parent_death.py PARENT PROGRAM ARGS…` ties itself to PARENT and becomes PROGRAM. `preexec_fn`
would do the same, but it is not safe in a process with threads. It is started as a file, so it imports nothing of ours.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; survives exec, and is not inherited


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its `parent` ends. Exit with 1 if the parent is already gone.

    For the kernel the parent is a thread: a process that a short-lived thread started ends with that thread.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    # The program does not inherit signals that `nohup` or a script in the background ignores.
    for interrupting in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interrupting, signal.SIG_DFL)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  (a list, no shell)
