"""Do auth's background work: read the keys that other processes made, and delete expired rows."""

import asyncio
import contextlib

from sqlalchemy.exc import SQLAlchemyError

from beaconfire_auth.attempts import Attempts
from beaconfire_auth.keys import Keys
from beaconfire_auth.revocations import Revocations
from beaconfire_auth.seal import KeysUnusable
from beaconfire_auth.successors import Successors
from beaconfire_kit import broker, logs
from beaconfire_kit.database import LOOK_AGAIN_S, DatabaseAway

log = logs.get(__name__)

EVERY_S = 5.0


class Upkeep:
    """Opens the secrets that are in the database, and keeps them and the counts of attempts up to date."""

    def __init__(self, keys: Keys, successors: Successors, attempts: Attempts, revocations: Revocations) -> None:
        self._keys = keys
        self._successors = successors
        self._attempts = attempts
        self._revocations = revocations

    async def open_if_possible(self) -> None:
        """Open the secrets, or leave it to `run` while the database is away. Raises KeysUnusable."""
        with contextlib.suppress(DatabaseAway):
            await self._open()

    async def run(self) -> None:
        """Do it every `EVERY_S` seconds, forever; more often until the secrets are open."""
        while True:
            broker.check_cancelled()
            await asyncio.sleep(EVERY_S if self._are_open else LOOK_AGAIN_S)
            try:
                await (self._keys.refresh() if self._are_open else self._open())
                await self._keys.destroy_old()
                await self._attempts.forget()
                await self._revocations.forget()
            except (DatabaseAway, SQLAlchemyError, OSError, KeysUnusable) as error:
                log.warning("could not read the keys again, going on with those known", error=str(error)[:300])

    @property
    def _are_open(self) -> bool:
        return self._keys.are_open and self._successors.are_open

    async def _open(self) -> None:
        """Read what signs access tokens and what refresh tokens are derived from. Raises DatabaseAway, KeysUnusable."""
        await self._keys.open()
        await self._successors.open()
