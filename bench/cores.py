"""The machine's cores and limits, as child processes inherit them."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
"""The cores we may use, as they were given to us."""


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started in the block runs on this core alone: 0 or 1, where there are two at least. None: on all."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES if core is None else {CORES[core % len(CORES)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_open_files() -> None:
    """As many open files as the machine allows, for us and all that we start: each client is one."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
