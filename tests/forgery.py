"""Tokens built by hand, as a forger would: any header, any claims, any signature."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared import tokens

KEY = Ed25519PrivateKey.generate()
OTHER_KEY = Ed25519PrivateKey.generate()
KEYS = {"k1": KEY.public_key()}
ABSENT = object()


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


class Forger:
    """Makes tokens with a key that it should not have, and with others."""

    def __init__(self, key: Ed25519PrivateKey, key_id: str) -> None:
        self.key = key
        self.key_id = key_id

    def forged(
        self,
        header: dict[str, Any] | bytes | None = None,
        claims: dict[str, Any] | bytes | None = None,
        *,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> str:
        """A token built by hand: a good one, with these parts of header and claims changed (`ABSENT` takes one out)."""
        now = int(time.time())
        good_header: dict[str, Any] = {"alg": "EdDSA", "typ": "at+jwt", "kid": self.key_id}
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
        return f"{signed}.{encoded((sign or self.key.sign)(signed.encode()))}"


def _changed(good: dict[str, Any], change: dict[str, Any] | bytes | None) -> bytes:
    if isinstance(change, bytes):
        return change
    return json.dumps({key: value for key, value in {**good, **(change or {})}.items() if value is not ABSENT}).encode()


def hmac_with(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda message: hmac.new(secret, message, hashlib.sha256).digest()


forged = Forger(KEY, "k1").forged


def hostile(forger: Forger) -> dict[str, str]:
    """Everything that is no token of a user, by what is wrong with it.

    The forger has the real key: only what a token says, and how, stands against it.
    """
    return {**_hostile_headers(forger), **_hostile_claims(forger.forged), **_hostile_texts(forger.forged)}


def _hostile_headers(forger: Forger) -> dict[str, str]:
    forged, kid = forger.forged, forger.key_id
    public_raw = forger.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    public_pem = forger.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    jwk = tokens.public_jwk(kid, OTHER_KEY.public_key())
    return {
        "no algorithm": forged({"alg": "none"}, sign=lambda _: b""),
        "no algorithm, other case": forged({"alg": "nOnE"}, sign=lambda _: b""),
        "no algorithm, our signature": forged({"alg": "none"}),
        "algorithm absent": forged({"alg": ABSENT}),
        "algorithm of another type": forged({"alg": ["EdDSA"]}),
        "HMAC with the raw public key": forged({"alg": "HS256"}, sign=hmac_with(public_raw)),
        "HMAC with the public key as PEM": forged({"alg": "HS256"}, sign=hmac_with(public_pem)),
        "HMAC with nothing": forged({"alg": "HS256"}, sign=hmac_with(b"")),
        "HMAC that calls itself EdDSA": forged(sign=hmac_with(public_raw)),
        "foreign key": forged(sign=OTHER_KEY.sign),
        "foreign key, brought along": forged({"jwk": jwk}, sign=OTHER_KEY.sign),
        "foreign key, where to fetch it": forged({"jku": "http://127.0.0.1:1/keys"}, sign=OTHER_KEY.sign),
        "foreign key, a certificate": forged({"x5c": ["AAAA"], "x5u": "http://127.0.0.1:1/"}, sign=OTHER_KEY.sign),
        "unknown kid": forged({"kid": "k2"}),
        "kid of a file": forged({"kid": "../../../../dev/null"}),
        "kid of a query": forged({"kid": f"{kid}' OR '1'='1"}),
        "kid absent": forged({"kid": ABSENT}),
        "kid null": forged({"kid": None}),
        "kid of another type": forged({"kid": [kid]}),
        "kid empty": forged({"kid": ""}),
        "type of an ID token": forged({"typ": "JWT"}),
        "type absent": forged({"typ": ABSENT}),
        "type of another type": forged({"typ": 7}),
        "unknown critical extension": forged({"crit": ["nonsense"], "nonsense": True}),
        "payload not encoded": forged({"crit": ["b64"], "b64": False}),
        "header is no object": forged(b"[]"),
        "header is no JSON": forged(b"{"),
        "header is no UTF-8": forged(b'{"alg":"\xff"}'),
        "header nested deep": forged(b"[" * 3_000 + b"]" * 3_000),
        "header nested deep, closed": forged(b'{"a":' * 1_100 + b"1" + b"}" * 1_100),
        "header with a long number": forged(
            b'{"alg":"EdDSA","typ":"at+jwt","kid":"%s","n":' % kid.encode() + b"9" * 5_000 + b"}"
        ),
        "type of a service": forged({"typ": "service+jwt"}),
    }


def _hostile_claims(forged: Callable[..., str]) -> dict[str, str]:
    now = int(time.time())
    good = {"iss": "beaconfire", "aud": "beaconfire", "sub": "owner", "iat": now, "exp": 0, "jti": "t1"}
    return {
        "expired": forged(claims={"iat": now - 1_000, "exp": now - 60}),
        "expires in words": forged(claims={"exp": str(now + 900)}),
        "expires in fractions": forged(claims={"exp": now + 900.5}),
        "expires never": forged(claims={"exp": ABSENT}),
        "expires at null": forged(claims={"exp": None}),
        "expires in a thousand years": forged(claims={"exp": now + 31_536_000_000}),
        "expires in 10^18": forged(claims={"exp": 10**18}),
        "expires in 1e400": forged(claims=json.dumps(good).replace('"exp": 0', '"exp": 1e400').encode()),
        "expires at infinity": forged(claims={"exp": float("inf")}),
        "expires at NaN": forged(claims={"exp": float("nan")}),
        "expires before it was issued": forged(claims={"iat": now + 20, "exp": now + 10}),
        "lives two hours": forged(claims={"iat": now - 3_700, "exp": now + 3_500}),
        "issued in the future": forged(claims={"iat": now + 3_000, "exp": now + 3_500}),
        "issued at true": forged(claims={"iat": True}),
        "issued never": forged(claims={"iat": ABSENT}),
        "not yet": forged(claims={"nbf": now + 3_000}),
        "other audience": forged(claims={"aud": "other"}),
        "audience among others": forged(claims={"aud": ["beaconfire", "other"]}),
        "audience in a list": forged(claims={"aud": ["beaconfire"]}),
        "audience absent": forged(claims={"aud": ABSENT}),
        "audience null": forged(claims={"aud": None}),
        "other issuer": forged(claims={"iss": "other"}),
        "issuer in a list": forged(claims={"iss": ["beaconfire"]}),
        "issuer absent": forged(claims={"iss": ABSENT}),
        "nobody": forged(claims={"sub": ABSENT}),
        "user of another type": forged(claims={"sub": 7}),
        "user empty": forged(claims={"sub": ""}),
        "user a wildcard": forged(claims={"sub": "*"}),
        "user with a dot": forged(claims={"sub": "a.b"}),
        "user with a line end": forged(claims={"sub": "owner\n"}),
        "user too long": forged(claims={"sub": "a" * 65}),
        "name of another type": forged(claims={"name": ["Owner"]}),
        "token id absent": forged(claims={"jti": ABSENT}),
        "token id of another type": forged(claims={"jti": 7}),
        "claims are no object": forged(claims=b"[]"),
        "claims are no JSON": forged(claims=b"{"),
        "claims nested deep": forged(claims=b"[" * 2_900 + b"]" * 2_900),
    }


def _hostile_texts(forged: Callable[..., str]) -> dict[str, str]:
    return {
        "nothing": "",
        "dots": "..",
        "one part": forged().split(".")[0],
        "two parts": forged().rpartition(".")[0],
        "four parts": forged() + ".AAAA",
        "line end": forged() + "\n",
        "space in front": " " + forged(),
        "no signature": forged().rpartition(".")[0] + ".",
        "signature cut": forged()[:-8],
        "signature twice": forged() + forged().rpartition(".")[2],
        "signature of another token": forged().rpartition(".")[0] + "." + forged({"x": 1}).rpartition(".")[2],
        "standard alphabet": forged(sign=lambda _: b"\xff" * 64).replace("_", "/"),
        "not ASCII": "é.ü.ö",
        "lone surrogate": "\udcff.a.b",
        "NUL": "\0",
        "100 KB": forged(claims={"name": "x" * 100_000}),
    }
