"""Keep the signing keys, sealed in the database, so that all auth processes always have the same ones.

One key signs. A rotation adds the next one some time before it signs (its `lead`), so that every verifier has read it
by then. The previous key stays in the JWKS until every token that it signed has expired. Then it is destroyed. All of
this follows from times in the table, which each process reads every few seconds.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_auth.seal import KeysUnusable, Seal
from beaconfire_auth.store import SERVICE_TOKENS, SIGNING_KEYS
from beaconfire_kit import errors, logs
from beaconfire_kit.database import Database, DatabaseAway
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.tokens import LEEWAY_S, MAX_LIFETIME_S, public_jwk

log = logs.get(__name__)

KEEP_S = MAX_LIFETIME_S + 2 * LEEWAY_S
"""How long a key verifies after it stopped signing: the longest life of an access token, plus clock differences."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """The data of a key that operators see. `state` is `next`, `signing` or `verifying`; times are Unix seconds."""

    kid: str
    state: str
    created_at: int
    signs_from: int
    verifies_until: int | None
    service_tokens: int
    """Valid service tokens that it signed. The key is kept for them."""


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str
    private: Ed25519PrivateKey
    public: Ed25519PublicKey
    created_at: float
    signs_from: float
    verifies_until: float | None


class Keys:
    """The signing keys that this process knows, and how to change them."""

    def __init__(self, database: Database, seal: Seal, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._seal = seal
        self._clock = clock
        self._keys: list[_Key] = []  # oldest first

    @property
    def signer(self) -> tuple[str, Ed25519PrivateKey]:
        """The id of the key that signs now, and the key."""
        key = self._signing(self._known)
        return key.kid, key.private

    @property
    def public(self) -> dict[str, Ed25519PublicKey]:
        """All keys that verify, by id, including one that does not sign yet."""
        return {key.kid: key.public for key in self._known}

    @property
    def are_open(self) -> bool:
        """Whether the keys have been read. Until then, everything that needs one raises DatabaseAway."""
        return bool(self._keys)

    @property
    def _known(self) -> list[_Key]:
        if not self._keys:
            raise DatabaseAway("the signing keys could not be read yet")
        return self._keys

    def jwks(self) -> dict[str, Any]:
        """The document at `/.well-known/jwks.json`."""
        return {"keys": [public_jwk(kid, key) for kid, key in self.public.items()]}

    async def open(self) -> None:
        """Read the keys. Create the first one if there is none, and seal all with the newest secret.

        Raises KeysUnusable.
        """
        await self.refresh()
        await self._seal_again()
        if not self._keys:
            try:
                async with self._database.writing() as tx:
                    await self._add(tx, number=1, signs_from=self._clock())
            except IntegrityError:
                log.info("another process created the first signing key")
            await self.refresh()

    async def refresh(self) -> None:
        """Read the table again. Raises KeysUnusable, and then keeps the known keys."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(SIGNING_KEYS).order_by(SIGNING_KEYS.c.number))).all()
        known = {key.kid: key.private for key in self._keys}
        self._keys = [self._read(row, known.get(row.kid)) for row in rows]

    async def rotate(self, *, lead_s: int) -> KeyInfo:
        """Create a key that signs from `lead_s` seconds on. Raises `conflict` while an earlier one still waits to sign.

        `destroy_old` destroys the previous key once none of its tokens can be valid.
        """
        now = self._clock()
        signs_from = now + lead_s
        try:
            async with self._database.writing() as tx:
                newest = (
                    await tx.execute(select(SIGNING_KEYS).order_by(SIGNING_KEYS.c.number.desc()).limit(1))
                ).one_or_none()
                if newest is not None and newest.signs_from.timestamp() > now and lead_s > 0:
                    raise BeaconfireError(
                        errors.CONFLICT,
                        f"{newest.kid} is already waiting, and signs from {newest.signs_from:%H:%M:%S} UTC on",
                    )
                old = SIGNING_KEYS.c.verifies_until.is_(None)
                until = datetime.fromtimestamp(signs_from + KEEP_S, UTC)
                await tx.execute(update(SIGNING_KEYS).where(old).values(verifies_until=until))
                kid = await self._add(tx, number=newest.number + 1 if newest is not None else 1, signs_from=signs_from)
        except IntegrityError:
            raise BeaconfireError(errors.CONFLICT, "another operator is rotating the keys right now") from None
        await self.refresh()
        log.info("rotated the signing keys", kid=kid, lead_s=lead_s)
        return next(one for one in await self.list() if one.kid == kid)

    async def retire(self, kid: str) -> None:
        """Destroy a leaked key now. Everything that it signed becomes invalid, also service tokens.

        Verifiers forget it within a minute.

        Raises `not_found`, and `conflict` for the key that signs: rotate first.
        """
        await self.refresh()
        if kid not in {key.kid for key in self._keys}:
            raise BeaconfireError(errors.NOT_FOUND, "no such key")
        if kid == self._signing(self._keys).kid:
            raise BeaconfireError(errors.CONFLICT, "this key signs: rotate first, with a lead of 0, and then retire it")
        async with self._database.writing() as tx:
            await tx.execute(delete(SIGNING_KEYS).where(SIGNING_KEYS.c.kid == kid))
            signed = SERVICE_TOKENS.c.kid == kid, SERVICE_TOKENS.c.revoked_at.is_(None)
            at = datetime.fromtimestamp(self._clock(), UTC)
            await tx.execute(update(SERVICE_TOKENS).where(*signed).values(revoked_at=at))
        await self.refresh()
        log.warning("retired a signing key before its time", kid=kid)

    async def list(self) -> Sequence[KeyInfo]:
        """Return every key, newest first."""
        await self.refresh()
        held = await self._held()
        signing = self._signing(self._keys).kid if self._keys else None
        now = self._clock()
        return [
            KeyInfo(
                kid=key.kid,
                state="signing" if key.kid == signing else "next" if key.signs_from > now else "verifying",
                created_at=int(key.created_at),
                signs_from=int(key.signs_from),
                verifies_until=int(key.verifies_until) if key.verifies_until is not None else None,
                service_tokens=held.get(key.kid, 0),
            )
            for key in reversed(self._keys)
        ]

    async def destroy_old(self) -> None:
        """Destroy the keys whose tokens have all expired. Every process calls this every few seconds."""
        now = self._clock()
        due = {key.kid for key in self._keys if key.verifies_until is not None and key.verifies_until <= now}
        due -= set(await self._held()) if due else set()
        if due:
            async with self._database.writing() as tx:
                await tx.execute(delete(SIGNING_KEYS).where(SIGNING_KEYS.c.kid.in_(due)))
            await self.refresh()
            log.info("destroyed signing keys whose tokens have all expired", kids=sorted(due))

    async def _seal_again(self) -> None:
        async with self._database.writing() as tx:
            for row in (await tx.execute(select(SIGNING_KEYS.c.kid, SIGNING_KEYS.c.sealed))).all():
                renewed = self._seal.renewed(row.sealed, what=_what(row.kid))
                if renewed is not None:
                    await tx.execute(update(SIGNING_KEYS).where(SIGNING_KEYS.c.kid == row.kid).values(sealed=renewed))

    async def _held(self) -> dict[str, int]:
        """Count the valid service tokens that each key has signed."""
        good = select(SERVICE_TOKENS.c.kid, func.count()).where(
            SERVICE_TOKENS.c.revoked_at.is_(None),
            SERVICE_TOKENS.c.expires_at > datetime.fromtimestamp(self._clock() - LEEWAY_S, UTC),
        )
        async with self._database.reading() as connection:
            return {row[0]: row[1] for row in await connection.execute(good.group_by(SERVICE_TOKENS.c.kid))}

    async def _add(self, tx: AsyncConnection, *, number: int, signs_from: float) -> str:
        key = Ed25519PrivateKey.generate()
        kid = hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()[:16]
        await tx.execute(
            insert(SIGNING_KEYS).values(
                number=number,
                kid=kid,
                sealed=self._seal.close(key.private_bytes_raw()),
                created_at=datetime.fromtimestamp(self._clock(), UTC),
                signs_from=datetime.fromtimestamp(signs_from, UTC),
            )
        )
        return kid

    def _signing(self, keys: Sequence[_Key]) -> _Key:
        now = self._clock()
        return next((key for key in reversed(keys) if key.signs_from <= now), keys[0])

    def _read(self, row: Any, known: Ed25519PrivateKey | None) -> _Key:
        private = known or self._open(row.kid, row.sealed)
        return _Key(
            kid=row.kid,
            private=private,
            public=private.public_key(),
            created_at=row.created_at.timestamp(),
            signs_from=row.signs_from.timestamp(),
            verifies_until=row.verifies_until.timestamp() if row.verifies_until is not None else None,
        )

    def _open(self, kid: str, sealed: str) -> Ed25519PrivateKey:
        try:
            return Ed25519PrivateKey.from_private_bytes(self._seal.open(sealed, what=_what(kid)))
        except ValueError:
            raise KeysUnusable(f"{_what(kid)} in the database is not a key: restore the backup from before") from None


def _what(kid: str) -> str:
    return f"the signing key {kid}"
