"""Create, list and revoke tokens of services. A token is shown once and is not stored."""

import hmac
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update

from beaconfire_auth.keys import Keys
from beaconfire_auth.root_kinds import RootKinds
from beaconfire_auth.settings import Settings
from beaconfire_auth.store import SERVICE_TOKENS
from beaconfire_kit import errors, logs, tokens
from beaconfire_kit.access import refusing_invalid_tokens
from beaconfire_kit.database import Database
from beaconfire_kit.errors import BeaconfireError
from beaconfire_kit.subjects import membership_of
from beaconfire_kit.tokens import LEEWAY_S, ServiceClaims, may_manage

log = logs.get(__name__)

USE_NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """The data of a service's token that operators see. `used_at` is exact to a minute."""

    id: str
    service: str
    publish: tuple[str, ...]
    kid: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A service that has shown a good token, and the patterns of the token."""

    name: str
    patterns: tuple[str, ...]
    source: str
    """The `source` of the events that report what it changes."""

    def check(self, subject: str) -> None:
        """Raise `forbidden` unless the token gives the right to change what events on this subject report.

        An id may be `*`: the right has to cover all of them then.
        """
        if not may_manage(self.patterns, subject):
            raise BeaconfireError(
                errors.FORBIDDEN, f"this service token does not allow it: issue one for {_whole(subject)}"
            )


class ServiceTokens:
    """Create, list, revoke and check tokens of services."""

    def __init__(self, settings: Settings, database: Database, keys: Keys, root_kinds: RootKinds) -> None:
        self._settings = settings
        self._database = database
        self._keys = keys
        self._root_kinds = root_kinds

    async def issue(self, service: str, publish: Sequence[str], *, expires_in_s: int) -> tuple[ServiceToken, str]:
        """Create a token for a service. Return its row and its text. Raises `bad_request`, `unavailable`."""
        kid, key = self._keys.signer
        now = datetime.now(UTC).replace(microsecond=0)
        row = ServiceToken(
            id=uuid.uuid4().hex[:16],
            service=service,
            publish=tuple(dict.fromkeys(publish)),
            kid=kid,
            created_at=now,
            expires_at=now + timedelta(seconds=expires_in_s),
        )
        claims = ServiceClaims(
            row.service, row.publish, int(row.created_at.timestamp()), int(row.expires_at.timestamp()), row.id
        )
        try:
            text = tokens.sign_service(key, kid, claims, issuer=self._settings.issuer, audience=self._settings.audience)
        except (ValueError, tokens.InvalidToken) as error:
            raise BeaconfireError(errors.BAD_REQUEST, str(error)) from None
        for pattern in row.publish:
            if why := await self._root_kinds.why_unknown(pattern.partition(".")[0]):
                raise BeaconfireError(errors.BAD_REQUEST, f"publish: {pattern}: {why}")
        if len(text) > tokens.MAX_TOKEN_BYTES:
            raise BeaconfireError(errors.BAD_REQUEST, "publish: too many patterns for one token")
        async with self._database.writing() as tx:
            await tx.execute(
                insert(SERVICE_TOKENS).values(
                    id=row.id,
                    service=row.service,
                    publish=list(row.publish),
                    kid=row.kid,
                    created_at=row.created_at,
                    expires_at=row.expires_at,
                )
            )
        log.info("issued a service token", issued_to=service, token_id=row.id)
        return row, text

    async def list(self) -> Sequence[ServiceToken]:
        """Return every token ever issued, newest first."""
        async with self._database.reading() as connection:
            newest = SERVICE_TOKENS.c.created_at.desc(), SERVICE_TOKENS.c.id
            return [_token(row) for row in await connection.execute(select(SERVICE_TOKENS).order_by(*newest))]

    async def revoke(self, token_id: str) -> None:
        """Revoke a token. Revoking it twice is not an error. Raises `not_found`."""
        async with self._database.writing() as tx:
            this = SERVICE_TOKENS.c.id == token_id
            if await tx.scalar(select(SERVICE_TOKENS.c.id).where(this)) is None:
                raise BeaconfireError(errors.NOT_FOUND, "no such service token")
            revoked = update(SERVICE_TOKENS).where(this, SERVICE_TOKENS.c.revoked_at.is_(None))
            await tx.execute(revoked.values(revoked_at=datetime.now(UTC)))
        log.info("revoked a service token", token_id=token_id)

    async def is_good(self, service: str, token_id: str) -> bool:
        """Return whether a token is this service's, not revoked and not expired. Record that it was used."""
        async with self._database.reading() as connection:
            row = (
                await connection.execute(select(SERVICE_TOKENS).where(SERVICE_TOKENS.c.id == token_id))
            ).one_or_none()
        now = datetime.now(UTC)
        if row is None or row.service != service or row.revoked_at is not None:
            return False
        if row.expires_at + timedelta(seconds=LEEWAY_S) < now:
            return False
        if row.used_at is None or now - row.used_at > USE_NOTED_EVERY:
            async with self._database.writing() as tx:
                await tx.execute(update(SERVICE_TOKENS).where(SERVICE_TOKENS.c.id == token_id).values(used_at=now))
        return True

    async def issued_to(self, text: str) -> Service:
        """Return the service with this token, an issued one. Raises `token_invalid`."""
        settings = self._settings
        with refusing_invalid_tokens(text):
            claims = tokens.verify_service(text, self._keys.public, issuer=settings.issuer, audience=settings.audience)
        if not await self.is_good(claims.service, claims.token_id):
            raise BeaconfireError(errors.TOKEN_INVALID, "the service's token was revoked")
        return Service(claims.service, claims.publish, claims.source)

    async def shown_by(self, text: str) -> Service:
        """Return the service with this token: an issued one, or one that auth's settings name. Raises `token_invalid`.

        For requests over the broker only. The tokens of the settings allow changes of members in every root.
        """
        given = text.encode(errors="surrogatepass")
        if any(hmac.compare_digest(given, one.encode()) for one in self._settings.granting):
            return Service("", (membership_of("*"),), "auth")
        return await self.issued_to(text)


def _token(row: Any) -> ServiceToken:
    return ServiceToken(
        row.id,
        row.service,
        tuple(row.publish),
        row.kid,
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.used_at,
    )


def _whole(subject: str) -> str:
    """Return the pattern of the right over all roots of the kind, or all users."""
    kind, _, *rest = subject.split(".")
    return ".".join((kind, "*", rest[0], *("*" for _ in rest[1:])))
