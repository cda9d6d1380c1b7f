"""Runs an intake on a real broker and records everything it delivers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from nats.aio.client import Client

from beaconfire_gateway.fanout.checking import Stored
from beaconfire_gateway.stream.check_schedule import SILENCE_S
from beaconfire_gateway.stream.intake import ANCHOR_EVERY_S, Intake
from beaconfire_gateway.stream.live_messages import parse_live
from beaconfire_gateway.stream.repair import YOUNG_S
from beaconfire_gateway.stream.replay import Reader, ReadingPolicy
from beaconfire_kit import broker
from beaconfire_kit.seams.nats_direct import DirectClient
from tests.conftest import Broker, broker_settings
from tests.gateway.catalogues import Unchanging


class Ear:
    """An intake and everything it delivered.

    `deaf` makes its live path lose messages, as a cut route does. `again` delivers messages a second time, as a cluster
    does after it lost all its servers at once.
    """

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.subjects: dict[int, str] = {}
        self.states: list[bool] = []
        self.epochs: list[tuple[str, int]] = []
        self.gaps: list[int] = []
        self.story: list[tuple[str, int]] = []
        """Everything in order: `event` with its offset, `gap` or `epoch` with the position."""
        self.client = DirectClient()
        self.deaf: Callable[[int], bool] = lambda _offset: False
        self.again: Callable[[int], bool] = lambda _offset: False
        self.intake: Intake
        self._moved = asyncio.Event()

    def deliver(self, offset: int, stored: Stored) -> None:
        self.offsets.append(offset)
        self.story.append(("event", offset))
        self.subjects[offset] = stored.subject
        self._moved.set()

    def begin(self, epoch: str, position: int) -> None:
        self.epochs.append((epoch, position))
        self.story.append(("epoch", position))

    def lose(self, position: int) -> None:
        self.gaps.append(position)
        self.story.append(("gap", position))

    async def reach(self, offset: int) -> None:
        """Wait until the position is at `offset`."""
        async with asyncio.timeout(30):
            while self.intake.position < offset:
                self._moved.clear()
                await self._moved.wait()

    async def told(self, alive: bool) -> None:
        """Wait until the last state reported of the broker is `alive`."""
        async with asyncio.timeout(30):
            while not self.states or self.states[-1] is not alive:
                await asyncio.sleep(0.01)

    def assert_no_silent_jump(self) -> None:
        """Check that each offset follows the one before, or a gap or epoch reported right before it."""
        kind, position = self.story[0]
        assert kind == "epoch"
        for kind, offset in self.story[1:]:
            assert kind != "event" or offset == position + 1, f"{offset} after {position}: {self.gaps} {self.epochs}"
            position = offset

    def assert_whole(self, end: int) -> None:
        """Check that every offset from the first to `end` was delivered once, in order."""
        assert self.offsets == list(range(self.offsets[0], end + 1))


@asynccontextmanager
async def listening(
    server: Broker,
    *,
    history_s: float = 60.0,
    silence_s: float = SILENCE_S,
    young_s: float = YOUNG_S,
    anchor_every_s: float = ANCHOR_EVERY_S,
    reading: ReadingPolicy | None = None,
) -> AsyncIterator[Ear]:
    """Run an intake as the gateway does; yields when it is ready."""
    ear = Ear()

    async def reconnected() -> None:
        ear.intake.reconnected()

    nc = await broker.connect(
        broker_settings(server, "gateway"),
        "test-intake",
        client=ear.client,
        on_closed=lambda: pytest.fail("closed"),
        on_reconnected=reconnected,
    )
    ear.intake = Intake(
        ear.client,
        Reader(ear.client, reading),
        Unchanging(),
        deliver=ear.deliver,
        on_state=ear.states.append,
        on_epoch=ear.begin,
        on_gap=ear.lose,
        history_s=history_s,
        silence_s=silence_s,
        young_s=young_s,
        anchor_every_s=anchor_every_s,
    )
    hear = ear.intake._hear

    def lossy(subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        ours = parse_live(subject, body, headers)
        offset = ours and ours[0]
        if offset is None or not ear.deaf(offset):
            for _ in range(1 + (offset is not None and ear.again(offset))):
                hear(subject, reply, body, headers)

    ear.intake._hear = lossy  # type: ignore[assignment,method-assign]
    task = asyncio.create_task(ear.intake.run())
    try:
        async with asyncio.timeout(15):
            while not ear.intake.ready:
                await asyncio.sleep(0.01)
        yield ear
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await broker.close(nc)


async def publish(nc: Client, count: int, *, prefix: str = "m") -> int:
    """Publish `count` messages, each until it is acknowledged; returns the last offset."""
    last = 0
    for number in range(count):
        last = await broker.publish(
            nc, f"campaign.c1.settlement.s{number}", b"{}", message_id=f"{prefix}{number}", attempt_timeout_s=0.5
        )
    return last


def while_reading(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Awaitable[object]], *, times: int = 1) -> None:
    """Run `happens` before each of the first `times` reads of the stream; the reads themselves are real."""
    left = [times]

    def after(real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def read(*args: Any, **kwargs: Any) -> Any:
            if left[0]:
                left[0] -= 1
                await happens()
            return await real(*args, **kwargs)

        return read

    monkeypatch.setattr(Reader, "get", after(Reader.get))
    monkeypatch.setattr(Reader, "read", after(Reader.read))
