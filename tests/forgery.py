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

from beaconfire_kit import tokens

KEY = Ed25519PrivateKey.generate()
OTHER_KEY = Ed25519PrivateKey.generate()
KEYS = {"k1": KEY.public_key()}
ABSENT = object()
FRESH_S = 30
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


class Fresh:
    """Hostile tokens, made again when they are half a minute old: an old one is refused because it has run out."""

    def __init__(self, make: Callable[[], dict[str, str]]) -> None:
        self._make = make
        self._made_at = float("-inf")
        self._tokens: dict[str, str] = {}

    def tokens(self) -> dict[str, str]:
        """Return them by what is wrong with each."""
        if time.monotonic() > self._made_at + FRESH_S:
            self._tokens, self._made_at = self._make(), time.monotonic()
        return self._tokens


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
        signed = ".".join(self._parts(header, claims))
        return f"{signed}.{encoded((sign or self.key.sign)(signed.encode()))}"

    def written(self, number: int, change: Callable[[str], str]) -> str:
        """Return a good token with one part (of three) written differently. The signature covers it as written."""
        header, claims = next(
            parts
            for filling in range(3)
            if len((parts := self._parts({"x": "x" * filling}, {"x": "x" * filling}))[number % 2]) % 4
        )
        signed = f"{change(header) if number == 0 else header}.{change(claims) if number == 1 else claims}"
        signature = encoded(self.key.sign(signed.encode()))
        return f"{signed}.{change(signature) if number == 2 else signature}"

    def _parts(self, header: dict[str, Any] | bytes | None, claims: dict[str, Any] | bytes | None) -> list[str]:
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
        return [encoded(_changed(good_header, header)), encoded(_changed(good_claims, claims))]


def _changed(good: dict[str, Any], change: dict[str, Any] | bytes | None) -> bytes:
    if isinstance(change, bytes):
        return change
    return json.dumps({key: value for key, value in {**good, **(change or {})}.items() if value is not ABSENT}).encode()


def hmac_with(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda message: hmac.new(secret, message, hashlib.sha256).digest()


forged = Forger(KEY, "k1").forged


def hostile(forger: Forger) -> dict[str, str]:
    """Return texts that are not a token of a user, by their problem.

    The forger has the real key: only what a token says, and how, stands against it.
    """
    return {**_hostile_headers(forger), **_hostile_claims(forger.forged), **_hostile_texts(forger)}


def _hostile_headers(forger: Forger) -> dict[str, str]:
    forged, kid = forger.forged, forger.key_id
    public_raw = forger.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    public_pem = forger.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    jwk = tokens.public_jwk(kid, OTHER_KEY.public_key())
    header = {"alg": "EdDSA", "typ": "at+jwt", "kid": kid}
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
        "no critical extension, in a list": forged({"crit": []}),
        "critical extensions of another type": forged({"crit": None}),
        "algorithm twice": forged(_with_twice(header, "alg", "none")),
        "kid twice": forged(_with_twice(header, "kid", "k2")),
        **{f"header in {name}": forged(write(header)) for name, write in _WRITINGS.items()},
    }


# JSON that is not UTF-8 without a byte-order mark (RFC 8259 §8.1), and that Python reads all the same.
_WRITINGS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "UTF-8 with a byte-order mark": lambda part: b"\xef\xbb\xbf" + json.dumps(part).encode(),
    "UTF-16": lambda part: json.dumps(part).encode("utf-16"),
    "UTF-16-LE": lambda part: json.dumps(part).encode("utf-16-le"),
    "UTF-16-BE": lambda part: json.dumps(part).encode("utf-16-be"),
    "UTF-32": lambda part: json.dumps(part).encode("utf-32"),
    "UTF-32-LE": lambda part: json.dumps(part).encode("utf-32-le"),
}


def _with_twice(part: dict[str, Any], name: str, first: str) -> bytes:
    """The part with a key of this name before the good one."""
    return json.dumps({name + "_": first, **part}).replace(f"{name}_", name).encode()


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
        "expires at true": forged(claims={"exp": True}),
        "expires in a number of 4,000 digits": forged(claims=_with_exp(good, b"9" * 4_000)),
        "issued and expires in 10^30": forged(claims={"iat": 10**30, "exp": 10**30 + 60}),
        "issued before time began": forged(claims={"iat": -(10**30)}),
        "issued in words": forged(claims={"iat": str(now)}),
        "issued in fractions": forged(claims={"iat": now + 0.5}),
        "issued in exponents": forged(
            claims=json.dumps({**good, "exp": now + 60, "iat": "x"}).replace('"x"', f"{now / 10}e1").encode()
        ),
        "not before true": forged(claims={"nbf": True}),
        "not before a word": forged(claims={"nbf": "0"}),
        "not before fractions": forged(claims={"nbf": 0.5}),
        "not before null": forged(claims={"nbf": None}),
        "user twice": forged(claims=_with_twice({**good, "exp": now + 60}, "sub", "editor")),
        "expires twice": forged(claims=_with_twice({**good, "exp": now + 60}, "exp", "0")),
        "a key twice, deep inside": forged(
            claims=json.dumps({**good, "exp": now + 60, "x": [0]}).replace("[0]", '[{"a": 1, "a": 2}]').encode()
        ),
        "NaN in a claim that is not read": forged(claims={"x": float("nan")}),
        "lone surrogate in the name": forged(claims={"name": "\ud800"}),
        "lone surrogate in a claim that is not read": forged(claims={"x": [{"\udfff": 1}]}),
        **{f"claims in {name}": forged(claims=write({**good, "exp": now + 60})) for name, write in _WRITINGS.items()},
    }


def _with_exp(good: dict[str, Any], number: bytes) -> bytes:
    return json.dumps(good).encode().replace(b'"exp": 0', b'"exp": ' + number)


def _hostile_texts(forger: Forger) -> dict[str, str]:
    forged = forger.forged
    return {
        "nothing": "",
        "dots": "..",
        "one part": forged().split(".")[0],
        "two parts": forged().rpartition(".")[0],
        "four parts": forged() + ".AAAA",
        "line end": forged() + "\n",
        "line end before the signature": "\n".join(forged().rpartition(".")[:2]) + forged().rpartition(".")[2],
        "space behind": forged() + " ",
        "space inside": forged()[:40] + " " + forged()[40:],
        "tab behind": forged() + "\t",
        "no-break space behind": forged() + "\xa0",
        **{f"padding in part {number}": forger.written(number, _padded) for number in range(3)},
        **{f"unused bits in part {number}": forger.written(number, _with_unused_bits) for number in range(3)},
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


def _padded(part: str) -> str:
    return part + "=" * (-len(part) % 4)


def _with_unused_bits(part: str) -> str:
    """The last character's lowest bit is unused in a part that is not made of whole groups: it is set here."""
    return part[:-1] + ALPHABET[ALPHABET.index(part[-1]) + 1]
