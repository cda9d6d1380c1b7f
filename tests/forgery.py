"""Tokens built by hand, as a forger would: any header, any claims, any signature."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY = Ed25519PrivateKey.generate()
OTHER_KEY = Ed25519PrivateKey.generate()
KEYS = {"k1": KEY.public_key()}
ABSENT = object()


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def forged(
    header: dict[str, Any] | bytes | None = None,
    claims: dict[str, Any] | bytes | None = None,
    *,
    sign: Callable[[bytes], bytes] = KEY.sign,
) -> str:
    """A token built by hand: a good one, with these parts of header and claims changed (`ABSENT` takes one out)."""
    now = int(time.time())
    good_header: dict[str, Any] = {"alg": "EdDSA", "typ": "at+jwt", "kid": "k1"}
    good_claims: dict[str, Any] = {
        "iss": "beaconfire",
        "aud": "beaconfire",
        "sub": "owner",
        "name": "Owner",
        "iat": now,
        "exp": now + 900,
        "jti": "t1",
    }
    signed = f"{encoded(_changed(good_header, header))}.{encoded(_changed(good_claims, claims))}"
    return f"{signed}.{encoded(sign(signed.encode()))}"


def _changed(good: dict[str, Any], change: dict[str, Any] | bytes | None) -> bytes:
    if isinstance(change, bytes):
        return change
    return json.dumps({key: value for key, value in {**good, **(change or {})}.items() if value is not ABSENT}).encode()


def hmac_with(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda message: hmac.new(secret, message, hashlib.sha256).digest()
