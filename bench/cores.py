"""Set the cores and limits that child processes inherit."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CORES = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
"""The cores that this process may use."""


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Run everything that the block starts on this core only: 0 or 1, if there are two. None means all cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES if core is None else {CORES[core % len(CORES)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_open_files() -> None:
    """Allow as many open files as the machine permits, here and in child processes. Each client needs one."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
