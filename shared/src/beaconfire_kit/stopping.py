"""End a process on SIGTERM or SIGINT, from its first moment on.

Process 1 of a container ignores a signal that has no handler yet. A process started by `nohup`, or in the background of
a script, inherits that SIGINT is ignored. So each of our programs calls `exit_on_signal` before it imports anything
that takes time. `beaconfire_kit.serving` handles the signals once the service needs an orderly stop.

So this module imports no other module of ours, and little else.
"""

import os
import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def exit_on_signal(code: int | None = 0) -> None:
    """Exit with this code at SIGTERM or SIGINT. With None, end as a process without a handler does.

    Use it before a process starts any work that needs an orderly stop. Signals that our parent blocked until now, so
    that none was lost, arrive now.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        if code is None:
            exit_as_unhandled(number)
        else:
            os._exit(code)

    for number in SIGNALS:
        signal.signal(number, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def exit_as_unhandled(number: int) -> None:
    """End as a signal ends a process without a handler. Process 1 ends with the exit code that shells use for that."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)
