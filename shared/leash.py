"""Become another program that ends when its parent does, however that ends: `python leash.py PARENT PROGRAM ARGS…`.

Linux only. `preexec_fn` would do the same and is not safe in a process with threads; this is a program of its own for
that reason, and imports nothing of ours.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; survives exec


def main() -> None:
    """Ask for the signal, then exec. Ends with 1 where the parent is gone already."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.execvp(program[0], program)  # noqa: S606  (a list, no shell)


if __name__ == "__main__":
    main()
