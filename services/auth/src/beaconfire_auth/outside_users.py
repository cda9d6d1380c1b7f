"""Verify tokens of outside issuers, and make a row for each of their users when auth first hears of the user.

Such a user has no password and can be a member like any other. The e-mail address is copied if the issuer has checked
it and no user here has it. Otherwise the user gets an address that no mail reaches (RFC 2606), so that ids and
addresses stay unique.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import aiohttp
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from beaconfire_auth.email_addresses import EmailAddress, known_address, new_address
from beaconfire_auth.people import users_with_email
from beaconfire_auth.store import USERS
from beaconfire_kit import errors, logs, tokens
from beaconfire_kit.database import Database
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.names import display_name
from beaconfire_kit.settings import OutsideIssuer
from beaconfire_kit.tokens import Claims, InvalidToken, UnknownKey
from beaconfire_kit.verifier import JwksUnavailable, KeySource

log = logs.get(__name__)

REFETCH_S = 5.0
MAX_AGE_S = 60.0


class OutsideUsers:
    """Verify tokens of the outside issuers in the settings, and create rows for their users."""

    def __init__(self, issuers: Sequence[OutsideIssuer], database: Database) -> None:
        self._issuers = issuers
        self._database = database
        self._sources: dict[str, tuple[OutsideIssuer, KeySource]] = {}

    def start(self, http: aiohttp.ClientSession) -> None:
        """Start verifying. Keys are fetched when they are needed."""
        self._sources = {
            one.issuer: (one, KeySource(http, one.jwks_url, one.algorithms, refetch_s=REFETCH_S, max_age_s=MAX_AGE_S))
            for one in self._issuers
        }

    async def verify(self, token: str) -> Claims | None:
        """Return the claims of a valid token, or None if it names no outside issuer.

        Raises InvalidToken, and BeaconfireError `unavailable` if the issuer's keys cannot be read.
        """
        known = self._sources.get(tokens.peek(token).issuer) if self._sources else None
        if known is None:
            return None
        issuer, source = known
        try:
            await source.keep_fresh()
            try:
                return tokens.verify_outside(token, source.keys, issuer)
            except UnknownKey:
                await source.fetch()
                return tokens.verify_outside(token, source.keys, issuer)
        except JwksUnavailable:
            raise BeaconfireError(
                errors.UNAVAILABLE, "the token's issuer does not answer, try again", retry_after_ms=1_000
            ) from None

    async def add_from_token(self, user_id: str, token: str) -> bool:
        """Create the user of an outside issuer's token, once. Return False if it is not a valid token of this user.

        Raises BeaconfireError `unavailable` if the issuer's keys cannot be read.
        """
        try:
            claims = await self.verify(token)
        except InvalidToken as error:
            log.info("refused a token of an outside user", user=user_id, reason=str(error))
            return False
        if claims is None or claims.user_id != user_id:
            return False
        return await self.add_once(user_id, claims.name, claims.email)

    async def add_once(self, user_id: str, name: str, email: str) -> bool:
        """Create a user of an outside issuer, once. Return False if the id belongs to none of the issuers."""
        issuer = next((one for one in self._issuers if user_id.startswith((f"{one.name}-", f"{one.name}_"))), None)
        if issuer is None:
            return False
        for address in (_read(email), known_address(f"{_mailbox(user_id)}@{issuer.name}.invalid")):
            if address is not None and await self._insert(user_id, _readable(name) or user_id, address):
                log.info("first heard of an outside user", user=user_id, issuer=issuer.name)
                break
        return True

    async def _insert(self, user_id: str, name: str, address: EmailAddress) -> bool:
        """Insert the user. Return False if another user has the address. An existing user is not changed."""
        row = {
            "id": user_id,
            "email": address.shown,
            "canonical_email": address.canonical,
            "name": name,
            "password_hash": "",
            "issued_before": 0,
        }
        try:
            async with self._database.writing() as tx:
                if await tx.scalar(select(USERS.c.id).where(USERS.c.id == user_id)) is None:
                    if await users_with_email(tx, address):
                        return False
                    await tx.execute(insert(USERS).values(**row, created_at=datetime.now(UTC)))
        except IntegrityError:
            return False
        return True


def _read(email: str) -> EmailAddress | None:
    try:
        return new_address(email)
    except ValueError:
        return None


def _readable(name: str) -> str:
    """Return the name in the form in which names are shown, or an empty text if it is not a name."""
    try:
        return display_name(name)
    except ValueError:
        return ""


def _mailbox(user_id: str) -> str:
    """Return a mailbox that belongs to this user only: addresses are compared in lower case, ids are not."""
    return user_id if user_id == user_id.lower() else hashlib.sha256(user_id.encode()).hexdigest()[:40]
