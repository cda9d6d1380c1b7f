"""shared.tokens: what a token must be to be believed (RFC 8725), and where the keys come from."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared import tokens
from shared.tokens import InvalidToken, JwksUnavailable, Verifier

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


def verify(token: str) -> tokens.Claims:
    return tokens.verify(token, KEYS, issuer="beaconfire", audience="beaconfire")


def signed(**change: Any) -> str:
    about: dict[str, Any] = {
        "user_id": "owner",
        "name": "Owner",
        "issuer": "beaconfire",
        "audience": "beaconfire",
        "ttl_s": 60,
    }
    return tokens.sign(KEY, "k1", **{**about, **change})


def hmac_with(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda message: hmac.new(secret, message, hashlib.sha256).digest()


def test_signed_and_verified() -> None:
    """What was signed is read back."""
    before = int(time.time())
    claims = verify(signed())

    assert (claims.user_id, claims.name) == ("owner", "Owner")
    assert before <= claims.issued_at <= time.time()
    assert claims.expires_at - claims.issued_at == 60


def test_forged_by_hand() -> None:
    """The token that the hostile ones below are made from is a good one."""
    assert verify(forged()).user_id == "owner"


def test_ids_are_unique() -> None:
    """Each token has an id of its own."""
    assert verify(signed()).token_id != verify(signed()).token_id


def test_dated_ahead() -> None:
    """A token dated behind a revocation that reaches into the next second is believed at once."""
    ahead = int(time.time()) + 2

    assert verify(signed(not_before=ahead)).issued_at == ahead


@pytest.mark.parametrize("ttl_s", [0, -1, 3_601])
def test_life_is_limited(ttl_s: int) -> None:
    """No token is signed that would be refused for its life."""
    with pytest.raises(ValueError, match="lives"):
        signed(ttl_s=ttl_s)


PUBLIC_RAW = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
PUBLIC_PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
JWK = tokens.public_jwk("k1", OTHER_KEY.public_key())

HOSTILE_HEADERS: dict[str, str] = {
    "no algorithm": forged({"alg": "none"}, sign=lambda _: b""),
    "no algorithm, other case": forged({"alg": "nOnE"}, sign=lambda _: b""),
    "no algorithm, our signature": forged({"alg": "none"}),
    "algorithm absent": forged({"alg": ABSENT}),
    "algorithm of another type": forged({"alg": ["EdDSA"]}),
    "HMAC with the raw public key": forged({"alg": "HS256"}, sign=hmac_with(PUBLIC_RAW)),
    "HMAC with the public key as PEM": forged({"alg": "HS256"}, sign=hmac_with(PUBLIC_PEM)),
    "HMAC with nothing": forged({"alg": "HS256"}, sign=hmac_with(b"")),
    "HMAC that calls itself EdDSA": forged(sign=hmac_with(PUBLIC_RAW)),
    "foreign key": forged(sign=OTHER_KEY.sign),
    "foreign key, brought along": forged({"jwk": JWK}, sign=OTHER_KEY.sign),
    "foreign key, where to fetch it": forged({"jku": "http://127.0.0.1:1/keys"}, sign=OTHER_KEY.sign),
    "foreign key, a certificate": forged({"x5c": ["AAAA"], "x5u": "http://127.0.0.1:1/"}, sign=OTHER_KEY.sign),
    "unknown kid": forged({"kid": "k2"}),
    "kid of a file": forged({"kid": "../../../../dev/null"}),
    "kid of a query": forged({"kid": "k1' OR '1'='1"}),
    "kid absent": forged({"kid": ABSENT}),
    "kid null": forged({"kid": None}),
    "kid of another type": forged({"kid": ["k1"]}),
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
    "header with a long number": forged(b'{"alg":"EdDSA","typ":"at+jwt","kid":"k1","n":' + b"9" * 5_000 + b"}"),
}

NOW = int(time.time())
GOOD_CLAIMS = {"iss": "beaconfire", "aud": "beaconfire", "sub": "owner", "iat": NOW, "exp": 0, "jti": "t1"}
HOSTILE_CLAIMS: dict[str, str] = {
    "expired": forged(claims={"iat": NOW - 1_000, "exp": NOW - 60}),
    "expires in words": forged(claims={"exp": str(NOW + 900)}),
    "expires in fractions": forged(claims={"exp": NOW + 900.5}),
    "expires never": forged(claims={"exp": ABSENT}),
    "expires at null": forged(claims={"exp": None}),
    "expires in a thousand years": forged(claims={"exp": NOW + 31_536_000_000}),
    "expires in 10^18": forged(claims={"exp": 10**18}),
    "expires in 1e400": forged(claims=json.dumps(GOOD_CLAIMS).replace('"exp": 0', '"exp": 1e400').encode()),
    "expires at infinity": forged(claims={"exp": float("inf")}),
    "expires at NaN": forged(claims={"exp": float("nan")}),
    "expires before it was issued": forged(claims={"iat": NOW + 20, "exp": NOW + 10}),
    "lives two hours": forged(claims={"iat": NOW - 3_700, "exp": NOW + 3_500}),
    "issued in the future": forged(claims={"iat": NOW + 3_000, "exp": NOW + 3_500}),
    "issued at true": forged(claims={"iat": True}),
    "issued never": forged(claims={"iat": ABSENT}),
    "not yet": forged(claims={"nbf": NOW + 3_000}),
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

HOSTILE_TEXTS: dict[str, str] = {
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


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(token, id=name)
        for hostile in (HOSTILE_HEADERS, HOSTILE_CLAIMS, HOSTILE_TEXTS)
        for name, token in hostile.items()
    ],
)
def test_hostile(token: str) -> None:
    """Each is refused, with the one exception that callers translate."""
    with pytest.raises(InvalidToken):
        verify(token)


@pytest.mark.parametrize("skew_s", [-25, 25])
def test_clock_skew(skew_s: int) -> None:
    """A host whose clock is up to half a minute off issues tokens that are believed."""
    now = int(time.time()) + skew_s

    assert verify(forged(claims={"iat": now, "exp": now + 5})).user_id == "owner"


def test_jwk_is_public() -> None:
    """A published key is read back as itself, and holds nothing private."""
    jwk = tokens.public_jwk("k1", KEY.public_key())
    keys = tokens.read_jwks({"keys": [jwk]})

    assert set(jwk) == {"kty", "crv", "x", "kid", "alg", "use"}
    assert keys["k1"].public_bytes_raw() == PUBLIC_RAW


def test_other_keys_are_passed_over() -> None:
    """Keys of other kinds, without an id, or private ones are not ours to use."""
    good = tokens.public_jwk("k1", KEY.public_key())
    private = jwt.algorithms.OKPAlgorithm.to_jwk(OTHER_KEY, as_dict=True) | {"kid": "private"}
    rsa_key = rsa.generate_private_key(65537, 2048).public_key()
    ec_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    others = [
        jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key, as_dict=True) | {"kid": "rsa"},
        jwt.algorithms.ECAlgorithm.to_jwk(ec_key, as_dict=True) | {"kid": "ec"},
        {"kty": "oct", "k": "AAAA", "kid": "secret"},
        {**good, "kid": 7},
        {name: value for name, value in good.items() if name != "kid"},
        "nonsense",
        None,
    ]
    keys = tokens.read_jwks({"keys": [private, *others, good]})

    assert set(keys) == {"k1"}


@pytest.mark.parametrize(
    "document",
    [{}, {"keys": None}, {"keys": {}}, {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "k"}]}],
)
def test_malformed_jwks(document: dict[str, Any]) -> None:
    """A document that is no JWKS is refused as a whole."""
    with pytest.raises(ValueError, match="JWKS"):
        tokens.read_jwks(document)


class Issuer:
    """Serves a JWKS over HTTP, counts who asks, and may fail."""

    def __init__(self) -> None:
        self.keys = {"k1": KEY}
        self.fetched = 0
        self.status = 200
        self.url = ""

    async def jwks(self, _request: web.Request) -> web.Response:
        self.fetched += 1
        keys = [tokens.public_jwk(kid, key.public_key()) for kid, key in self.keys.items()]
        return web.json_response({"keys": keys}, status=self.status)


@asynccontextmanager
async def running_issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    app = web.Application()
    app.router.add_get("/jwks", issuer.jwks)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    try:
        yield issuer
    finally:
        await runner.cleanup()


@pytest.fixture(name="issuer")
async def _issuer() -> AsyncIterator[Issuer]:
    async with running_issuer() as issuer:
        yield issuer


@asynccontextmanager
async def verifier(issuer: Issuer, **more: Any) -> AsyncIterator[Verifier]:
    async with aiohttp.ClientSession() as http:
        yield Verifier(http, issuer.url, issuer="beaconfire", audience="beaconfire", **more)


async def test_keys_are_fetched_once(issuer: Issuer) -> None:
    """Many tokens at once cost one fetch."""
    async with verifier(issuer) as checks:
        claims = await asyncio.gather(*(checks.verify(signed()) for _ in range(20)))

    assert {one.user_id for one in claims} == {"owner"}
    assert issuer.fetched == 1


async def test_rotation(issuer: Issuer) -> None:
    """A new key is fetched when a token first names it; the older one's tokens stay good."""
    async with verifier(issuer, refetch_s=0) as checks:
        old = signed()
        await checks.verify(old)
        issuer.keys["k2"] = OTHER_KEY
        new = tokens.sign(
            OTHER_KEY, "k2", user_id="editor", name="", issuer="beaconfire", audience="beaconfire", ttl_s=60
        )

        assert (await checks.verify(new)).user_id == "editor"
        assert (await checks.verify(signed())).user_id == "owner"


@pytest.mark.parametrize("status", [200, 500])
async def test_flood_of_unknown_keys(issuer: Issuer, status: int) -> None:
    """A hundred unknown keys cost one fetch and are refused, also where the fetch fails; good tokens still pass."""
    unknown = [forged({"kid": f"unknown-{number}"}) for number in range(100)]
    async with verifier(issuer, refetch_s=3_600) as checks:
        await checks.verify(signed())
        issuer.status = status
        checks._fetched_at = float("-inf")  # as if that had been long ago
        answers = await asyncio.gather(*(checks.verify(token) for token in unknown), return_exceptions=True)
        good = await checks.verify(signed())

    assert {type(answer) for answer in answers} == {tokens.UnknownKey}
    assert issuer.fetched == 2
    assert good.user_id == "owner"


async def test_issuer_away(issuer: Issuer) -> None:
    """Without any key nothing is decided, which is retryable; once the issuer is back, tokens are verified."""
    issuer.status = 500
    async with verifier(issuer) as checks:
        with pytest.raises(JwksUnavailable):
            await checks.verify(signed())
        issuer.status = 200

        assert (await checks.verify(signed())).user_id == "owner"


async def test_remembered_tokens_run_out(issuer: Issuer) -> None:
    """A token that was verified before is refused once it has expired."""
    now = time.time()
    async with verifier(issuer, clock=lambda: now) as checks:
        token = signed(ttl_s=60)
        await checks.verify(token)
        now += 60 + tokens.LEEWAY_S + 1

        with pytest.raises(InvalidToken):
            await checks.verify(token)
