"""Hash passwords with argon2id in a few threads, with a short queue.

Each hash takes tens of milliseconds and 64 MiB on purpose. Without a bound, a flood of sign-ins would use all memory
and all threads. With it, excess callers get an error and retry later, and the event loop never waits.
"""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from beaconfire_auth.settings import Settings
from beaconfire_kit import errors, metrics
from beaconfire_kit.errors import BeaconfireError

HASHED = metrics.Counter("beaconfire_auth_password_hashes_total", "Passwords hashed, by purpose.", ["purpose"])
WAITING = metrics.Gauge(
    "beaconfire_auth_password_hashes_pending", "Passwords that are being hashed or are waiting for it."
)

RETRY_AFTER_MS = 2_000
T = TypeVar("T")


class Hashing:
    """Hash and check passwords. Call `close` at the end."""

    def __init__(self, settings: Settings) -> None:
        self._hasher = PasswordHasher(time_cost=settings.argon2_time_cost, memory_cost=settings.argon2_memory_kib)
        self._threads = ThreadPoolExecutor(settings.argon2_parallel, thread_name_prefix="argon2")
        self._capacity = settings.argon2_parallel + settings.argon2_queue
        self._waiting = 0
        # Checked for unknown addresses, so that the time of an answer does not reveal which addresses are known.
        self._decoy = self._hasher.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        """Return a password's hash with salt and parameters. Raises `unavailable` if too many are waiting."""
        HASHED.labels("hash").inc()
        return await self._run(lambda: self._hasher.hash(password))

    async def check(self, hashed: str | None, password: str) -> bool:
        """Return whether the password is right. Without a hash it is wrong, after as long. Raises as `hash` does."""
        HASHED.labels("check").inc()
        right = await self._run(lambda: self._verify(hashed or self._decoy, password))
        return right and hashed is not None

    def needs_rehash(self, hashed: str) -> bool:
        """Return whether a hash was made with other costs than those of the settings."""
        return self._hasher.check_needs_rehash(hashed)

    async def close(self) -> None:
        """Wait for hashes under way. Waiting ones are cancelled."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._capacity:
            raise BeaconfireError(
                errors.UNAVAILABLE, "too many sign-ins at once, try again", retry_after_ms=RETRY_AFTER_MS
            )
        self._waiting += 1
        WAITING.set(self._waiting)
        loop = asyncio.get_running_loop()
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(future)

    def _done(self) -> None:
        self._waiting -= 1
        WAITING.set(self._waiting)

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False
