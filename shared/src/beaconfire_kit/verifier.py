"""Verify tokens locally, with the keys of auth and of outside issuers, fetched as JWKS when needed.

An unknown key is fetched, and known keys are read again once a minute. So a rotation and the end of a key are both
noticed without a restart. While an issuer is away, its keys stay as they are.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence

import aiohttp

from beaconfire_kit import logs, tokens
from beaconfire_kit.fetching import FetchFailed, fetch
from beaconfire_kit.settings import OutsideIssuer
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


class KeySource:
    """The keys of one issuer.

    They are fetched when first needed, when a token names an unknown one, and once they are old.

    A flood of unknown keys costs one fetch every `refetch_s` seconds. Callers in between are answered from the known
    keys. While there are no keys at all, a failed fetch is the answer for `NO_KEYS_S` seconds.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        algorithms: Sequence[str],
        *,
        refetch_s: float,
        max_age_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = url
        self._algorithms = algorithms
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
                    await self._read()  # if cancelled, it counts for no caller: the next one reads
                    self._fetches += 1
                    self._tried_at = self._monotonic()
        except TimeoutError:
            log.warning("waited too long for the JWKS", url=self._url)
        if not self.keys:
            raise JwksUnavailable("the token service is not reachable")

    def _is_due(self) -> bool:
        return self._monotonic() - self._tried_at >= (self._refetch_s if self.keys else NO_KEYS_S)

    async def _read(self) -> None:
        try:
            body = await fetch(self._http, self._url, max_bytes=MAX_JWKS_BYTES, timeout_s=FETCH_TIMEOUT_S)
            self.keys = tokens.read_jwks(json.loads(body), self._algorithms)
        except FetchFailed as error:
            log.warning("could not fetch the JWKS", url=self._url, error=str(error))
        except (ValueError, RecursionError) as error:
            log.warning("the JWKS cannot be read", url=self._url, error=str(error)[:200])


class Verifier:
    """Verify tokens with the keys of auth and of outside issuers.

    Verified tokens are remembered until they run out or their key is gone (an EdDSA check takes 0.3 ms),
    `cache_size` of them. It does not notice revocation: ask auth, or listen to `access_revoked`.
    """

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
        self._issuer = issuer
        self._audience = audience

        def source(url: str, algorithms: Sequence[str]) -> KeySource:
            return KeySource(http, url, algorithms, refetch_s=refetch_s, max_age_s=max_age_s, monotonic=monotonic)

        self._own = source(jwks_url, (ALGORITHM,))
        self._outside: dict[str, tuple[OutsideIssuer | None, KeySource]] = {
            one.issuer: (one, source(one.jwks_url, one.algorithms)) for one in outside
        }
        self._sources = {one.name: self._outside[one.issuer][1] for one in outside}
        self._cache_size = cache_size
        self._clock = clock
        # By digest: it has 32 bytes, and no token is kept in memory.
        self._cache: dict[bytes, Claims | ServiceClaims] = {}

    async def verify(self, token: str) -> Claims:
        """Return the claims of a user's valid token.

        Raises InvalidToken, also for a service's token. Raises JwksUnavailable if no key could be fetched at all.
        """
        claims = await self.verify_any(token)
        if not isinstance(claims, Claims):
            raise InvalidToken("a service's token is not a user's")
        return claims

    async def verify_service(self, token: str) -> ServiceClaims:
        """Return the claims of a service's valid token; `ServiceClaims` names other checks. Raises as `verify` does."""
        claims = await self.verify_any(token)
        if not isinstance(claims, ServiceClaims):
            raise InvalidToken("a user's token is not a service's")
        return claims

    async def verify_any(self, token: str) -> Claims | ServiceClaims:
        """Return the claims of a user's or a service's valid token. Raises as `verify` does."""
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        remembered = self._cache.get(digest)
        if remembered is not None:
            await self._source_of(remembered).keep_fresh()
            return self._recall(digest, remembered)
        peek = tokens.peek(token)
        outside, source = self._outside.get(peek.issuer, (None, self._own))
        await source.keep_fresh()
        try:
            claims = self._check(token, peek.type, source, outside)
        except UnknownKey:
            await source.fetch()
            claims = self._check(token, peek.type, source, outside)
        if len(self._cache) >= self._cache_size:
            self._cache.clear()  # simple, and rare: each token is verified once more
        self._cache[digest] = claims
        return claims

    def forget(self) -> None:
        """Forget all verified tokens, so that each is verified again."""
        self._cache.clear()

    def _recall(self, digest: bytes, claims: Claims | ServiceClaims) -> Claims | ServiceClaims:
        if self._clock() < claims.expires_at + LEEWAY_S and claims.key_id in self._source_of(claims).keys:
            return claims
        self._cache.pop(digest, None)
        raise InvalidToken("expired, or its key is retired")

    def _source_of(self, claims: Claims | ServiceClaims) -> KeySource:
        return self._sources[claims.outside] if isinstance(claims, Claims) and claims.outside else self._own

    def _check(
        self, token: str, type_: str, source: KeySource, outside: OutsideIssuer | None
    ) -> Claims | ServiceClaims:
        if outside is not None:
            return tokens.verify_outside(token, source.keys, outside)
        check = tokens.verify_service if type_ == SERVICE_TYPE else tokens.verify
        return check(token, source.keys, issuer=self._issuer, audience=self._audience)
