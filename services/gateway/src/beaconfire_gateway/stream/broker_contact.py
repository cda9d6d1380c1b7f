"""Ask the broker for the intake, and notice whether the broker answers.

This is the second, smaller state machine beside `intake`: *answering* and *degraded*. A tick without acknowledgement,
or a question without answer for a second, makes it degraded. It answers again once no message is known to be missing.
"""

import asyncio
from collections.abc import Callable

from beaconfire_gateway.stream.replay import Reader
from beaconfire_kit import broker, logs, metrics

log = logs.get(__name__)

DEGRADED = metrics.Gauge(
    "beaconfire_gateway_degraded", "1 while the broker does not answer the gateway's checks (ticks), otherwise 0."
)

RETRY_S = 0.1
FIRST_PATIENCE_S = 0.25


class BrokerContact:
    """Asks the broker. `on_state(answers)` is called when it stops or starts to answer."""

    def __init__(self, reader: Reader, on_state: Callable[[bool], None]) -> None:
        self._reader = reader
        self._on_state = on_state
        self.answers = True

    async def find_end(self) -> int | None:
        """Find where the stream ends, by a tick. None, after a pause, if the broker does not acknowledge it."""
        end = await self._reader.find_end()
        if end is None:
            await self.fail()
        return end

    async def stream_state(self) -> broker.StreamState:
        """Ask the stream for its state until it answers.

        The first question waits only briefly. If a route was cut while it was on the way, it is lost, but the next one
        is not.
        """
        patience_s, most_s = FIRST_PATIENCE_S, self._reader.policy.tick_s
        while True:
            broker.check_cancelled()
            try:
                async with asyncio.timeout(patience_s):
                    return await self._reader.stream_state()
            except TimeoutError:
                if patience_s >= most_s:
                    self._set(False)
                patience_s = min(2 * patience_s, most_s)

    async def fail(self) -> None:
        """Degrade, and pause before the next attempt."""
        self._set(False)
        await asyncio.sleep(RETRY_S)

    def recover(self) -> None:
        """Note that the broker answered, and that no message is known to be missing."""
        self._set(True)

    def _set(self, answers: bool) -> None:
        if answers != self.answers:
            self.answers = answers
            DEGRADED.set(not answers)
            if answers:
                log.info("the broker answers again")
            else:
                log.warning("the broker does not answer")
            self._on_state(answers)
