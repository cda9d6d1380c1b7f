"""Ask the broker what the admin page shows of it: the stream's ends, and the dead letters."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import nats.errors
from nats.aio.client import Client

from beaconfire.admin.settings import Settings
from beaconfire.deadletters import CannotRead, Letter, explaining, there
from beaconfire_kit import broker, errors
from beaconfire_kit.broker import DEADLETTER_PREFIX, DEADLETTERS, STREAM
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.seams.nats_connection import PublishDenied

ANSWER_S = 3.0
CONNECT_S = 1.0
"""How long the start waits for the broker."""
MAX_LETTERS = 200
"""The newest letters are shown. `beaconfire deadletters --last` shows more."""


@dataclass(frozen=True, slots=True)
class State:
    """The stream at one moment, and how many dead letters there are."""

    epoch: str
    first: int
    last: int
    messages: int
    bytes: int
    replicas: int
    leader: str
    dead_letters: Mapping[str, int]
    """By reason."""
    newest_letter: int


class Stream:
    """The broker, as its user `operator` sees it. It may be away at any time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._nc: Client | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Connect, and stay connected in the block. A broker that is away is waited for in the background."""
        connecting = asyncio.create_task(self._connect(), name="connect to the broker")
        try:
            await asyncio.wait((connecting,), timeout=CONNECT_S)
            yield
        finally:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            if self._nc is not None:
                await broker.close(self._nc)

    async def state(self) -> State:
        """Raises BeaconfireError if the broker is away or does not answer."""
        events, letters = await asyncio.gather(
            self._info(STREAM, {}), self._info(DEADLETTERS, {"subjects_filter": f"{DEADLETTER_PREFIX}>"})
        )
        state, cluster = events["state"], events.get("cluster") or {}
        return State(
            epoch=broker.epoch_of(events["config"]),
            first=int(state["first_seq"]),
            last=int(state["last_seq"]),
            messages=int(state["messages"]),
            bytes=int(state["bytes"]),
            replicas=int(events["config"]["num_replicas"]),
            leader=str(cluster.get("leader", "")),
            dead_letters={
                subject.removeprefix(DEADLETTER_PREFIX): int(count)
                for subject, count in (letters["state"].get("subjects") or {}).items()
            },
            newest_letter=int(letters["state"]["last_seq"]),
        )

    async def letters(self) -> Sequence[Letter]:
        """Return the newest dead letters, the newest first. Raises BeaconfireError."""
        nc, newest = self._there(), (await self.state()).newest_letter
        try:
            async with asyncio.timeout(ANSWER_S):
                with explaining(self._settings):
                    letters = there(nc, None, after=max(0, newest - MAX_LETTERS))
                    found = [Letter.of(message) async for message in letters]
        except CannotRead as error:
            raise BeaconfireError(errors.BROKER_UNAVAILABLE, str(error)) from None
        except TimeoutError:
            raise _away() from None
        return found[::-1]

    async def _connect(self) -> None:
        def lost() -> None:
            self._nc = None

        self._nc = await broker.connect(self._settings, "admin", on_closed=lost)

    def _there(self) -> Client:
        if self._nc is None or not self._nc.is_connected:
            raise _away()
        return self._nc

    async def _info(self, stream: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            body = json.dumps(request).encode()
            answer = await self._there().request(f"$JS.API.STREAM.INFO.{stream}", body, timeout=ANSWER_S)
        except PublishDenied:
            user = self._settings.nats_user
            raise BeaconfireError(errors.FORBIDDEN, f"the broker user {user} may not see the streams") from None
        except nats.errors.Error:
            raise _away() from None
        info: dict[str, Any] = json.loads(answer.data)
        if "error" in info:
            raise BeaconfireError(
                errors.BROKER_UNAVAILABLE, f"the broker has no stream {stream}: run `beaconfire setup`"
            )
        return info


def _away() -> BeaconfireError:
    return BeaconfireError(errors.BROKER_UNAVAILABLE, "the broker does not answer")
