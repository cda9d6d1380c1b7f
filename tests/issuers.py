"""Outside issuers that sign with each algorithm, and hostile tokens in their name."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from beaconfire_kit import tokens
from beaconfire_kit.secret_files import Secret
from tests.forgery import ABSENT, KEY, OTHER_KEY, encoded, forged, hmac_with

ISSUER = "https://id.example"
EC_KEY, RSA_KEY = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
SECRET = b"0f1e2d3c4b5a69788796a5b4c3d2e1f0"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def es256(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], bytes]:
    """Sign as RFC 7518 §3.4 says: both numbers, 32 bytes each."""

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


@dataclass(frozen=True)
class Signer:
    """One algorithm: what an issuer signs with, and what a verifier knows of it."""

    algorithm: str
    sign: Callable[[bytes], bytes]
    key: tokens.Key

    def token(self, header: dict[str, Any] | bytes | None = None, claims: Any = None, *, sign: Any = None) -> str:
        """A good token of the user alice, with these parts of header and claims changed (`ABSENT` takes one out)."""
        if not isinstance(header, bytes):
            header = {"alg": self.algorithm, "typ": "JWT", **(header or {})}
        if not isinstance(claims, bytes):
            claims = {"iss": ISSUER, "sub": "alice", "jti": ABSENT, **(claims or {})}
        return forged(header, claims, sign=sign or self.sign)


SIGNERS = {
    one.algorithm: one
    for one in (
        Signer("EdDSA", KEY.sign, KEY.public_key()),
        Signer("ES256", es256(EC_KEY), EC_KEY.public_key()),
        Signer("RS256", lambda m: RSA_KEY.sign(m, padding.PKCS1v15(), hashes.SHA256()), RSA_KEY.public_key()),
        Signer("HS256", hmac_with(SECRET), Secret(SECRET)),
    )
}


def hostile_tokens(signer: Signer) -> dict[str, str]:
    """Return tokens that are not one of the issuer's valid tokens, by their problem. The forger has the real key."""
    return {**_hostile_headers(signer), **_hostile_claims(signer), **_hostile_signatures(signer)}


def _hostile_headers(signer: Signer) -> dict[str, str]:
    token, stranger = signer.token, OTHER_KEY.sign
    jwk = tokens.public_jwk("k1", OTHER_KEY.public_key())
    shared = {"alg": "HS256"}
    public = b"" if isinstance(signer.key, Secret) else _public_bytes(signer.key)
    others = {
        f"alg {other.algorithm} by {name}": token({"alg": other.algorithm}, sign=sign)
        for other in SIGNERS.values()
        for name, sign in (("its own key", signer.sign), ("the key of that alg", other.sign))
        if other is not signer
    }
    return {
        **others,
        **{
            f"alg {name}": token({"alg": name})
            for name in ("none", "None", "hs256", "HS384", "HS512", "RS512", "PS256", "ES384", "ES256K", "dir", "")
        },
        "alg none without a signature": token({"alg": "none"}, sign=lambda _: b""),
        "alg absent": token({"alg": ABSENT}),
        "alg in a list": token({"alg": [signer.algorithm]}),
        "alg twice": token(
            json.dumps({"typ": "JWT", "kid": "k1", "a": "none", "alg": signer.algorithm})
            .replace('"a":', '"alg":')
            .encode()
        ),
        "HMAC with the public key": token(shared, sign=hmac_with(public)),
        "HMAC with nothing": token(shared, sign=hmac_with(b"")),
        "HMAC with the kid": token(shared, sign=hmac_with(b"k1")),
        "key brought along": token({"jwk": jwk}, sign=stranger),
        "symmetric key brought along": token({"jwk": {"kty": "oct", "k": "AAAA"}, **shared}, sign=hmac_with(b"\0\0\0")),
        "jku": token({"jku": "http://127.0.0.1:1/keys"}, sign=stranger),
        "x5u": token({"x5u": "http://127.0.0.1:1/cert"}, sign=stranger),
        "x5c": token({"x5c": ["AAAA"]}, sign=stranger),
        "crit": token({"crit": ["exp"]}),
        "crit empty": token({"crit": []}),
        "b64 false": token({"b64": False, "crit": ["b64"]}),
        "typ of a service token": token({"typ": "service+jwt"}),
        "typ of something else": token({"typ": "dpop+jwt"}),
        "typ null": token({"typ": None}),
        "header in a list": token(b"[]"),
        "header nested deep": token(b'{"a":' * 1_100 + b"1" + b"}" * 1_100),
    }


def _public_bytes(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _hostile_claims(signer: Signer) -> dict[str, str]:
    now, token = int(time.time()), signer.token
    no_times: list[Any] = [None, True, "1", 1.5, [], {}, 10**30, float("inf")]
    no_users: list[Any] = [None, True, "", 7, 7.0, -1, [], {"a": 1}]
    no_audiences: list[Any] = ["other", ["other"], None, 7, {}, "", [], [7]]
    good = {"iss": ISSUER, "aud": "beaconfire", "sub": "alice", "iat": now, "exp": now + 60}
    return {
        **{f"{name} is {value!r}": token(None, {name: value}) for name in ("exp", "iat", "nbf") for value in no_times},
        **{f"sub is {value!r}": token(None, {"sub": value}) for value in no_users},
        "sub of 1,001 characters": token(None, {"sub": "a" * 1_001}),
        "exp absent": token(None, {"exp": ABSENT}),
        "exp a thousand years away": token(None, {"exp": now + 31_536_000_000}),
        "exp two hours away": token(None, {"exp": now + 7_200}),
        "exp past": token(None, {"iat": now - 900, "exp": now - 60}),
        "exp before iat": token(None, {"iat": now + 20, "exp": now + 10}),
        "iat ahead": token(None, {"iat": now + 600, "exp": now + 900}),
        "nbf ahead": token(None, {"nbf": now + 600}),
        "iss other": token(None, {"iss": "https://id.example.evil"}),
        "iss in a list": token(None, {"iss": [ISSUER]}),
        "iss absent": token(None, {"iss": ABSENT}),
        "iss of ours": token(None, {"iss": "beaconfire"}),
        **{f"aud is {value!r}": token(None, {"aud": value}) for value in no_audiences},
        "sub twice": token(None, json.dumps({"s": "bob", **good}).replace('"s":', '"sub":').encode()),
        "huge": token(None, {"x": "x" * 9_000}),
        "nested deep": token(None, b"[" * 2_900 + b"]" * 2_900),
        "compressed": token({"zip": "DEF"}, b"\x4b\xcc\x29\xc8\x48\x04\x00"),
        "a token within a token": token({"cty": "JWT"}, signer.token().encode()),
    }


def _hostile_signatures(signer: Signer) -> dict[str, str]:
    good, token = signer.token(), signer.token
    signed, _, signature = good.rpartition(".")
    made = {
        "signature absent": f"{signed}.",
        "signature of zeros": token(sign=lambda _: b"\0" * 64),
        "signature cut by a byte": token(sign=lambda m: signer.sign(m)[:-1]),
        "signature with a byte more": token(sign=lambda m: signer.sign(m) + b"\0"),
        "signature with a zero in front": token(sign=lambda m: b"\0" + signer.sign(m)),
        "signature of another token": f"{signed}.{token({'x': 1}).rpartition('.')[2]}",
        "signature padded": f"{signed}.{signature}=",
        "five parts": f"{good}.AAAA.AAAA",
        "as JSON": json.dumps(dict(zip(("protected", "payload", "signature"), good.split("."), strict=True))),
    }
    if signer.algorithm == "ES256":
        other_curve = ec.generate_private_key(ec.SECP384R1())
        made["signature in DER"] = token(sign=lambda m: EC_KEY.sign(m, ec.ECDSA(hashes.SHA256())))
        made["signature on another curve"] = token(sign=lambda m: other_curve.sign(m, ec.ECDSA(hashes.SHA256())))
        made["s above the order"] = token(sign=lambda m: _with_s(signer.sign(m), lambda s: s + P256_ORDER))
        made["r and s of zero and one"] = token(sign=lambda _: b"\0" * 63 + b"\1")
    if signer.algorithm == "EdDSA":
        made["S above the order"] = token(sign=lambda m: _above_order(signer.sign(m)))
    return made


def _with_s(signature: bytes, change: Callable[[int], int]) -> bytes:
    s = change(int.from_bytes(signature[32:], "big"))
    return signature[:32] + s.to_bytes(max(32, (s.bit_length() + 7) // 8), "big")


def _above_order(signature: bytes) -> bytes:
    s = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    return signature[:32] + s.to_bytes(32, "little")


def twin(token: str) -> str:
    """Return an ES256 token with the other of the two signatures that are equally valid."""
    signed = token.rpartition(".")[0]
    return f"{signed}.{encoded(_with_s(es256(EC_KEY)(signed.encode()), lambda s: P256_ORDER - s))}"
