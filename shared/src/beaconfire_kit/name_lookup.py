"""Look up the address of a host, in a thread for each name.

await NameLookup().check("broker.example", 4222, timeout_s=2.0)

A lookup cannot be cancelled. If no name server answers, it takes minutes. asyncio looks names up in the few threads of
the event loop's executor, which all clients of the process share. A client that tries the same name every two seconds
soon occupies all of these threads, and then no other name is found.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Thread


class NameNotFound(OSError):
    """No name server answered in time."""


class NameLookup:
    """Looks names up. For each name, only one lookup runs at a time, and callers wait for it together."""

    def __init__(self, resolve: Callable[[str, int], object] = socket.getaddrinfo) -> None:
        """`resolve` blocks, and raises OSError if there is no such name."""
        self._resolve = resolve
        self._running: dict[str, asyncio.Future[None]] = {}

    async def check(self, host: str, port: int, *, timeout_s: float) -> None:
        """Return when the name was found. An address needs no lookup.

        Raises NameNotFound if no name server has answered after `timeout_s` seconds. Raises OSError if there is no such
        name.
        """
        if _is_address(host):
            return
        found = self._running.get(host) or self._begin(host, port)
        await asyncio.wait((found,), timeout=timeout_s)
        if not found.done():
            raise NameNotFound(f"no name server answers for {host}: check the DNS of this machine")
        found.result()

    def _begin(self, host: str, port: int) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        found = self._running[host] = loop.create_future()

        def settle(problem: Exception | None) -> None:
            del self._running[host]
            if problem is None:
                found.set_result(None)
            else:
                found.set_exception(problem)
                found.exception()  # perhaps no caller waits any more

        def look_up() -> None:
            problem: Exception | None = None
            try:
                self._resolve(host, port)
            except (OSError, UnicodeError) as error:
                problem = error
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(partial(settle, problem))

        # A daemon, because the end of the process must not wait for a name server.
        Thread(target=look_up, name=f"look up {host}", daemon=True).start()
        return found


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
