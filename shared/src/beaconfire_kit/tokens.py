"""Sign and verify tokens: access tokens of users, tokens of services, and tokens of outside issuers.

PyJWT checks signature, times, issuer and audience. This module checks what PyJWT does not (RFC 8725):

* the length, before parsing
* that a token has one text (`beaconfire_kit.jws`)
* `typ`, and one algorithm for each kind of key
* that no extension is critical
* the lifetime, and the types of the claims

`beaconfire_kit.verifier` fetches the keys.
"""

import re
import sys
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from beaconfire_kit import jws, logs, metrics
from beaconfire_kit.jws import Malformed
from beaconfire_kit.settings import OutsideIssuer
from beaconfire_kit.subjects import InvalidSubject, is_id, is_membership, is_reserved, matches, parse_subject

log = logs.get(__name__)

SKIPPED_KEYS = metrics.Counter(
    "beaconfire_jwks_keys_skipped_total", "Keys of a JWKS that were skipped because they could not be read."
)

ALGORITHM = "EdDSA"
TYPE = "at+jwt"  # RFC 9068 §2.1
SERVICE_TYPE = "service+jwt"  # another `typ`, so that neither can be used as the other (RFC 8725 §3.11)
SERVICE_KIND = "service"
MAX_TOKEN_BYTES = 8 * 1024  # a token of 100 KB is accepted by PyJWT; ours have 400 bytes
MAX_LIFETIME_S = 3600  # `exp` a thousand years ahead is accepted by PyJWT
MAX_SERVICE_LIFETIME_S = 366 * 24 * 3600
MAX_PATTERNS = 50
MIN_RSA_BITS = 2048  # RFC 7518 §3.3
MAX_RSA_BITS = 8192  # a check with a key of 100,000 bits takes seconds
LEEWAY_S = 30  # clock skew between hosts

_PATTERN_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}|\*")

Key: TypeAlias = Ed25519PublicKey | RSAPublicKey | EllipticCurvePublicKey


class InvalidToken(Exception):
    """The token is not valid. The reason is for our log; a peer learns only that the token is not valid."""


class UnknownKey(InvalidToken):
    """The token names an unknown key. After a rotation the JWKS has to be fetched again."""


class InvalidPattern(ValueError):
    """The text is not a pattern of subjects that a service may publish."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a user's verified token. Times are Unix seconds.

    `outside` is the name of the outside issuer that signed it, or empty for auth's own. `email` is set only if such an
    issuer vouches for it. `key_id` names the key that signed it.
    """

    user_id: str
    name: str
    issued_at: int
    expires_at: int
    token_id: str
    outside: str = ""
    email: str = ""
    key_id: str = ""
    token: str = field(default="", repr=False, compare=False)
    """The token itself, if it is an outside issuer's. Auth needs it when it does not know the user yet."""


@dataclass(frozen=True, slots=True)
class ServiceClaims:
    """The claims of a verified service token. A service is not a user: it joins no room and opens no socket.

    A service that accepts one (the publisher's `POST /v1/events`) checks two things. First, `Access.author` returned
    it, so it is valid and was not revoked. Second, `may_publish(claims, subject)` allows the subject of every event of
    the request.

    The event's `source` is `service`. It has a `userId` only if the service names one.

    `key_id` names the key that signed it.

    In the token `typ` is `service+jwt`, `kind` is `service` and `sub` is the service's name. `publish` is a list of
    NATS patterns below the roots, like `campaign.*.settlement.>`: `*` is one word, a last `>` one or more. `iss`,
    `aud`, `iat`, `exp` and `jti` are as in access tokens.
    """

    service: str
    publish: tuple[str, ...]
    issued_at: int
    expires_at: int
    token_id: str
    key_id: str = ""


def may_publish(claims: ServiceClaims, subject: str) -> bool:
    """Return whether a service token allows an event on this subject. Only auth may publish membership changes."""
    try:
        parse_subject(subject)
    except InvalidSubject:
        return False
    if is_membership(subject):
        return False
    return any(matches(pattern, subject) for pattern in claims.publish)


def check_pattern(text: str) -> str:
    """Return the text if it has the form of a pattern for a service token. Raises InvalidPattern with what is wrong.

    Auth also checks, before it issues a token, that the catalogue has the kind of root.
    """
    words = text.split(".")
    if not is_id(words[0]):
        raise InvalidPattern(f"{text[:80]!r} does not start with a kind of root, like campaign")
    if is_reserved(words[0]):
        raise InvalidPattern(f"{text[:80]!r} starts with {words[0]}, which is reserved: start with a kind of root")
    middle = words[1:-1] if words[-1] == ">" else words[1:]
    if len(words) < 2 or len(text) > 200 or not all(_PATTERN_TOKEN.fullmatch(word) for word in middle):
        raise InvalidPattern(
            f"{text[:80]!r} is not a pattern: write words of letters, digits, _ and -, * for one, a last > for the rest"
        )
    return text


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
    """Sign an access token for a user, valid from now for `ttl_s` seconds (`MAX_LIFETIME_S` at most).

    If `not_before` (Unix seconds) lies ahead, the token is dated then. So a revocation of everything issued in the
    current second does not revoke it. If that is less than `LEEWAY_S` ahead, the token is accepted at once.
    """
    if not 0 < ttl_s <= MAX_LIFETIME_S:
        raise ValueError(f"a token lives 1 to {MAX_LIFETIME_S} seconds, not {ttl_s}")
    now = max(int(time.time()), not_before)
    claims = {"iss": issuer, "aud": audience, "sub": user_id, "name": name, "iat": now, "exp": now + ttl_s}
    claims["jti"] = uuid.uuid4().hex
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": key_id, "typ": TYPE})


def sign_service(key: Ed25519PrivateKey, key_id: str, claims: ServiceClaims, *, issuer: str, audience: str) -> str:
    """Sign a token for a service. Raises ValueError if it would be refused."""
    body = {
        "iss": issuer,
        "aud": audience,
        "sub": claims.service,
        "kind": SERVICE_KIND,
        "publish": list(claims.publish),
        "iat": claims.issued_at,
        "exp": claims.expires_at,
        "jti": claims.token_id,
    }
    _service_claims(body)
    return jwt.encode(body, key, algorithm=ALGORITHM, headers={"kid": key_id, "typ": SERVICE_TYPE})


def verify(token: str, keys: Mapping[str, Key], *, issuer: str, audience: str) -> Claims:
    """Verify a user's token with auth's keys. Raises InvalidToken, or UnknownKey for an unknown `kid`."""
    key_id, body = _decode(
        token, keys, types=(TYPE,), algorithms=(ALGORITHM,), issuer=issuer, audience=audience, require=("sub", "jti")
    )
    issued_at, expires_at = _times(body, MAX_LIFETIME_S)
    user_id, token_id, name = body["sub"], body["jti"], body.get("name", "")
    if not isinstance(user_id, str) or not is_id(user_id):
        raise InvalidToken("sub is not an id")
    if not isinstance(token_id, str) or not isinstance(name, str):
        raise InvalidToken("jti and name must be strings")
    return Claims(user_id, name[:200], issued_at, expires_at, token_id, key_id=key_id)


def verify_service(token: str, keys: Mapping[str, Key], *, issuer: str, audience: str) -> ServiceClaims:
    """Verify a service's token with auth's keys. Raises as `verify` does. It does not notice revocation."""
    key_id, body = _decode(
        token,
        keys,
        types=(SERVICE_TYPE,),
        algorithms=(ALGORITHM,),
        issuer=issuer,
        audience=audience,
        require=("sub", "jti"),
    )
    try:
        return _service_claims(body, key_id)
    except ValueError as error:
        raise InvalidToken(str(error)) from None


def verify_outside(token: str, keys: Mapping[str, Key], issuer: OutsideIssuer) -> Claims:
    """Verify a user's token of an outside issuer with that issuer's keys. Raises as `verify` does.

    The user's id starts with the issuer's name, so that no outside issuer can speak for a user of auth or of another
    issuer. It is `name-<claim>` if the claim can be part of an id, else `name_<hash of the claim>`.
    """
    key_id, body = _decode(
        token,
        keys,
        types=issuer.types,
        algorithms=issuer.algorithms,
        issuer=issuer.issuer,
        audience=issuer.audience,
        require=(issuer.user_claim,),
        only_audience=False,
    )
    issued_at, expires_at = _times(body, issuer.max_lifetime_s)
    who, name, email = body[issuer.user_claim], body.get(issuer.name_claim, ""), body.get("email", "")
    if not isinstance(who, str) or not 1 <= len(who) <= 1_000:
        raise InvalidToken(f"{issuer.user_claim} names nobody")
    vouched = isinstance(email, str) and body.get("email_verified") is True
    return Claims(
        issuer.user_id(who),
        name[:200] if isinstance(name, str) else "",
        issued_at,
        expires_at,
        str(body.get("jti", ""))[:200],
        outside=issuer.name,
        email=email.strip().lower()[:254] if vouched else "",
        key_id=key_id,
        token=token,
    )


class Peek(NamedTuple):
    """Unverified content of a token. Use it only to choose which keys to verify with."""

    issuer: str
    type: str
    key_id: str


def peek(token: str) -> Peek:
    """Read a token without verifying it. Raises InvalidToken if the text is not a token."""
    header, claims = _parse(token)
    return Peek(str(claims.get("iss", "")), str(header.get("typ", "")).lower(), str(header.get("kid", "")))


def _parse(token: str) -> jws.Parts:
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken("too long")
    try:
        return jws.parse(token)
    except Malformed as error:
        raise InvalidToken(f"not a JWT: {error}") from error


# ValueError, OverflowError: times that are not numbers, or too large.
_MALFORMED = (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError)


def _decode(
    token: str,
    keys: Mapping[str, Key],
    *,
    types: Collection[str],
    algorithms: Collection[str],
    issuer: str,
    audience: str,
    require: Sequence[str],
    only_audience: bool = True,
) -> tuple[str, dict[str, Any]]:
    """Return `kid` and claims of a token with a valid signature and valid claims. Raises InvalidToken."""
    header = _parse(token).header
    algorithm, kid = header.get("alg"), header.get("kid")
    if str(header.get("typ", "")).lower() not in {one.lower() for one in types} or algorithm not in tuple(algorithms):
        raise InvalidToken("wrong typ or alg")
    if "crit" in header or "b64" in header:  # extensions are not supported (RFC 7515 §4.1.11)
        raise InvalidToken("critical extension")
    if not isinstance(kid, str):
        raise InvalidToken("kid must be a string")
    key = keys.get(kid)
    if key is None:
        raise UnknownKey("unknown key")
    if algorithm_of(key) != algorithm:
        raise InvalidToken("alg is not the key's")
    try:
        body: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=audience,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iat", "aud", "iss", *require], "strict_aud": only_audience},
        )
    except _MALFORMED as error:
        raise InvalidToken(type(error).__name__) from error
    return sys.intern(kid), body  # one string for all remembered tokens of the key


def _times(body: Mapping[str, Any], max_lifetime_s: int) -> tuple[int, int]:
    issued_at, expires_at = body["iat"], body["exp"]
    if any(type(at) is not int for at in (issued_at, expires_at, body.get("nbf", 0))):
        raise InvalidToken("iat, exp and nbf must be whole numbers")
    if not 0 < expires_at - issued_at <= max_lifetime_s:
        raise InvalidToken("lives too long")
    return issued_at, expires_at


def _service_claims(body: Mapping[str, Any], key_id: str = "") -> ServiceClaims:
    """Read the claims of a service's token. Raises ValueError, InvalidToken."""
    issued_at, expires_at = _times(body, MAX_SERVICE_LIFETIME_S)
    service, token_id, publish = body["sub"], body["jti"], body.get("publish")
    if body.get("kind") != SERVICE_KIND or not isinstance(service, str) or not is_id(service):
        raise ValueError("not a service")
    if not isinstance(token_id, str) or not is_id(token_id):
        raise ValueError("jti must be an id")
    if not isinstance(publish, list) or not 0 < len(publish) <= MAX_PATTERNS:
        raise ValueError(f"publish must be a list of 1 to {MAX_PATTERNS} patterns")
    if not all(isinstance(one, str) for one in publish):
        raise ValueError("publish must be a list of patterns")
    patterns = tuple(check_pattern(one) for one in publish)
    return ServiceClaims(service, patterns, issued_at, expires_at, token_id, key_id)


def algorithm_of(key: Key) -> str:
    """Return the one algorithm that is used with a key of this kind."""
    if isinstance(key, Ed25519PublicKey):
        return ALGORITHM
    return "RS256" if isinstance(key, RSAPublicKey) else "ES256"


def public_jwk(key_id: str, key: Ed25519PublicKey) -> dict[str, Any]:
    """Return a public key as a JWK (RFC 8037)."""
    jwk: dict[str, Any] = OKPAlgorithm.to_jwk(key, as_dict=True)
    return {
        "kty": jwk["kty"],
        "crv": jwk["crv"],
        "x": jwk["x"],
        "kid": key_id,
        "alg": ALGORITHM,
        "use": "sig",
    }


def read_jwks(document: Any, algorithms: Collection[str] = (ALGORITHM,)) -> dict[str, Key]:
    """Return the keys of a JWKS that are used with one of `algorithms`, by `kid`. Others are skipped.

    A key that cannot be read is skipped, counted and logged. Raises ValueError for a document that is not a JWKS, and
    for one without a readable key.
    """
    entries = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(entries, list):
        raise ValueError("a JWKS has a list `keys`")
    keys: dict[str, Key] = {}
    skipped: list[str] = []
    for jwk in entries:
        try:
            key_id, key = _read_jwk(jwk)
        except ValueError as error:
            skipped.append(str(error))
            continue
        if key is not None and algorithm_of(key) in algorithms:
            keys[key_id] = key
    if skipped:
        SKIPPED_KEYS.inc(len(skipped))
        log.warning("skipped keys of a JWKS that cannot be read", skipped=len(skipped), of=len(entries), why=skipped[0])
        if len(skipped) == len(entries):
            raise ValueError(f"of the {len(entries)} keys of this JWKS none can be read")
    return keys


def _read_jwk(jwk: Any) -> tuple[str, Key | None]:
    """Return a key's id, and the public key if its kind and use are supported. Raises ValueError."""
    if not isinstance(jwk, dict):
        raise ValueError("an entry that is not an object")
    key_id, kind = jwk.get("kid"), (jwk.get("kty"), jwk.get("crv"))
    read = _READERS.get(kind) if all(isinstance(one, str | None) for one in kind) else None
    if not isinstance(key_id, str) or "d" in jwk or jwk.get("use", "sig") != "sig" or read is None:
        return "", None
    try:
        key: object = read(jwk)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError, UnsupportedAlgorithm):
        raise ValueError(f"key {key_id[:80]!r} is malformed") from None
    if isinstance(key, RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return key_id, None
    if not isinstance(key, Ed25519PublicKey | RSAPublicKey | EllipticCurvePublicKey):
        return key_id, None
    return key_id, key if jwk.get("alg", algorithm_of(key)) == algorithm_of(key) else None


_READERS: Mapping[tuple[str | None, str | None], Callable[[dict[str, Any]], object]] = {
    ("OKP", "Ed25519"): OKPAlgorithm.from_jwk,
    ("EC", "P-256"): ECAlgorithm.from_jwk,
    ("RSA", None): RSAAlgorithm.from_jwk,
}
