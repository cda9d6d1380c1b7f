"""When a live intake must look at the stream: after silence, on an alarm, or in doubt whether it is still the same."""

import asyncio
import random
import time

SILENCE_S = 1.0
JITTER_S = 0.2
"""Added to SILENCE_S at random, so that of several gateways one ticks first, and its tick serves all."""
VERIFY_EVERY_S = 1.0
"""Messages that arrive a second time make the intake verify the stream at most this often."""


class CheckSchedule:
    """The intake's clock and alarm. One for each intake."""

    def __init__(self, *, silence_s: float = SILENCE_S) -> None:
        self._silence_s = silence_s
        self.heard_at = 0.0
        """When a live message arrived last (monotonic seconds)."""
        self.fresh_at = float("-inf")
        """When the position was last known to be the end of the stream (monotonic seconds)."""
        self._verified_at = float("-inf")
        self._in_doubt = False
        self._alarm = asyncio.Event()

    @property
    def must_verify(self) -> bool:
        """Whether a doubt is due to be settled."""
        return self._in_doubt and self._verify_at() <= time.monotonic()

    @property
    def in_doubt(self) -> bool:
        """Whether the stream may be another one than the intake heard."""
        return self._in_doubt

    def alarm(self) -> None:
        """End `wait` at once."""
        self._alarm.set()

    def doubt(self) -> None:
        """Verify the stream soon, at most every VERIFY_EVERY_S. Call it right after `heard_at` was set."""
        self._in_doubt = True
        if self._verify_at() <= self.heard_at:
            self._alarm.set()

    def doubt_now(self) -> None:
        """Verify the stream at once."""
        self._in_doubt = True
        self._verified_at = float("-inf")
        self._alarm.set()

    def begin_verifying(self) -> None:
        """Forget the doubts until now. Doubts that come meanwhile make it verify again."""
        self._in_doubt = False

    def end_verifying(self, *, is_settled: bool) -> None:
        """Take note whether it is known now which stream this is."""
        if is_settled:
            self._verified_at = time.monotonic()
        else:
            self._in_doubt = True

    async def wait(self) -> None:
        """Wait for an alarm, for silence, or until a doubt is due."""
        while not self._alarm.is_set():
            wait_s = self._wait_s()
            if wait_s <= 0:
                return
            try:
                async with asyncio.timeout(wait_s):
                    await self._alarm.wait()
            except TimeoutError:
                continue
        self._alarm.clear()

    def _wait_s(self) -> float:
        due_at = max(self.heard_at, self.fresh_at) + self._silence_s + random.random() * JITTER_S  # noqa: S311
        if self._in_doubt:
            due_at = min(due_at, self._verify_at())
        return due_at - time.monotonic()

    def _verify_at(self) -> float:
        return self._verified_at + VERIFY_EVERY_S
