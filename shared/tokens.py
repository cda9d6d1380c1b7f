"""Access tokens: signing with EdDSA, verifying against a JWKS, and fetching that JWKS.

PyJWT checks signature, times, issuer and audience. What it lets through is decided here (RELIABILITY x3, RFC 8725):
length before parsing, `typ`, the key's algorithm, a lifetime cap, types of the claims.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm

from shared import logs
from shared.subjects import is_id

log = logs.get(__name__)

ALGORITHM = "EdDSA"
TYPE = "at+jwt"  # RFC 9068 §2.1
MAX_TOKEN_BYTES = 8 * 1024  # a token of 100 KB is accepted by PyJWT; ours have 400 bytes
MAX_LIFETIME_S = 3600  # `exp` a thousand years ahead is accepted by PyJWT
LEEWAY_S = 30  # clock skew between hosts (RELIABILITY F24)


class InvalidToken(Exception):
    """A token that proves nothing. The reason is for our log; a peer is told only that the token is not valid."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified access token says. Times are Unix seconds."""

    user_id: str
    name: str
    issued_at: int
    expires_at: int
    token_id: str


def sign(
    key: Ed25519PrivateKey,
    key_id: str,
    *,
    user_id: str,
    name: str,
    issuer: str,
    audience: str,
    ttl_s: int,
    not_before: int = 0,
) -> str:
    """A new access token for a user, valid from now for `ttl_s` seconds (`MAX_LIFETIME_S` at most).

    It is dated `not_before` (Unix seconds) where that lies ahead, so that a revocation of everything issued in the
    second that runs now does not catch it. Ahead by less than `LEEWAY_S` it is accepted at once.
    """
    if not 0 < ttl_s <= MAX_LIFETIME_S:
        raise ValueError(f"a token lives 1 to {MAX_LIFETIME_S} seconds, not {ttl_s}")
    now = max(int(time.time()), not_before)
    claims = {"iss": issuer, "aud": audience, "sub": user_id, "name": name, "iat": now, "exp": now + ttl_s}
    claims["jti"] = uuid.uuid4().hex
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": key_id, "typ": TYPE})


def verify(token: str, keys: Mapping[str, Ed25519PublicKey], *, issuer: str, audience: str) -> Claims:
    """Check a token against known keys. Raises InvalidToken, whatever is wrong with it; UnknownKey for its `kid`."""
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken("too long")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError) as error:  # ValueError: a lone surrogate
        raise InvalidToken("not a JWT") from error
    if str(header.get("typ", "")).lower() != TYPE or header.get("alg") != ALGORITHM:
        raise InvalidToken("wrong typ or alg")
    key = keys.get(str(header.get("kid")))
    if key is None:
        raise UnknownKey("unknown key")
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            issuer=issuer,
            audience=audience,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iat", "sub", "aud", "iss", "jti"], "strict_aud": True},
        )
    except (jwt.InvalidTokenError, TypeError, ValueError, OverflowError) as error:
        raise InvalidToken(type(error).__name__) from error
    return _claims(claims)


class UnknownKey(InvalidToken):
    """The token names a key that is not known (yet): after a rotation the JWKS has to be fetched again."""


def _claims(claims: Mapping[str, Any]) -> Claims:
    issued_at, expires_at = claims["iat"], claims["exp"]
    if type(issued_at) is not int or type(expires_at) is not int:
        raise InvalidToken("iat and exp must be whole numbers")
    if not 0 < expires_at - issued_at <= MAX_LIFETIME_S:
        raise InvalidToken("lives too long")
    user_id, token_id, name = claims["sub"], claims["jti"], claims.get("name", "")
    if not isinstance(user_id, str) or not is_id(user_id):
        raise InvalidToken("sub is not an id")
    if not isinstance(token_id, str) or not isinstance(name, str):
        raise InvalidToken("jti and name must be strings")
    return Claims(user_id, name[:200], issued_at, expires_at, token_id)


def public_jwk(key_id: str, key: Ed25519PublicKey) -> dict[str, Any]:
    """A public key as a JWK (RFC 8037)."""
    jwk: dict[str, Any] = OKPAlgorithm.to_jwk(key, as_dict=True)
    return {
        "kty": jwk["kty"],
        "crv": jwk["crv"],
        "x": jwk["x"],
        "kid": key_id,
        "alg": ALGORITHM,
        "use": "sig",
    }


def read_jwks(document: Mapping[str, Any]) -> dict[str, Ed25519PublicKey]:
    """The Ed25519 keys of a JWKS by `kid`; other keys are passed over. Raises ValueError on a malformed document."""
    keys: dict[str, Ed25519PublicKey] = {}
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise ValueError("a JWKS has a list `keys`")
    for jwk in entries:
        if not isinstance(jwk, dict) or jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519" or "d" in jwk:
            continue
        try:
            key = OKPAlgorithm.from_jwk(jwk)
        except jwt.InvalidKeyError as error:
            raise ValueError("a JWKS key is malformed") from error
        if isinstance(key, Ed25519PublicKey) and isinstance(jwk.get("kid"), str):
            keys[jwk["kid"]] = key
    return keys


class Verifier:
    """Verifies tokens locally against auth's JWKS, fetched when first needed and when an unknown key is named.

    A flood of unknown keys costs one fetch every `refetch_s` seconds. Verified tokens are remembered until they run
    out (an EdDSA check takes 0.3 ms), `cache_size` of them.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        jwks_url: str,
        *,
        issuer: str,
        audience: str,
        refetch_s: float = 5.0,
        cache_size: int = 20_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._url = jwks_url
        self._issuer = issuer
        self._audience = audience
        self._refetch_s = refetch_s
        self._cache_size = cache_size
        self._clock = clock
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._cache: dict[str, Claims] = {}
        self._fetched_at = float("-inf")
        self._lock = asyncio.Lock()

    async def verify(self, token: str) -> Claims:
        """Claims of a valid token. Raises InvalidToken; JwksUnavailable where no key could be fetched at all."""
        cached = self._cache.get(token)
        if cached is not None:
            if self._clock() < cached.expires_at + LEEWAY_S:
                return cached
            del self._cache[token]
            raise InvalidToken("expired")
        try:
            claims = self._check(token)
        except UnknownKey:
            await self._fetch()
            claims = self._check(token)
        if len(self._cache) >= self._cache_size:
            self._cache.clear()  # simple, and rare: the price is one check per token again
        self._cache[token] = claims
        return claims

    def _check(self, token: str) -> Claims:
        return verify(token, self._keys, issuer=self._issuer, audience=self._audience)

    async def _fetch(self) -> None:
        async with self._lock:
            if time.monotonic() - self._fetched_at < self._refetch_s and self._keys:
                return
            self._fetched_at = time.monotonic()  # also where it fails: a flood must not queue up behind timeouts
            try:
                async with self._http.get(self._url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
                    answer.raise_for_status()
                    self._keys = read_jwks(await answer.json())
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                log.warning("could not fetch the JWKS", url=self._url, error=type(error).__name__)
                if not self._keys:
                    raise JwksUnavailable("the token service is not reachable") from error


class JwksUnavailable(Exception):
    """No keys: tokens can be neither accepted nor refused now. Retryable."""
