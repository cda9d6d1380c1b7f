"""Sign and verify auth's tokens: access tokens of users, and tokens of services. `outside_tokens` verifies others.

PyJWT checks signature, times, issuer and audience. This module checks what PyJWT does not (RFC 8725):

* the length, before parsing
* that a token has one text (`beaconfire_kit.jws`)
* `typ`, and one algorithm for each kind of key
* that no extension is critical
* the lifetime, and the types of the claims

`beaconfire_kit.verifier` fetches the keys.
"""

import hashlib
import json
import re
import sys
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from beaconfire_kit import jws, logs, metrics
from beaconfire_kit.jws import Malformed
from beaconfire_kit.secret_files import SHARED, Secret
from beaconfire_kit.subjects import InvalidSubject, is_id, is_membership, is_reserved, matches, parse_subject

log = logs.get(__name__)

SKIPPED_KEYS = metrics.Counter(
    "beaconfire_jwks_keys_skipped_total",
    "Public keys in a JWKS (a list of keys) that were skipped because they could not be read.",
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
MAX_CANDIDATES = 4
"""Keys that are tried for a token without `kid`."""

_PATTERN_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}|\*")

Key: TypeAlias = Ed25519PublicKey | RSAPublicKey | EllipticCurvePublicKey | Secret


Reason = Literal[
    "malformed",
    "wrong_type",
    "wrong_algorithm",
    "critical_extension",
    "no_kid",
    "unknown_key",
    "bad_signature",
    "unknown_issuer",
    "wrong_issuer",
    "wrong_audience",
    "missing_claim",
    "bad_claim",
    "bad_grants",
    "expired",
    "not_yet_valid",
    "lives_too_long",
]
"""Why a token is refused, for logs and metrics."""


class InvalidToken(Exception):
    """The token is not valid. The reason is for our log; a peer learns only that the token is not valid."""

    def __init__(self, detail: str, reason: Reason = "bad_claim", *, issuer: str = "") -> None:
        """`issuer` is our name for the outside issuer, or empty for auth."""
        super().__init__(detail)
        self.reason: Reason = reason
        self.issuer = issuer


class UnknownKey(InvalidToken):
    """No known key is the token's. After a rotation the keys have to be read again."""

    def __init__(self, detail: str, reason: Reason = "unknown_key") -> None:
        super().__init__(detail, reason)


class InvalidPattern(ValueError):
    """The text is not a pattern of subjects that a service may publish."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a user's verified token. Times are Unix seconds. `key_id` names the key that signed it."""

    user_id: str
    name: str
    issued_at: int
    expires_at: int
    token_id: str
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token has to say to be accepted. `audience` may be empty only if a token need not have one."""

    issuer: str
    audience: str
    types: Collection[str]
    algorithms: Collection[str]
    require: tuple[str, ...]
    max_lifetime_s: int
    only_audience: bool = True
    require_kid: bool = True
    require_typ: bool = True
    require_aud: bool = True
    require_iat: bool = True


class Decoded(NamedTuple):
    """The content of a token whose signature and times are valid. Without `iat`, `issued_at` is the earliest time."""

    key_id: str
    claims: dict[str, Any]
    issued_at: int
    expires_at: int


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

    @property
    def source(self) -> str:
        """The `source` of the service's events: its name, in lower case and with a letter in front."""
        name = self.service.lower()
        return name if name[0].isalpha() else f"s{name}"[:64]


def may_publish(claims: ServiceClaims, subject: str) -> bool:
    """Return whether a service token allows an event on this subject. Only auth may publish membership changes."""
    try:
        parse_subject(subject)
    except InvalidSubject:
        return False
    if is_membership(subject):
        return False
    return any(matches(pattern, subject) for pattern in claims.publish)


def may_manage(patterns: Collection[str], subject: str) -> bool:
    """Return whether a service token's patterns give the right to change what auth's events on this subject report.

    That is a membership (`depot.d1.member.u1`) or a user's access (`user.u1.access`). An id in the subject may be `*`,
    for all of them. The pattern has to have the word `member` or `access` itself: `depot.>` is a right to publish.
    """
    word = subject.split(".")[2]
    return any(one.split(".")[2:3] == [word] and matches(one, subject) for one in patterns)


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
    decoded = decode(token, keys, own_rules(TYPE, MAX_LIFETIME_S, issuer, audience))
    body = decoded.claims
    user_id, token_id, name = body["sub"], body["jti"], body.get("name", "")
    if not isinstance(user_id, str) or not is_id(user_id):
        raise InvalidToken("sub is not an id")
    if not isinstance(token_id, str) or not isinstance(name, str):
        raise InvalidToken("jti and name must be strings")
    return Claims(user_id, name[:200], decoded.issued_at, decoded.expires_at, token_id, decoded.key_id)


def verify_service(token: str, keys: Mapping[str, Key], *, issuer: str, audience: str) -> ServiceClaims:
    """Verify a service's token with auth's keys. Raises as `verify` does. It does not notice revocation."""
    decoded = decode(token, keys, own_rules(SERVICE_TYPE, MAX_SERVICE_LIFETIME_S, issuer, audience))
    try:
        return _service_claims(decoded.claims, decoded.key_id)
    except ValueError as error:
        raise InvalidToken(str(error)) from None


def own_rules(type_: str, max_lifetime_s: int, issuer: str, audience: str) -> Rules:
    """Return what auth's own tokens of this `typ` have to say."""
    return Rules(issuer, audience, (type_,), (ALGORITHM,), ("sub", "jti"), max_lifetime_s)


class Peek(NamedTuple):
    """Unverified content of a token. Use it only to choose which keys to verify with, and to log."""

    issuer: str
    type: str
    key_id: str
    algorithm: str


def peek(token: str) -> Peek:
    """Read a token without verifying it. Raises InvalidToken if the text is not a token."""
    header, claims = parse(token)
    return Peek(
        str(claims.get("iss", "")),
        str(header.get("typ", "")).lower(),
        str(header.get("kid", "")),
        str(header.get("alg", "")),
    )


def parse(token: str) -> jws.Parts:
    """Return the unverified header and claims. Raises InvalidToken if the text is not a token."""
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken(f"has {len(token)} characters, {MAX_TOKEN_BYTES} at most", "malformed")
    try:
        return jws.parse(token)
    except Malformed as error:
        raise InvalidToken(f"not a JWT: {error}", "malformed") from error


def decode(token: str, keys: Mapping[str, Key], rules: Rules) -> Decoded:
    """Return the content of a token that follows the rules. Raises InvalidToken, UnknownKey."""
    header, unverified = parse(token)
    algorithm = _check_header(header, rules)
    found = candidates(header, keys, rules, algorithm)
    required = ["exp", "iss", *rules.require]
    required += [name for name, needed in (("iat", rules.require_iat), ("aud", rules.require_aud)) if needed]
    for key_id, key in found.items():
        try:
            body: dict[str, Any] = jwt.decode(
                token,
                key.value if isinstance(key, Secret) else key,
                algorithms=[algorithm],
                issuer=rules.issuer,
                # Without an audience, PyJWT refuses a token that has one (RFC 7519 §4.1.3).
                audience=rules.audience or None if rules.require_aud or "aud" in unverified else None,
                leeway=LEEWAY_S,
                options={"require": required, "strict_aud": rules.only_audience},
            )
        except jwt.InvalidSignatureError:
            continue
        except _MALFORMED as error:
            raise InvalidToken(_detail(error), _reason(error)) from error
        # One string for all remembered tokens of the key.
        return Decoded(sys.intern(key_id), body, *_times(body, rules.max_lifetime_s, require_iat=rules.require_iat))
    if rules.require_kid and algorithm != SHARED:
        raise InvalidToken("the key that it names has not signed it", "bad_signature")
    raise UnknownKey("no known key has signed it", "bad_signature")


def _check_header(header: Mapping[str, Any], rules: Rules) -> str:
    """Return the token's algorithm, which the rules allow. Raises InvalidToken."""
    algorithm, type_ = header.get("alg"), header.get("typ", "")
    if not isinstance(algorithm, str) or algorithm not in tuple(rules.algorithms):
        raise InvalidToken(f"alg is not {' or '.join(rules.algorithms)}", "wrong_algorithm")
    if (rules.require_typ or "typ" in header) and str(type_).lower() not in {one.lower() for one in rules.types}:
        raise InvalidToken(f"typ is not {' or '.join(rules.types)}", "wrong_type")
    if "crit" in header or "b64" in header:  # extensions are not supported (RFC 7515 §4.1.11)
        raise InvalidToken("has a critical extension", "critical_extension")
    return algorithm


def candidates(header: Mapping[str, Any], keys: Mapping[str, Key], rules: Rules, algorithm: str) -> Mapping[str, Key]:
    """Return the keys that may have signed a token. The token never brings its own (`jwk`, `jku`, `x5c`, `x5u`).

    Raises InvalidToken, UnknownKey.
    """
    kid = header.get("kid", "")
    if not isinstance(kid, str):
        raise InvalidToken("kid is not a text", "no_kid")
    if algorithm != SHARED and (rules.require_kid or "kid" in header):
        if not kid:
            raise InvalidToken("kid is missing", "no_kid")
        if kid not in keys:
            raise UnknownKey("kid names an unknown key")
        if algorithm_of(keys[kid]) != algorithm:
            raise InvalidToken("alg is not the key's", "wrong_algorithm")
        return {kid: keys[kid]}
    found = {key_id: key for key_id, key in keys.items() if algorithm_of(key) == algorithm}
    if len(found) > MAX_CANDIDATES:  # each costs a check of the signature
        raise InvalidToken(f"names no key, and {len(found)} keys could have signed it", "no_kid")
    if not found:
        raise UnknownKey("there is no key for its alg")
    return found


# ValueError, OverflowError: times that are not numbers, or too large.
_MALFORMED = (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError)
_REASONS: Mapping[type[Exception], Reason] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not_yet_valid",
    jwt.InvalidAudienceError: "wrong_audience",
    jwt.InvalidIssuerError: "wrong_issuer",
    jwt.MissingRequiredClaimError: "missing_claim",
}


def _reason(error: Exception) -> Reason:
    return _REASONS.get(type(error), "bad_claim")


def _detail(error: Exception) -> str:
    """Return what is wrong, without a text that the token has brought."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"{error.claim} is missing"
    return _DETAILS.get(_reason(error), type(error).__name__)


_DETAILS: Mapping[Reason, str] = {
    "expired": "exp is in the past",
    "not_yet_valid": "iat or nbf is in the future",
    "wrong_audience": "aud is not the audience",
    "wrong_issuer": "iss is not the issuer",
}


def _times(body: Mapping[str, Any], max_lifetime_s: int, *, require_iat: bool = True) -> tuple[int, int]:
    expires_at = body["exp"]
    if not require_iat and "iat" not in body:
        # The earliest moment at which it can have been issued, if it lives no longer than the issuer's tokens do.
        body = {**body, "iat": expires_at - max_lifetime_s if type(expires_at) is int else None}
        if type(expires_at) is int and expires_at > time.time() + max_lifetime_s + LEEWAY_S:
            raise InvalidToken(f"lives longer than {max_lifetime_s} s", "lives_too_long")
    issued_at = body["iat"]
    if any(type(at) is not int for at in (issued_at, expires_at, body.get("nbf", 0))):
        raise InvalidToken("iat, exp and nbf must be whole numbers")
    if not 0 < expires_at - issued_at <= max_lifetime_s:
        raise InvalidToken(f"lives longer than {max_lifetime_s} s, or ends before it begins", "lives_too_long")
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
    if isinstance(key, Secret):
        return SHARED
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


def read_jwks(document: Any, algorithms: Collection[str] = (ALGORITHM,), *, need_kid: bool = True) -> dict[str, Key]:
    """Return the public keys of a JWKS that are used with one of `algorithms`, by `kid`. Others are skipped.

    Symmetric keys are skipped: a published secret is none. Without `need_kid`, a key without a name counts, too.

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
            key_id, key = _read_jwk(jwk, need_kid=need_kid)
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


def _read_jwk(jwk: Any, *, need_kid: bool) -> tuple[str, Key | None]:
    """Return a key's id, and the public key if its kind and use are supported. Raises ValueError."""
    if not isinstance(jwk, dict):
        raise ValueError("an entry that is not an object")
    key_id, kind = jwk.get("kid"), (jwk.get("kty"), jwk.get("crv"))
    if not need_kid and key_id is None:
        key_id = _thumbprint(jwk)
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


def _thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return a name for a key without one, from its content."""
    return hashlib.sha256(json.dumps(jwk, sort_keys=True).encode()).hexdigest()[:32]


_READERS: Mapping[tuple[str | None, str | None], Callable[[dict[str, Any]], object]] = {
    ("OKP", "Ed25519"): OKPAlgorithm.from_jwk,
    ("EC", "P-256"): ECAlgorithm.from_jwk,
    ("RSA", None): RSAAlgorithm.from_jwk,
}
