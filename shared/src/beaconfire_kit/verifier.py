"""Verify tokens locally, with the keys of auth and of outside issuers: from a JWKS, or secrets from files.

An unknown key is fetched, and known keys are read again once a minute. So a rotation and the end of a key are both
noticed without a restart. While an issuer is away, its keys stay as they are.
"""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import aiohttp

from beaconfire_kit import logs, outside_tokens, tokens
from beaconfire_kit.fetching import FetchFailed, fetch
from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.outside_tokens import OutsideClaims
from beaconfire_kit.secret_files import Secret, read_secrets
from beaconfire_kit.tokens import (
    ALGORITHM,
    LEEWAY_S,
    SERVICE_TYPE,
    Claims,
    InvalidToken,
    Key,
    ServiceClaims,
    UnknownKey,
)

log = logs.get(__name__)

FETCH_TIMEOUT_S = 2.0
MAX_JWKS_BYTES = 256 * 1024
NO_KEYS_S = 1.0
"""How long a failed fetch counts for all callers while there are no keys at all."""


class JwksUnavailable(Exception):
    """There are no keys, so tokens can be neither accepted nor refused now. Retryable."""


ReadKeys: TypeAlias = Callable[[], Awaitable[Mapping[str, Key] | None]]
"""Reads all keys of an issuer. Returns None, and has logged why, if they cannot be read now."""


def jwks(http: aiohttp.ClientSession, url: str, algorithms: Sequence[str], *, need_kid: bool = True) -> ReadKeys:
    """Read keys from a JWKS."""

    async def read() -> Mapping[str, Key] | None:
        try:
            body = await fetch(http, url, max_bytes=MAX_JWKS_BYTES, timeout_s=FETCH_TIMEOUT_S)
            return tokens.read_jwks(json.loads(body), algorithms, need_kid=need_kid)
        except FetchFailed as error:
            log.warning("could not fetch the JWKS", url=url, error=str(error))
        except (ValueError, RecursionError) as error:
            log.warning("the JWKS cannot be read", url=url, error=str(error)[:200])
        return None

    return read


def secrets_of(issuer: OutsideIssuer) -> ReadKeys:
    """Read an issuer's secrets from its files."""

    async def read() -> Mapping[str, Key] | None:
        try:
            found = await asyncio.to_thread(read_secrets, issuer.secret_files, issuer.secret_encoding)
        except ValueError as error:
            log.warning("the secrets of an outside issuer cannot be read", issuer=issuer.name, error=str(error))
            return None
        return {_secret_id(one): one for one in found}

    return read


_SALT = secrets.token_bytes(32)


def _secret_id(secret: Secret) -> str:
    """Return a name for a secret that stays the same in this process, and tells nothing about the secret."""
    return hashlib.blake2b(secret.value, key=_SALT, digest_size=8).hexdigest()


class KeySource:
    """The keys of one issuer.

    They are read when first needed, when a token names an unknown one, and once they are old.

    A flood of unknown keys costs one reading every `refetch_s` seconds. Callers in between are answered from the known
    keys. While there are no keys at all, a failed reading is the answer for `NO_KEYS_S` seconds.
    """

    def __init__(
        self, read: ReadKeys, *, refetch_s: float, max_age_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._read_keys = read
        self._refetch_s = refetch_s
        self._max_age_s = max_age_s
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._tried_at = float("-inf")
        self._fetches = 0
        self.keys: Mapping[str, Key] = {}

    async def keep_fresh(self) -> None:
        """Read keys again if they are older than `max_age_s`. One caller does it; the others use the known keys."""
        if self.keys and not self._lock.locked() and self._monotonic() - self._tried_at > self._max_age_s:
            await self.fetch()

    async def fetch(self) -> None:
        """Read the keys, unless that was done just now. Raises JwksUnavailable if there are none at all.

        Callers that come while the keys are being read share that fetch and its outcome.
        """
        seen = self._fetches
        try:
            async with asyncio.timeout(2 * FETCH_TIMEOUT_S), self._lock:
                if seen == self._fetches and self._is_due():
                    # If it is cancelled, it counts for no caller: the next one reads.
                    self.keys = await self._read_keys() or self.keys
                    self._fetches += 1
                    self._tried_at = self._monotonic()
        except TimeoutError:
            log.warning("waited too long for the keys of an issuer")
        if not self.keys:
            raise JwksUnavailable("the token service is not reachable")

    def _is_due(self) -> bool:
        return self._monotonic() - self._tried_at >= (self._refetch_s if self.keys else NO_KEYS_S)


class _Issuer(NamedTuple):
    """Where the keys of one issuer are, and how one of its tokens of some `typ` is checked with them."""

    source: KeySource
    check: Callable[[str, str, Mapping[str, Key]], Claims | ServiceClaims]


class OutsideVerifier:
    """Verify tokens of outside issuers.

    Verified tokens are remembered until they run out or their key is gone (an EdDSA check takes 0.3 ms),
    `cache_size` of them. It does not notice revocation: ask auth, or listen to `access_revoked`.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        issuers: Sequence[OutsideIssuer],
        *,
        refetch_s: float = 5.0,
        max_age_s: float = 60.0,
        cache_size: int = 20_000,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._refetch_s = refetch_s
        self._max_age_s = max_age_s
        self._cache_size = cache_size
        self._clock = clock
        self._monotonic = monotonic
        self._issuers: dict[str, _Issuer] = {}
        """By `iss`."""
        for one in issuers:
            read = jwks(http, one.jwks_url, one.algorithms, need_kid=one.require_kid)
            self._add(one.issuer, read if one.jwks_url else secrets_of(one), _check_of(one))
        # By digest: it has 32 bytes, and no token is kept in memory.
        self._cache: dict[bytes, tuple[Claims | ServiceClaims, _Issuer]] = {}

    def knows(self, issuer: str) -> bool:
        """Return whether tokens with this `iss` are accepted."""
        return issuer in self._issuers

    async def verify(self, token: str) -> Claims:
        """Return the claims of a user's valid token.

        Raises InvalidToken, also for a service's token. Raises JwksUnavailable if no key could be read at all.
        """
        claims = await self.verify_any(token)
        if not isinstance(claims, Claims):
            raise InvalidToken("a service's token is not a user's", "wrong_type")
        return claims

    async def verify_any(self, token: str) -> Claims | ServiceClaims:
        """Return the claims of a user's or a service's valid token. Raises as `verify` does."""
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        if (remembered := self._cache.get(digest)) is not None:
            claims, issuer = remembered
            await issuer.source.keep_fresh()
            if claims.key_id in issuer.source.keys and self._clock() < claims.expires_at + LEEWAY_S:
                return claims
            self._cache.pop(digest, None)
            if claims.key_id in issuer.source.keys:
                name = claims.outside if isinstance(claims, OutsideClaims) else ""
                raise InvalidToken("exp is in the past", "expired", issuer=name)
        claims, issuer = await self._check(token)
        if len(self._cache) >= self._cache_size:
            self._cache.clear()  # simple, and rare: each token is verified once more
        self._cache[digest] = claims, issuer
        return claims

    def forget(self) -> None:
        """Forget all verified tokens, so that each is verified again."""
        self._cache.clear()

    def _add(
        self, issuer: str, read: ReadKeys, check: Callable[[str, str, Mapping[str, Key]], Claims | ServiceClaims]
    ) -> None:
        source = KeySource(read, refetch_s=self._refetch_s, max_age_s=self._max_age_s, monotonic=self._monotonic)
        self._issuers[issuer] = _Issuer(source, check)

    async def _check(self, token: str) -> tuple[Claims | ServiceClaims, _Issuer]:
        peek = tokens.peek(token)
        issuer = self._issuers.get(peek.issuer)
        if issuer is None:
            raise InvalidToken("iss is no accepted issuer", "unknown_issuer", issuer="unknown")
        source = issuer.source
        await source.keep_fresh()
        try:
            return issuer.check(token, peek.type, source.keys), issuer
        except UnknownKey:
            await source.fetch()
        return issuer.check(token, peek.type, source.keys), issuer


class Verifier(OutsideVerifier):
    """Verify tokens of auth, and of outside issuers."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        jwks_url: str,
        *,
        issuer: str,
        audience: str,
        outside: Sequence[OutsideIssuer] = (),
        refetch_s: float = 5.0,
        max_age_s: float = 60.0,
        cache_size: int = 20_000,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            http,
            outside,
            refetch_s=refetch_s,
            max_age_s=max_age_s,
            cache_size=cache_size,
            clock=clock,
            monotonic=monotonic,
        )

        def check(token: str, type_: str, keys: Mapping[str, Key]) -> Claims | ServiceClaims:
            verify = tokens.verify_service if type_ == SERVICE_TYPE else tokens.verify
            return verify(token, keys, issuer=issuer, audience=audience)

        self._add(issuer, jwks(http, jwks_url, (ALGORITHM,)), check)

    async def verify_service(self, token: str) -> ServiceClaims:
        """Return the claims of a service's valid token; `ServiceClaims` names other checks. Raises as `verify` does."""
        claims = await self.verify_any(token)
        if not isinstance(claims, ServiceClaims):
            raise InvalidToken("a user's token is not a service's", "wrong_type")
        return claims


def _check_of(issuer: OutsideIssuer) -> Callable[[str, str, Mapping[str, Key]], OutsideClaims]:
    return lambda token, _type, keys: outside_tokens.verify(token, keys, issuer)
