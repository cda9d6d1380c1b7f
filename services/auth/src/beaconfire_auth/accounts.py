"""Sign users up and in: passwords (argon2id), access tokens, and refresh tokens that rotate."""

import hashlib
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from beaconfire_auth.email_addresses import EmailAddress
from beaconfire_auth.hashing import Hashing
from beaconfire_auth.keys import Keys
from beaconfire_auth.outside_users import OutsideUsers
from beaconfire_auth.people import store_canonical_email, users_with_email
from beaconfire_auth.revocations import issued_before_of, revoke_tokens
from beaconfire_auth.settings import Settings
from beaconfire_auth.store import REFRESH_TOKENS, USERS
from beaconfire_auth.successors import Successors
from beaconfire_kit import errors, logs, metrics, tokens
from beaconfire_kit.access import REFUSED, refusing_invalid_tokens
from beaconfire_kit.database import Database, current_time
from beaconfire_kit.envelope import Metadata
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.outside_tokens import OutsideClaims
from beaconfire_kit.tokens import SERVICE_TYPE, Claims, ServiceClaims

log = logs.get(__name__)

SIGN_INS = metrics.Counter("beaconfire_auth_sign_ins_total", "Attempts to sign in, by result.", ["result"])

REFRESHES = metrics.Counter("beaconfire_auth_refreshes_total", "Attempts to refresh a token, by result.", ["result"])
GRACE = timedelta(seconds=10)
"""How long a used refresh token still yields the newest of its family: after a lost answer, or for a second tab."""


@dataclass(frozen=True, slots=True)
class User:
    """The data of a user that other users may see."""

    id: str
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The answer to a sign-in."""

    user: User
    access_token: str
    expires_in_s: int
    refresh_token: str


class Accounts:
    """Sign users up, in and out. Every change is one transaction. Hashing happens in threads, not in the event loop."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        outbox: Outbox,
        *,
        keys: Keys,
        successors: Successors,
        hashing: Hashing,
        outside_users: OutsideUsers,
    ) -> None:
        self._settings = settings
        self._database = database
        self._outbox = outbox
        self._keys = keys
        self._successors = successors
        self._hashing = hashing
        self._outside_users = outside_users

    async def sign_up(self, address: EmailAddress, password: str, name: str) -> SignedIn:
        """Create a user and sign it in. Raises `conflict` if the address has an account."""
        hashed = await self._hashing.hash(password)
        user = User(uuid.uuid4().hex[:16], name, address.shown)
        row = {
            "id": user.id,
            "email": address.shown,
            "canonical_email": address.canonical,
            "name": name,
            "password_hash": hashed,
            "issued_before": 0,
        }
        try:
            async with self._database.writing() as tx:
                if await users_with_email(tx, address):
                    raise _email_taken()
                await tx.execute(insert(USERS).values(**row, created_at=datetime.now(UTC)))
                signed_in = await self._sign_in(tx, user)
        except IntegrityError:
            raise _email_taken() from None
        log.info("signed up", user=user.id)
        return signed_in

    async def sign_in(self, address: EmailAddress, password: str) -> SignedIn:
        """Check a password and sign the user in. Raises `bad_credentials`, also for an unknown address."""
        async with self._database.reading() as connection:
            found = await users_with_email(connection, address)
        row = await self._user_with_password(found, password)
        if row is None:
            SIGN_INS.labels("refused").inc()
            log.info("refused sign-in", user=found[0].id if found else None)
            raise BeaconfireError(errors.BAD_CREDENTIALS, "unknown e-mail address or wrong password")
        # Costs may have been raised since. A wrong password would then be answered sooner than an unknown address.
        old = self._hashing.needs_rehash(row.password_hash)
        hashed = await self._hashing.hash(password) if old else row.password_hash
        async with self._database.writing() as tx:
            if old:
                this = USERS.c.id == row.id, USERS.c.password_hash == row.password_hash
                await tx.execute(update(USERS).where(*this).values(password_hash=hashed))
            await store_canonical_email(tx, row)
            signed_in = await self._sign_in(tx, User(row.id, row.name, row.email))
        SIGN_INS.labels("accepted").inc()
        log.info("signed in", user=row.id)
        return signed_in

    async def _user_with_password(self, found: Sequence[Any], password: str) -> Any | None:
        """Return the user with this password, or None. Without any user, it takes as long as with one."""
        if not found:
            await self._hashing.check(None, password)
        for row in found:
            if await self._hashing.check(row.password_hash, password):
                return row
        return None

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Exchange a refresh token for a new pair. Raises `token_invalid`.

        A used token yields the family's newest refresh token for `GRACE`, however often it is repeated. After that, a
        used token shows that two parties have a copy of it. The whole family is revoked, and both must sign in again.
        """
        async with self._database.writing() as tx:
            now = await current_time(tx)
            found = select(REFRESH_TOKENS, USERS).join(USERS, REFRESH_TOKENS.c.user_id == USERS.c.id)
            this = found.where(REFRESH_TOKENS.c.hash == _hash(refresh_token)).with_for_update()
            row = (await tx.execute(this)).one_or_none()
            if row is not None and row.used_at is None and row.expires_at > now:
                used = update(REFRESH_TOKENS).where(REFRESH_TOKENS.c.hash == row.hash)
                await tx.execute(used.values(used_at=now))
                REFRESHES.labels("accepted").inc()
                return await self._issue_next_pair(tx, row, refresh_token, now)
            # A clock that was set back must not keep the window open.
            if row is not None and row.used_at is not None and abs(now - row.used_at) <= GRACE:
                REFRESHES.labels("repeated").inc()
                newest = await self._newest(tx, row, refresh_token)
                if newest is not None:
                    return await self._signed_in(tx, _user(row), newest)
                # A process of an earlier version used it, and created a successor of its own.
                return await self._issue_next_pair(tx, row, refresh_token, now)
            if row is not None and row.used_at is not None:
                await tx.execute(delete(REFRESH_TOKENS).where(REFRESH_TOKENS.c.family == row.family))
                log.warning("a refresh token was used twice: revoked its family", user=row.user_id)
        REFRESHES.labels("refused").inc()
        raise BeaconfireError(errors.TOKEN_INVALID, "the refresh token is not valid: sign in again")

    async def sign_out(self, refresh_token: str, *, everywhere: bool, correlation_id: str) -> None:
        """Revoke a refresh token's family. With `everywhere`, revoke all tokens of the user, access tokens included.

        An unknown token is not an error: the client wanted to be signed out.
        """
        async with self._database.writing() as tx:
            found = select(REFRESH_TOKENS).where(REFRESH_TOKENS.c.hash == _hash(refresh_token))
            row = (await tx.execute(found)).one_or_none()
            if row is None:
                return
            if everywhere:
                metadata = Metadata(source="auth", user_id=row.user_id, correlation_id=correlation_id)
                await revoke_tokens(tx, self._outbox, row.user_id, "signed_out_everywhere", metadata=metadata)
            else:
                await tx.execute(delete(REFRESH_TOKENS).where(REFRESH_TOKENS.c.family == row.family))
        self._outbox.wake()
        log.info("signed out", user=row.user_id, everywhere=everywhere)

    async def identify(self, token: str) -> Claims:
        """Return the claims of a user's token. Raises `token_invalid`, or `unavailable` without an issuer's keys."""
        with refusing_invalid_tokens(token):
            claims = await self._outside_users.verify(token) or self._verify(token)
        if isinstance(claims, OutsideClaims):
            await self._outside_users.add_once(claims.user_id, claims.name, claims.email)
        if await self.is_revoked(claims.user_id, claims.issued_at):
            raise BeaconfireError(errors.TOKEN_INVALID, REFUSED)
        return claims

    async def identify_any(self, token: str) -> Claims | ServiceClaims:
        """Return the claims of a user's or a service's token. A service's token may have been revoked."""
        with refusing_invalid_tokens(token):
            if tokens.peek(token).type == SERVICE_TYPE:
                settings = self._settings
                return tokens.verify_service(
                    token, self._keys.public, issuer=settings.issuer, audience=settings.audience
                )
        return await self.identify(token)

    def _verify(self, token: str) -> Claims:
        settings = self._settings
        return tokens.verify(token, self._keys.public, issuer=settings.issuer, audience=settings.audience)

    async def is_revoked(self, user_id: str, issued_at: int) -> bool:
        """Return whether a token of this user and age is refused. Every token of an unknown user is."""
        async with self._database.reading() as connection:
            issued_before = await connection.scalar(select(USERS.c.issued_before).where(USERS.c.id == user_id))
        return issued_before is None or issued_at < issued_before

    async def user(self, user_id: str) -> User:
        """Return a user. Raises `not_found`."""
        async with self._database.reading() as connection:
            row = (await connection.execute(select(USERS).where(USERS.c.id == user_id))).one_or_none()
        if row is None:
            raise BeaconfireError(errors.NOT_FOUND, "no such user")
        return User(row.id, row.name, row.email)

    async def _sign_in(self, tx: AsyncConnection, user: User) -> SignedIn:
        """Issue a pair of tokens, the first of a family."""
        refresh_token = secrets.token_urlsafe(32)
        await self._store_refresh_token(
            tx, refresh_token, family=uuid.uuid4().hex, user_id=user.id, now=await current_time(tx)
        )
        return await self._signed_in(tx, user, refresh_token)

    async def _issue_next_pair(self, tx: AsyncConnection, row: Any, refresh_token: str, now: datetime) -> SignedIn:
        """Issue the pair of tokens that follows a used refresh token."""
        successor = self._successors.of(refresh_token)
        await self._store_refresh_token(tx, successor, family=row.family, user_id=row.user_id, now=now)
        return await self._signed_in(tx, _user(row), successor)

    async def _store_refresh_token(
        self, tx: AsyncConnection, refresh_token: str, *, family: str, user_id: str, now: datetime
    ) -> None:
        """Store a refresh token, and delete the user's expired ones."""
        mine = REFRESH_TOKENS.c.user_id == user_id
        await tx.execute(delete(REFRESH_TOKENS).where(mine, REFRESH_TOKENS.c.expires_at < now))
        expires_at = now + timedelta(seconds=self._settings.refresh_token_ttl_s)
        row = {"hash": _hash(refresh_token), "family": family, "user_id": user_id, "expires_at": expires_at}
        await tx.execute(insert(REFRESH_TOKENS).values(**row))

    async def _newest(self, tx: AsyncConnection, row: Any, refresh_token: str) -> str | None:
        """Return the unused token that this used one leads to, or None if its successors were not derived."""
        # Only its successors: a family may be used for a month. They were used later, unless a clock was set back.
        later = or_(REFRESH_TOKENS.c.used_at.is_(None), REFRESH_TOKENS.c.used_at >= row.used_at - 2 * GRACE)
        rows = await tx.execute(select(REFRESH_TOKENS).where(REFRESH_TOKENS.c.family == row.family, later))
        used = {row.hash: row.used_at is not None for row in rows}
        token = refresh_token
        for _ in used:
            token = self._successors.of(token)
            if not used.get(_hash(token), True):
                return token
        return None

    async def _signed_in(self, tx: AsyncConnection, user: User, refresh_token: str) -> SignedIn:
        """Issue an access token beside a stored refresh token."""
        settings = self._settings
        # Read here, not when the password was checked: a sign-out everywhere may have happened in between.
        issued_before = await issued_before_of(tx, user.id) or 0
        kid, key = self._keys.signer
        access_token = tokens.sign(
            key,
            kid,
            user_id=user.id,
            name=user.name,
            issuer=settings.issuer,
            audience=settings.audience,
            ttl_s=settings.access_token_ttl_s,
            not_before=issued_before,
        )
        return SignedIn(user, access_token, settings.access_token_ttl_s, refresh_token)


def _user(row: Any) -> User:
    """Return the user of a row that also has the columns of a refresh token."""
    return User(row.user_id, row.name, row.email)


def _email_taken() -> BeaconfireError:
    return BeaconfireError(errors.CONFLICT, "this e-mail address has an account already")


def _hash(refresh_token: str) -> str:
    """Hash a refresh token. It has 256 random bits, so a plain hash is enough, and can be looked up."""
    return hashlib.sha256(refresh_token.encode()).hexdigest()
