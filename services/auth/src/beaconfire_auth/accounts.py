"""Users and how they prove themselves: passwords (argon2id), access tokens, refresh tokens that rotate."""

import hashlib
import secrets
import time
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
from beaconfire_auth.settings import Settings
from beaconfire_auth.store import REFRESH_TOKENS, USERS, next_membership_version
from beaconfire_auth.successors import Successors
from beaconfire_kit import errors, logs, metrics, tokens
from beaconfire_kit.access import REFUSED, refusing_invalid_tokens
from beaconfire_kit.database import Database, current_time
from beaconfire_kit.envelope import Envelope, Metadata
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.events.user import AccessRevoked
from beaconfire_kit.outbox import Outbox
from beaconfire_kit.tokens import SERVICE_TYPE, Claims, ServiceClaims

log = logs.get(__name__)

SIGN_INS = metrics.Counter("beaconfire_auth_sign_ins_total", "Attempts to sign in, by result.", ["result"])

REFRESHES = metrics.Counter("beaconfire_auth_refreshes_total", "Attempts to refresh a token, by result.", ["result"])
GRACE = timedelta(seconds=10)
"""How long a used refresh token still yields its family's newest: a lost answer, a second tab, a repeated request."""


@dataclass(frozen=True, slots=True)
class User:
    """A user as others may see it."""

    id: str
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a user holds after signing in."""

    user: User
    access_token: str
    expires_in_s: int
    refresh_token: str


class Accounts:
    """Every change is one transaction; hashing happens in threads, so the loop never waits for it."""

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
        """Make a user and sign it in. Raises `conflict` for an address that is taken."""
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
        """Check a password. Raises `bad_credentials`, the same for an unknown address and a wrong password."""
        async with self._database.reading() as connection:
            found = await users_with_email(connection, address)
        row = await self._user_with_password(found, password)
        if row is None:
            SIGN_INS.labels("refused").inc()
            log.info("refused sign-in", user=found[0].id if found else None)
            raise BeaconfireError(errors.BAD_CREDENTIALS, "unknown e-mail address or wrong password")
        # Costs may have been raised since: else a wrong password would be answered sooner than an unknown address.
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
        """The one of these users whose password it is. Without any, it takes as long as with one."""
        if not found:
            await self._hashing.check(None, password)
        for row in found:
            if await self._hashing.check(row.password_hash, password):
                return row
        return None

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Exchange a refresh token for a new pair. Raises `token_invalid`.

        A used token yields the family's newest refresh token for `GRACE`, however often it is repeated. After that, a
        used token shows that two parties hold a copy of it: the whole family is revoked, and both must sign in again.
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
                # A process of a version before this one used it: that one made a successor of its own.
                return await self._issue_next_pair(tx, row, refresh_token, now)
            if row is not None and row.used_at is not None:
                await tx.execute(delete(REFRESH_TOKENS).where(REFRESH_TOKENS.c.family == row.family))
                log.warning("a refresh token was used twice: revoked its family", user=row.user_id)
        REFRESHES.labels("refused").inc()
        raise BeaconfireError(errors.TOKEN_INVALID, "the refresh token is not valid: sign in again")

    async def sign_out(self, refresh_token: str, *, everywhere: bool, correlation_id: str) -> None:
        """Revoke a refresh token's family; `everywhere`, all of the user's, and every access token issued so far.

        An unknown token is no error: who signs out wants to be out.
        """
        async with self._database.writing() as tx:
            found = select(REFRESH_TOKENS).where(REFRESH_TOKENS.c.hash == _hash(refresh_token))
            row = (await tx.execute(found)).one_or_none()
            if row is None:
                return
            if everywhere:
                await tx.execute(delete(REFRESH_TOKENS).where(REFRESH_TOKENS.c.user_id == row.user_id))
                await self._revoke_access(tx, row.user_id, correlation_id)
            else:
                await tx.execute(delete(REFRESH_TOKENS).where(REFRESH_TOKENS.c.family == row.family))
        self._outbox.wake()
        log.info("signed out", user=row.user_id, everywhere=everywhere)

    async def identify(self, token: str) -> Claims:
        """Who an access token belongs to. Raises `token_invalid`, or `unavailable` without an outside issuer's keys."""
        with refusing_invalid_tokens():
            claims = await self._outside_users.verify(token) or self._verify(token)
        if claims.outside:
            await self._outside_users.add_once(claims.user_id, claims.name, claims.email)
        if await self.is_revoked(claims.user_id, claims.issued_at):
            raise BeaconfireError(errors.TOKEN_INVALID, REFUSED)
        return claims

    async def identify_any(self, token: str) -> Claims | ServiceClaims:
        """As `identify`, of a user's or a service's token. Whether a service's was revoked is not seen here."""
        with refusing_invalid_tokens():
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
        """Whether a token of this user and age is refused; so is every token of a user that does not exist."""
        async with self._database.reading() as connection:
            issued_before = await connection.scalar(select(USERS.c.issued_before).where(USERS.c.id == user_id))
        return issued_before is None or issued_at < issued_before

    async def user(self, user_id: str) -> User:
        """A user. Raises `not_found`."""
        async with self._database.reading() as connection:
            row = (await connection.execute(select(USERS).where(USERS.c.id == user_id))).one_or_none()
        if row is None:
            raise BeaconfireError(errors.NOT_FOUND, "no such user")
        return User(row.id, row.name, row.email)

    async def _sign_in(self, tx: AsyncConnection, user: User) -> SignedIn:
        """A new pair of tokens, the first of a family."""
        refresh_token = secrets.token_urlsafe(32)
        await self._keep(tx, refresh_token, family=uuid.uuid4().hex, user_id=user.id, now=await current_time(tx))
        return await self._signed_in(tx, user, refresh_token)

    async def _issue_next_pair(self, tx: AsyncConnection, row: Any, refresh_token: str, now: datetime) -> SignedIn:
        """A new pair of tokens, after one that is used up."""
        successor = self._successors.of(refresh_token)
        await self._keep(tx, successor, family=row.family, user_id=row.user_id, now=now)
        return await self._signed_in(tx, _user(row), successor)

    async def _keep(self, tx: AsyncConnection, refresh_token: str, *, family: str, user_id: str, now: datetime) -> None:
        """Write a refresh token down. The user's tokens that ran out are forgotten on the way."""
        mine = REFRESH_TOKENS.c.user_id == user_id
        await tx.execute(delete(REFRESH_TOKENS).where(mine, REFRESH_TOKENS.c.expires_at < now))
        expires_at = now + timedelta(seconds=self._settings.refresh_token_ttl_s)
        row = {"hash": _hash(refresh_token), "family": family, "user_id": user_id, "expires_at": expires_at}
        await tx.execute(insert(REFRESH_TOKENS).values(**row))

    async def _newest(self, tx: AsyncConnection, row: Any, refresh_token: str) -> str | None:
        """The unused token that a used one of its family leads to, or None if its successors were not derived."""
        # Its successors alone: a family may be used for a month. They were used later, unless a clock was set back.
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
        """A new access token, beside a refresh token that is written down."""
        settings = self._settings
        # Read here, and not where the password was checked: a sign-out everywhere may have come in between.
        issued_before = await _issued_before(tx, user.id)
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

    async def _revoke_access(self, tx: AsyncConnection, user_id: str, correlation_id: str) -> None:
        # Tokens know whole seconds: the second that runs now is revoked to its end, and a token issued later in it is
        # dated into the next one (`not_before`). So the next revocation, which may come in the same second, must reach
        # beyond the last.
        issued_before = max(int(time.time()), await _issued_before(tx, user_id)) + 1
        await tx.execute(update(USERS).where(USERS.c.id == user_id).values(issued_before=issued_before))
        event = AccessRevoked(
            user_id=user_id,
            issued_before=datetime.fromtimestamp(issued_before, UTC),
            reason="signed_out_everywhere",
            membership_version=await next_membership_version(tx),
        )
        metadata = Metadata(source="auth", user_id=user_id, correlation_id=correlation_id)
        await self._outbox.add(tx, [Envelope(event, metadata)])


async def _issued_before(tx: AsyncConnection, user_id: str) -> int:
    """Read with a lock on the user, on databases whose writers do not wait for one another anyway."""
    return await tx.scalar(select(USERS.c.issued_before).where(USERS.c.id == user_id).with_for_update()) or 0


def _user(row: Any) -> User:
    """The user in a row that has a refresh token's columns, too."""
    return User(row.user_id, row.name, row.email)


def _email_taken() -> BeaconfireError:
    return BeaconfireError(errors.CONFLICT, "this e-mail address has an account already")


def _hash(refresh_token: str) -> str:
    """Refresh tokens have 256 random bits: a plain hash is enough, and can be looked up."""
    return hashlib.sha256(refresh_token.encode()).hexdigest()
