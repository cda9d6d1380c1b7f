"""The gateway with one of its safeguards switched off, to see that the checker notices: `SABOTAGE` says which."""

import asyncio
import os
from typing import Any

from beaconfire_gateway import __main__ as gateway
from beaconfire_gateway.sessions.gateway import Gateway
from beaconfire_gateway.stream.intake import Event, Intake
from beaconfire_gateway.stream.sequence import Sequence


def _without_resume() -> None:
    """Every client begins at the gateway's position, whatever its cursor says."""

    def start(self: Gateway, _cursor: str | None) -> tuple[int, None]:
        return self.position, None

    Gateway.find_start = start  # type: ignore[assignment,method-assign]


def _without_hole_check() -> None:
    """What is heard is delivered, whatever is missing below it."""

    def hear(self: Sequence[Any], offset: int, message: Any) -> bool:
        if self.position is None:
            self._held[offset] = message
            return False
        if offset > self.position:
            self.position = offset
            self._deliver(offset, message)
        return True

    Sequence.hear = hear  # type: ignore[method-assign]
    Sequence.hole = property(lambda _self: None)  # type: ignore[assignment]


def _without_silence_probe() -> None:
    """Nobody asks whether the stream goes on behind the last event heard."""

    async def wait(self: Intake) -> Event:
        await asyncio.Event().wait()
        return Event.PROBE_DUE

    Intake._wait = wait  # type: ignore[method-assign]


SABOTAGES = {
    "resume": _without_resume,
    "holes": _without_hole_check,
    "silence": _without_silence_probe,
}

if __name__ == "__main__":
    SABOTAGES[os.environ["SABOTAGE"]]()
    gateway.main()
