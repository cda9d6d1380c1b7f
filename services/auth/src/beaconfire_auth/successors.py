"""Derive the refresh token that follows another, so that a lost answer can be given again.

The secret is random, made once for a database and kept there under the seal of the signing keys. Every auth process
derives the same tokens from it, also after a restart. The database still holds only hashes of tokens, so neither the
database nor the secret alone yields a token.
"""

import base64
import hmac
import secrets

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from beaconfire_auth.seal import Seal
from beaconfire_auth.store import SECRETS
from beaconfire_kit import logs
from beaconfire_kit.database import Database, DatabaseAway

log = logs.get(__name__)

_NAME = "refresh_tokens"
_WHAT = "the secret of the refresh tokens"
_CONTEXT = b"beaconfire refresh token\0"


class Successors:
    """Derive refresh tokens with the secret in the database."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal
        self._secret: bytes | None = None

    @property
    def are_open(self) -> bool:
        """Whether the secret has been read. Until then `of` raises DatabaseAway."""
        return self._secret is not None

    async def open(self) -> None:
        """Read the secret, or create it if there is none. Encrypt it with the newest secret of the settings.

        Raises DatabaseAway, KeysUnusable.
        """
        this = select(SECRETS.c.sealed).where(SECRETS.c.name == _NAME)
        try:
            async with self._database.writing() as tx:
                sealed = await tx.scalar(this)
                if sealed is None:
                    sealed = self._seal.close(secrets.token_bytes(32))
                    await tx.execute(insert(SECRETS).values(name=_NAME, sealed=sealed))
                elif (renewed := self._seal.renewed(sealed, what=_WHAT)) is not None:
                    await tx.execute(update(SECRETS).where(SECRETS.c.name == _NAME).values(sealed=renewed))
        except IntegrityError:  # another process created it at the same time
            async with self._database.reading() as connection:
                sealed = (await connection.execute(this)).scalar_one()
        self._secret = self._seal.open(sealed, what=_WHAT)

    def of(self, refresh_token: str) -> str:
        """Return the refresh token that follows this one. Raises DatabaseAway before `open`."""
        if self._secret is None:
            raise DatabaseAway("the secret of the refresh tokens could not be read yet")
        derived = hmac.digest(self._secret, _CONTEXT + refresh_token.encode(), "sha256")
        return base64.urlsafe_b64encode(derived).rstrip(b"=").decode()
