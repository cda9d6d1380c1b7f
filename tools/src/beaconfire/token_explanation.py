"""Explain whether a token would be accepted: every check with its result, and the grants that count.

The verdict is that of the code that gateways use. The checks say what to change. Nothing here contains the token, a
signature or a secret.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt

from beaconfire_kit import jws, outside_tokens, tokens
from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.outside_tokens import Grant, OutsideClaims
from beaconfire_kit.secret_files import SHARED, Secret
from beaconfire_kit.tokens import LEEWAY_S, Claims, InvalidToken, Key, Rules, ServiceClaims

OWN = "beaconfire's auth"


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `ok` is None if it could not be made."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would happen to a token. `issuer` is empty if nobody known has issued it."""

    accepted: bool
    verdict: str
    issuer: str = ""
    checks: Sequence[Check] = ()
    grants: Sequence[Grant] = ()
    publishes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Issuers:
    """Whose tokens are accepted, and their keys by `iss`. Instead of keys there may be a reason why there are none."""

    issuer: str = "beaconfire"
    audience: str = "beaconfire"
    outside: Sequence[OutsideIssuer] = ()
    keys: Mapping[str, Mapping[str, Key] | str] = field(default_factory=dict)

    @property
    def all(self) -> Sequence[str]:
        return (self.issuer, *(one.issuer for one in self.outside))


def explain(token: str, issuers: Issuers, *, now: int | None = None) -> Explanation:
    """Explain a token."""
    now = int(time.time()) if now is None else now
    try:
        parts = tokens.parse(token)
    except InvalidToken as error:
        return Explanation(False, f"refused (malformed): {error}", checks=[Check("text", False, str(error))])
    iss = parts.claims.get("iss")
    outside = next((one for one in issuers.outside if one.issuer == iss), None)
    is_service = str(parts.header.get("typ", "")).lower() == tokens.SERVICE_TYPE
    if outside is None and iss != issuers.issuer:
        known = ", ".join(repr(one) for one in issuers.all)
        detail = f"{_shown(iss)} is none of {known}" if "iss" in parts.claims else f"absent; expected one of {known}"
        return Explanation(
            False, "refused (unknown_issuer): no accepted issuer", checks=[_text(token), Check("iss", False, detail)]
        )
    rules = outside_tokens.rules_of(outside) if outside is not None else _own_rules(issuers, is_service=is_service)
    keys = issuers.keys.get(rules.issuer, "no keys were given")
    checks = [_text(token), Check("iss", True, _shown(iss)), *_header_checks(parts, rules)]
    checks += _key_checks(token, parts, keys, rules)
    checks += [*_time_checks(parts.claims, rules, now), _audience_check(parts.claims, rules)]
    grants: Sequence[Grant] = ()
    if outside is not None:
        checks.append(_user_check(parts.claims, outside))
        try:
            grants = outside_tokens.read_grants(parts.claims, outside)
        except InvalidToken as error:
            checks.append(Check("grants", False, str(error)))
    issuer = outside.name if outside is not None else OWN
    if isinstance(keys, str):
        return Explanation(False, f"undecided: {keys}", issuer, checks, grants)
    try:
        claims = _verify(token, keys, issuers, outside, is_service=is_service)
    except InvalidToken as error:
        return Explanation(False, f"refused ({error.reason}): {error}", issuer, checks, grants)
    publishes = claims.publish if isinstance(claims, ServiceClaims) else ()
    return Explanation(True, _accepted(claims), issuer, checks, grants, publishes)


def _verify(
    token: str, keys: Mapping[str, Key], issuers: Issuers, outside: OutsideIssuer | None, *, is_service: bool
) -> Claims | ServiceClaims:
    if outside is not None:
        return outside_tokens.verify(token, keys, outside)
    check = tokens.verify_service if is_service else tokens.verify
    return check(token, keys, issuer=issuers.issuer, audience=issuers.audience)


def _own_rules(issuers: Issuers, *, is_service: bool) -> Rules:
    if is_service:
        return tokens.own_rules(tokens.SERVICE_TYPE, tokens.MAX_SERVICE_LIFETIME_S, issuers.issuer, issuers.audience)
    return tokens.own_rules(tokens.TYPE, tokens.MAX_LIFETIME_S, issuers.issuer, issuers.audience)


def _accepted(claims: Claims | ServiceClaims) -> str:
    until = f"until {_moment(claims.expires_at)}, unless auth has revoked it"
    if isinstance(claims, ServiceClaims):
        return f"accepted as a token of the service {claims.service}, {until}. It opens no socket"
    if isinstance(claims, OutsideClaims):
        return f"accepted as the user {claims.user_id}, {until}"
    return f"accepted as the user {claims.user_id} of auth, {until}"


def _text(token: str) -> Check:
    return Check("text", True, f"{len(token)} characters, {tokens.MAX_TOKEN_BYTES} at most")


def _header_checks(parts: jws.Parts, rules: Rules) -> Iterator[Check]:
    header = parts.header
    algorithm, type_ = header.get("alg"), header.get("typ")
    expected = " or ".join(rules.algorithms)
    is_allowed = isinstance(algorithm, str) and algorithm in tuple(rules.algorithms)
    yield Check("alg", is_allowed, _shown(algorithm) if is_allowed else f"{_shown(algorithm)}; expected {expected}")
    if "typ" not in header:
        yield Check(
            "typ", not rules.require_typ, "absent" + ("" if not rules.require_typ else f"; expected {_types(rules)}")
        )
    else:
        ok = str(type_).lower() in {one.lower() for one in rules.types}
        yield Check("typ", ok, _shown(type_) if ok else f"{_shown(type_)}; expected {_types(rules)}")
    for name in ("crit", "b64"):
        if name in header:
            yield Check(name, False, "extensions are not supported")


def _types(rules: Rules) -> str:
    return " or ".join(rules.types)


def _key_checks(token: str, parts: jws.Parts, keys: Mapping[str, Key] | str, rules: Rules) -> Iterator[Check]:
    algorithm = parts.header.get("alg")
    if isinstance(keys, str):
        yield Check("key", None, keys)
        return
    if not isinstance(algorithm, str) or algorithm not in tuple(rules.algorithms):
        yield Check("key", None, "not looked for: the alg is wrong")
        return
    try:
        found = tokens.candidates(parts.header, keys, rules, algorithm)
    except InvalidToken as error:
        names = ", ".join(sorted(keys)) if not any(isinstance(one, Secret) for one in keys.values()) else "secrets"
        yield Check("key", False, f"{error}; known: {names or 'none'}")
        return
    what = "shared secret" if algorithm == SHARED else "public key"
    yield Check("key", True, f"{len(found)} {what}{'s' if len(found) > 1 else ''} may have signed it")
    signed = any(_has_signed(token, key, algorithm) for key in found.values())
    yield Check("signature", signed, "valid" if signed else f"none of them has signed it: is it the same {what}?")


def _has_signed(token: str, key: Key, algorithm: str) -> bool:
    try:
        jwt.PyJWS().decode(token, key.value if isinstance(key, Secret) else key, algorithms=[algorithm])
    except (jwt.PyJWTError, ValueError, TypeError):
        return False
    return True


def _time_checks(claims: Mapping[str, Any], rules: Rules, now: int) -> Iterator[Check]:
    times: dict[str, int] = {}
    for name, is_needed in (("exp", True), ("iat", rules.require_iat), ("nbf", False)):
        value = claims.get(name)
        if name not in claims:
            if is_needed:
                yield Check(name, False, "absent")
            continue
        if type(value) is not int:
            yield Check(name, False, f"{_shown(value)} is not a whole number of seconds")
            continue
        times[name] = value
        off = value - now
        is_good = off > -LEEWAY_S if name == "exp" else off <= LEEWAY_S
        yield Check(name, is_good, f"{_moment(value)}, {_distance(off)}")
    if "exp" in times:
        begin = times.get("iat", None if rules.require_iat else now)
        if begin is not None:
            lifetime = times["exp"] - begin
            is_good = lifetime <= rules.max_lifetime_s + (0 if "iat" in times else LEEWAY_S)
            is_good = is_good and ("iat" not in times or lifetime > 0)
            yield Check("lifetime", is_good, f"{lifetime} s, {rules.max_lifetime_s} at most")


def _audience_check(claims: Mapping[str, Any], rules: Rules) -> Check:
    if "aud" not in claims:
        return Check(
            "aud", not rules.require_aud, "absent" + (f"; expected {rules.audience!r}" if rules.require_aud else "")
        )
    audience = claims["aud"]
    named = audience if isinstance(audience, list) and not rules.only_audience else [audience]
    is_good = bool(rules.audience) and rules.audience in named and all(isinstance(one, str) for one in named)
    expected = repr(rules.audience) if rules.audience else "none, as no audience is configured"
    return Check("aud", is_good, _shown(audience) if is_good else f"{_shown(audience)}; expected {expected}")


def _user_check(claims: Mapping[str, Any], issuer: OutsideIssuer) -> Check:
    name = issuer.user_claim
    if name not in claims:
        return Check(name, False, "absent: it names the user, see userClaim")
    try:
        if name == "sub" and not isinstance(claims["sub"], str):
            raise InvalidToken("sub is not a text")
        user = outside_tokens.subject_of(claims, name)
    except InvalidToken as error:
        return Check(name, False, str(error))
    return Check(name, True, f"{_shown(user)} is the user {issuer.user_id(user)}")


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, str) else repr(value[:120])
    return text if len(text) <= 130 else f"{text[:130]}…"


def _moment(at: int) -> str:
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{str(at)[:40]}, which is no moment"


def _distance(off_s: int) -> str:
    seconds = abs(off_s)
    text = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7_200 else f"{seconds // 3_600} h"
    return f"in {text}" if off_s >= 0 else f"{text} ago"
