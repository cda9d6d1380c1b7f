"""Verify tokens of outside issuers, and read the grants in them.

    "beaconfire": {"depot:d1": "editor", "depot:d2": "viewer"}          # the claim that `grantsClaim` names

A grant counts if the issuer's configuration allows it to grant this role in this root. Other grants are ignored, each
with a reason that `beaconfire token explain` shows. A claim of another shape makes the token invalid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.roles import Role
from beaconfire_kit.subjects import InvalidRoom, Pair, parse_pair
from beaconfire_kit.tokens import Claims, Decoded, InvalidToken, Key, Rules, decode

MAX_GRANTS = 100
MAX_SAFE = 2**53 - 1


@dataclass(frozen=True, slots=True)
class OutsideClaims(Claims):
    """The claims of a user's verified token of an outside issuer.

    `outside` is our name for the issuer, and `subject` the issuer's own id of the user. `email` is set only if the
    issuer vouches for it. `grants` has only those that count.
    """

    outside: str = ""
    subject: str = ""
    email: str = ""
    grants: Mapping[Pair, Role] = field(default_factory=dict)
    token: str = field(default="", repr=False, compare=False)
    """The token itself: auth verifies it again, because a gateway's word is not enough."""


class Grant(NamedTuple):
    """What a token says about one root. `why_not` is empty if it counts."""

    root: str
    role: str
    why_not: str = ""


def verify(token: str, keys: Mapping[str, Key], issuer: OutsideIssuer) -> OutsideClaims:
    """Verify a user's token with its issuer's keys. Raises InvalidToken, UnknownKey.

    The user's id starts with the issuer's name, so that no outside issuer can speak for a user of auth or of another
    issuer. It is `name-<claim>` if the claim can be part of an id, else `name_<hash of the claim>`.
    """
    try:
        return _claims(decode(token, keys, rules_of(issuer)), token, issuer)
    except InvalidToken as error:
        error.issuer = issuer.name
        raise


def rules_of(issuer: OutsideIssuer) -> Rules:
    """Return what this issuer's tokens have to say."""
    return Rules(
        issuer=issuer.issuer,
        audience=issuer.audience,
        types=issuer.types,
        algorithms=issuer.algorithms,
        require=(issuer.user_claim,),
        max_lifetime_s=issuer.max_lifetime_s,
        only_audience=False,
        require_kid=issuer.require_kid,
        require_typ=issuer.require_typ,
        require_aud=issuer.require_aud,
        require_iat=issuer.require_iat,
    )


def subject_of(body: Mapping[str, Any], claim: str) -> str:
    """Return the issuer's id of the user, which may be a whole number: then it is the same as its digits in a text.

    Raises InvalidToken.
    """
    who = body[claim]
    if type(who) is int and 0 <= who <= MAX_SAFE:
        return str(who)
    if not isinstance(who, str) or not 1 <= len(who) <= 1_000:
        raise InvalidToken(f"{claim} is not a text of 1 to 1,000 characters, nor a whole number")
    return who


def _claims(decoded: Decoded, token: str, issuer: OutsideIssuer) -> OutsideClaims:
    body = decoded.claims
    subject, name, email = subject_of(body, issuer.user_claim), body.get(issuer.name_claim, ""), body.get("email", "")
    vouched = isinstance(email, str) and body.get("email_verified") is True
    return OutsideClaims(
        issuer.user_id(subject),
        name[:200] if isinstance(name, str) else "",
        decoded.issued_at,
        decoded.expires_at,
        str(body.get("jti", ""))[:200],
        decoded.key_id,
        outside=issuer.name,
        subject=subject,
        email=email.strip().lower()[:254] if vouched else "",
        grants={parse_pair(one.root): Role(one.role) for one in read_grants(body, issuer) if not one.why_not},
        token=token,
    )


def read_grants(body: Mapping[str, Any], issuer: OutsideIssuer) -> Sequence[Grant]:
    """Return what the token says about each root. Raises InvalidToken for a claim of another shape.

    The claim is not read if the issuer may grant nothing.
    """
    if not issuer.grants or issuer.grants_claim not in body:
        return ()
    claim = body[issuer.grants_claim]
    if not isinstance(claim, dict):
        raise InvalidToken(f'{issuer.grants_claim} is not an object like {{"depot:d1": "viewer"}}', "bad_grants")
    if len(claim) > MAX_GRANTS:
        raise InvalidToken(f"{issuer.grants_claim} has {len(claim)} grants, {MAX_GRANTS} at most", "bad_grants")
    return [Grant(root, str(role), _why_not(root, role, issuer)) for root, role in claim.items()]


def _why_not(root: str, role: object, issuer: OutsideIssuer) -> str:
    try:
        parse_pair(root)
        wanted = Role(str(role))
    except InvalidRoom:
        return "not a root like depot:d1"
    except ValueError:
        return f"not a role: use {', '.join(Role)}"
    highest = issuer.highest_grant(root)
    if highest is None:
        return f"{issuer.name} may not grant anything in this root"
    if not highest.includes(wanted):
        return f"{issuer.name} may grant {highest} at most in this root"
    return ""
