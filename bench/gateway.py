"""A gateway as it runs everywhere, that says on a signal how long its garbage collector stops it.

SIGUSR1 makes it collect everything three times and log the milliseconds as one line of JSON: as it is, with what was
frozen (`gc.freeze`) thawed, and with everything frozen. What was frozen before stays so afterwards.
"""

import gc
import json
import signal
import sys
import time
from types import FrameType

from services.gateway.__main__ import main

MARK = "gc_pauses_ms"


def report(_signal: int, _frame: FrameType | None) -> None:
    """Collect, and write the figures to stdout."""
    frozen = gc.get_freeze_count()
    as_it_is = _collect_ms()
    gc.unfreeze()
    tracked = len(gc.get_objects())
    thawed = _collect_ms()
    gc.freeze()
    all_frozen = _collect_ms()
    if not frozen:
        gc.unfreeze()
    pauses = {"as_it_is": as_it_is, "thawed": thawed, "frozen": all_frozen}
    sys.stdout.write(json.dumps({MARK: pauses, "objects": tracked, "frozen_before": frozen}) + "\n")
    sys.stdout.flush()


def _collect_ms() -> float:
    began = time.perf_counter()
    gc.collect()
    return 1e3 * (time.perf_counter() - began)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, report)
    main()
