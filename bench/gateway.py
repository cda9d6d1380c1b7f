"""A normal gateway that reports on a signal how long its garbage collector stops it.

SIGUSR2 stops it from freezing sessions (`gc.freeze`); objects from the start stay frozen. SIGUSR1 makes it collect
everything three times: as it is, with nothing frozen, and with everything frozen. It logs the milliseconds as one line
of JSON, and freezes sessions again from then on.
"""

import gc
import json
import signal
import sys
import time
from types import FrameType

from beaconfire_gateway.__main__ import main
from beaconfire_gateway.process import gc_tuning

MARK = "gc_pauses_ms"
STEP = gc_tuning.STEP


def hold(_signal: int, _frame: FrameType | None) -> None:
    """Stop freezing sessions."""
    gc_tuning.STEP = sys.maxsize


def report(_signal: int, _frame: FrameType | None) -> None:
    """Collect, and write the times to stdout."""
    gc_tuning.STEP = STEP
    frozen = gc.get_freeze_count()
    watched = len(gc.get_objects())
    as_it_is = _collect_ms()
    gc.unfreeze()
    thawed = _collect_ms()
    gc.freeze()
    pauses = {"as_it_is": as_it_is, "thawed": thawed, "frozen": _collect_ms()}
    sys.stdout.write(json.dumps({MARK: pauses, "watched": watched, "frozen_before": frozen}) + "\n")
    sys.stdout.flush()


def _collect_ms() -> float:
    """Return the CPU time of a full collection. Time that other programs take from the core is not included."""
    began = time.thread_time()
    gc.collect()
    return 1e3 * (time.thread_time() - began)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, report)
    signal.signal(signal.SIGUSR2, hold)
    main()
