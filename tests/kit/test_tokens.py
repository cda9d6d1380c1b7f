"""Only strictly valid tokens are accepted (RFC 8725)."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from beaconfire_kit import tokens
from beaconfire_kit.subjects import is_id, parse_subject
from beaconfire_kit.tokens import InvalidPattern, InvalidToken, ServiceClaims
from tests.forgery import ABSENT, KEY, KEYS, OTHER_KEY, Forger, Fresh, forged, hostile


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


def test_signed_token_is_read_back() -> None:
    before = int(time.time())
    claims = verify(signed())

    assert (claims.user_id, claims.name) == ("owner", "Owner")
    assert before <= claims.issued_at <= time.time()
    assert claims.expires_at - claims.issued_at == 60


def test_base_of_the_hostile_tokens_is_a_valid_token() -> None:
    assert verify(forged()).user_id == "owner"


def test_each_token_has_its_own_id() -> None:
    assert verify(signed()).token_id != verify(signed()).token_id


def test_token_dated_two_seconds_ahead_is_valid_at_once() -> None:
    """A token issued right after a revocation is dated behind it, which can be in the next second."""
    ahead = int(time.time()) + 2

    assert verify(signed(not_before=ahead)).issued_at == ahead


@pytest.mark.parametrize("ttl_s", [0, -1, 3_601])
def test_token_that_would_be_refused_for_its_lifetime_is_not_signed(ttl_s: int) -> None:
    with pytest.raises(ValueError, match="lives"):
        signed(ttl_s=ttl_s)


HOSTILE = Fresh(lambda: hostile(Forger(KEY, "k1")))


@pytest.mark.parametrize("problem", HOSTILE.tokens())
def test_hostile_tokens_are_refused_with_one_exception(problem: str) -> None:
    with pytest.raises(InvalidToken):
        verify(HOSTILE.tokens()[problem])


@pytest.mark.parametrize("skew_s", [-25, 25])
def test_tokens_of_a_host_whose_clock_is_half_a_minute_off_are_valid(skew_s: int) -> None:
    now = int(time.time()) + skew_s

    assert verify(forged(claims={"iat": now, "exp": now + 5})).user_id == "owner"


def test_published_key_is_read_back_and_contains_nothing_private() -> None:
    jwk = tokens.public_jwk("k1", KEY.public_key())
    keys = tokens.read_jwks({"keys": [jwk]})

    assert set(jwk) == {"kty", "crv", "x", "kid", "alg", "use"}
    assert isinstance(keys["k1"], Ed25519PublicKey)
    assert keys["k1"].public_bytes_raw() == KEY.public_key().public_bytes_raw()


def test_keys_of_other_kinds_without_an_id_or_private_are_skipped() -> None:
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
def test_document_that_is_no_jwks_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="JWKS"):
        tokens.read_jwks(document)


MALFORMED_KEYS: dict[str, Any] = {
    "too short": {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "bad"},
    "of another type": {"kty": "OKP", "crv": "Ed25519", "x": 7, "kid": "bad"},
    "null": {"kty": "OKP", "crv": "Ed25519", "x": None, "kid": "bad"},
    "absent": {"kty": "OKP", "crv": "Ed25519", "kid": "bad"},
    "not base64": {"kty": "OKP", "crv": "Ed25519", "x": "é!", "kid": "bad"},
    "not on the curve": {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43, "kid": "bad"},
    "half a point": {"kty": "EC", "crv": "P-256", "x": "A" * 43, "kid": "bad"},
    "RSA without e": {"kty": "RSA", "n": "A" * 342, "kid": "bad"},
    "RSA of zeros": {"kty": "RSA", "n": "A" * 342, "e": "AQAB", "kid": "bad"},
    "RSA with e in a list": {"kty": "RSA", "n": "_" * 342, "e": ["AQAB"], "kid": "bad"},
    "RSA with an exponent of 1": {"kty": "RSA", "n": "_" * 342, "e": "AQ", "kid": "bad"},
    "RSA of 100,000 bits": {"kty": "RSA", "n": "_" * 17_000, "e": "AQAB", "kid": "bad"},
    "kinds in lists": {"kty": ["OKP"], "crv": {"a": 1}, "kid": "bad"},
    "a number": 7,
    "a list": [[]],
}


@pytest.mark.parametrize("bad", MALFORMED_KEYS.values(), ids=MALFORMED_KEYS)
def test_one_malformed_key_does_not_affect_the_others(bad: Any) -> None:
    first, last = tokens.public_jwk("k1", KEY.public_key()), tokens.public_jwk("k2", OTHER_KEY.public_key())
    keys = tokens.read_jwks({"keys": [first, bad, last]}, ("EdDSA", "RS256", "ES256"))

    assert set(keys) == {"k1", "k2"}


def test_malformed_keys_are_counted_and_the_first_is_logged() -> None:
    before = tokens.SKIPPED_KEYS._value.get()
    bad = [MALFORMED_KEYS["too short"], MALFORMED_KEYS["a number"]]
    with capture_logs() as logged:
        tokens.read_jwks({"keys": [*bad, tokens.public_jwk("k1", KEY.public_key())]})

    assert tokens.SKIPPED_KEYS._value.get() - before == 2
    assert [(line["skipped"], line["of"], line["why"]) for line in logged] == [(2, 3, "key 'bad' is malformed")]


def service(**change: Any) -> ServiceClaims:
    now = int(time.time())
    about = {"service": "weather", "publish": ("campaign.*.world_time",), "issued_at": now, "expires_at": now + 60}
    return ServiceClaims(**{**about, "token_id": "t1", **change})


def service_token(**change: Any) -> str:
    return tokens.sign_service(KEY, "k1", service(**change), issuer="beaconfire", audience="beaconfire")


def verify_service(token: str) -> ServiceClaims:
    return tokens.verify_service(token, KEYS, issuer="beaconfire", audience="beaconfire")


def test_signed_service_token_is_read_back() -> None:
    claims = verify_service(service_token())

    assert (claims.service, claims.publish) == ("weather", ("campaign.*.world_time",))


def test_service_token_is_no_user_token_and_the_reverse() -> None:
    as_service = {"typ": "service+jwt"}, {"kind": "service", "publish": ["campaign.>"]}
    assert verify_service(forged(*as_service)).service == "owner"

    with pytest.raises(InvalidToken):
        verify(service_token())
    for token in (signed(), forged(None, as_service[1]), forged(as_service[0]), forged({"typ": "at+jwt"})):
        with pytest.raises(InvalidToken):
            verify_service(token)


@pytest.mark.parametrize(
    "claims",
    [
        {"kind": "user"},
        {"kind": ABSENT},
        {"publish": ABSENT},
        {"publish": []},
        {"publish": "campaign.>"},
        {"publish": [7]},
        {"publish": [">"]},
        {"publish": ["campaign"]},
        {"publish": ["campaign.c1.."]},
        {"publish": ["campaign.>.x"]},
        {"publish": ["live.>"]},
        {"publish": ["$JS.API.>"]},
        {"publish": ["campaign.c*"]},
        {"publish": ["campaign.c 1"]},
        {"publish": ["campaign.>"] * 51},
        {"sub": "a.b"},
        {"jti": 7},
        {"exp": int(time.time()) + 400 * 24 * 3600},
    ],
)
def test_service_token_with_a_wrong_claim_is_refused_despite_its_signature(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        verify_service(forged({"typ": "service+jwt"}, {"kind": "service", "publish": ["campaign.>"], **claims}))


@pytest.mark.parametrize("publish", [(), ("live.>",), ("campaign",)])
def test_service_token_that_would_be_refused_is_not_signed(publish: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"publish|start|pattern"):
        service_token(publish=publish)


@pytest.mark.parametrize(
    ("pattern", "subject", "allowed"),
    [
        ("campaign.>", "campaign.c1.world_time", True),
        ("campaign.>", "campaign.c1.settlement.s1", True),
        ("campaign.>", "workspace.w1.approval.a1", False),
        ("campaign.c1.>", "campaign.c1.world_time", True),
        ("campaign.c1.>", "campaign.c2.world_time", False),
        ("campaign.c1.>", "campaign.c1", False),
        ("campaign.*.settlement.>", "campaign.c1.settlement.s1", True),
        ("campaign.*.settlement.>", "campaign.c1.settlement.s1.structure.t1", True),
        ("campaign.*.settlement.>", "campaign.c1.location.l1", False),
        ("campaign.*.settlement.*", "campaign.c1.settlement.s1.structure.t1", False),
        ("campaign.*.world_time", "campaign.c1.world_time", True),
        ("campaign.>", "campaign.c1.member.u1", False),
        ("campaign.c1.member.u1", "campaign.c1.member.u1", False),
        ("workspace.>", "workspace.w1.member.u1", False),
        ("user.>", "user.u1.access", False),
        ("user.>", "user.u1.notification", True),
        ("campaign.>", "campaign.*.settlement.s1", False),
        ("campaign.>", "campaign.c1.>", False),
        ("campaign.>", "campaign.c1..x", False),
        ("campaign.>", "", False),
    ],
)
def test_pattern_allows_what_nats_would_match_below_the_roots_and_no_membership(
    pattern: str, subject: str, allowed: bool
) -> None:
    assert tokens.may_publish(service(publish=(pattern,)), subject) is allowed


@pytest.mark.parametrize("text", ["", ">", "campaign", "campaign.", "live.>", "campaign.a b", "campaign.>.x", "user.é"])
def test_malformed_pattern_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(InvalidPattern, match=r"start|pattern"):
        tokens.check_pattern(text)


def test_weak_and_mislabelled_keys_of_an_issuer_are_skipped() -> None:
    ec_key, rsa_key = ec.generate_private_key(ec.SECP256R1()).public_key(), rsa.generate_private_key(65537, 2048)
    weak = rsa.generate_private_key(65537, 1024).public_key()
    as_rsa = jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key.public_key(), as_dict=True)
    document = {
        "keys": [
            as_rsa | {"kid": "rsa", "alg": "RS256"},
            as_rsa | {"kid": "pss", "alg": "PS256"},
            as_rsa | {"kid": "enc", "use": "enc"},
            jwt.algorithms.RSAAlgorithm.to_jwk(weak, as_dict=True) | {"kid": "weak"},
            jwt.algorithms.ECAlgorithm.to_jwk(ec_key, as_dict=True) | {"kid": "ec"},
            tokens.public_jwk("k1", KEY.public_key()),
        ]
    }

    assert set(tokens.read_jwks(document, ("RS256", "ES256"))) == {"rsa", "ec"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
HEADERS = st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk"]), JSON | st.just("EdDSA"))
CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "name", "iat", "exp", "nbf", "jti", "kind", "publish"]), JSON
)


@given(text=st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
def test_any_text_as_a_token_is_refused_in_one_way(text: str) -> None:
    for check in (verify, verify_service, tokens.peek):
        with pytest.raises(InvalidToken):
            check(text)


@given(header=HEADERS, claims=CLAIMS, type_=st.sampled_from(["at+jwt", "service+jwt", "JWT"]))
def test_signed_token_with_any_claims_is_refused_or_has_valid_claims(
    header: dict[str, Any], claims: dict[str, Any], type_: str
) -> None:
    token = forged({"typ": type_, **header}, {**claims})
    for check in (verify, verify_service):
        try:
            found = check(token)
        except InvalidToken:
            continue
        who = found.service if isinstance(found, ServiceClaims) else found.user_id
        assert is_id(who)
        assert type(found.issued_at) is type(found.expires_at) is int
        assert 0 < found.expires_at - found.issued_at <= tokens.MAX_SERVICE_LIFETIME_S
        assert isinstance(found.token_id, str)


@given(
    document=JSON
    | st.fixed_dictionaries(
        {
            "keys": st.lists(
                st.dictionaries(
                    st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use"]),
                    JSON | st.sampled_from(["OKP", "Ed25519", "EC", "P-256", "RSA", "AQAB", "k1"]),
                ),
                max_size=3,
            )
        }
    )
)
def test_any_answer_of_an_issuer_gives_keys_or_a_value_error(document: Any) -> None:
    try:
        keys = tokens.read_jwks(document, ("EdDSA", "RS256", "ES256"))
    except ValueError:
        return
    assert all(isinstance(kid, str) for kid in keys)


@given(pattern=st.text(alphabet="campignworksue.*> a_1", max_size=30), subject=st.text(max_size=30))
def test_accepted_pattern_allows_only_subjects_and_nothing_of_auths(pattern: str, subject: str) -> None:
    try:
        claims = service(publish=(tokens.check_pattern(pattern),))
    except InvalidPattern:
        return
    if tokens.may_publish(claims, subject):
        assert parse_subject(subject)
    assert not tokens.may_publish(claims, "campaign.c1.member.u1")
