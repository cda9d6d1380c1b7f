"""Where small objects lie: those that come and go with a crowd are kept apart from the process's own.

Python takes memory for small objects from the system by the MiB, and gives a MiB back when nothing lies in it any more.
Where a crowd's objects lie between the process's own, that is never (docs/performance.md, "Memory after a crowd"). Made
inside `apart`, objects get their memory from the C library, as those of more than 512 bytes always do: it gives back
every 4 KiB that is free (`give_back`).

Python itself decides by an object's address who is to free it (`_PyObject_Free`, Objects/obmalloc.c), so one from
elsewhere is as good as any other (ADR 0019). Where its allocator is not the usual one (PYTHONMALLOC, development mode,
tracemalloc, a build without the GIL), `apart` does nothing.
"""

import ctypes
import sys
from types import TracebackType

_RAW, _MEM, _OBJECT = 0, 1, 2
"""PyMemAllocatorDomain: the C library's; buffers; objects. The last two share Python's own allocator."""


class _Allocator(ctypes.Structure):
    """PyMemAllocatorEx."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]


class Apart:
    """A context manager: objects made inside it, by whoever, lie apart. Not around an `await`.

    It costs 2 to 3 microseconds, and may be entered again inside itself. What is thrown away at once is better made
    outside: among it, what stays would be scattered, and the garbage collector take longer.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._usual = _allocator(_OBJECT)
        raw = _allocator(_RAW)
        usual = self._usual
        self._apart = _Allocator(raw.ctx, raw.malloc, raw.calloc, usual.realloc, usual.free)
        self._is_possible = _is_usual_python()

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth == 1 and self._is_possible and _allocator(_OBJECT).malloc == self._usual.malloc:
            _set(self._apart)

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0 and self._is_possible and _allocator(_OBJECT).malloc == self._apart.malloc:
            _set(self._usual)


def give_back() -> None:
    """Give free memory back to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _is_usual_python() -> bool:
    """Whether small objects are Python's own allocator's, without anything in between."""
    name = getattr(ctypes.pythonapi, "_PyMem_GetCurrentAllocatorName", None)
    if name is None or sys.platform != "linux":
        return False
    name.restype = ctypes.c_char_p
    return bool(name() == b"pymalloc")


def _allocator(domain: int) -> _Allocator:
    found = _Allocator()
    ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(found))
    return found


def _set(allocator: _Allocator) -> None:
    for domain in (_MEM, _OBJECT):
        ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(allocator))


apart = Apart()
