"""Tells where objects lie in memory."""

from pathlib import Path


def is_apart(one: object) -> bool:
    """Whether an object lies in the C library's heap, and not in an arena of Python's."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("[heap]"):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            return start <= id(one) < end
    return False
