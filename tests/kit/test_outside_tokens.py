"""Tokens of outside issuers: each algorithm, every loosened check, and grants."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from beaconfire_kit import outside_tokens, tokens
from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.outside_tokens import MAX_GRANTS, OutsideClaims, read_grants
from beaconfire_kit.roles import Role
from beaconfire_kit.secret_files import Secret
from beaconfire_kit.subjects import Pair, is_id
from beaconfire_kit.tokens import InvalidToken, UnknownKey
from tests.forgery import ABSENT, Fresh, hmac_with
from tests.issuers import ISSUER, RSA_KEY, SECRET, SIGNERS, Signer, hostile_tokens, twin


def issuer(signer: Signer | str = "EdDSA", **change: Any) -> OutsideIssuer:
    """An issuer that signs with one algorithm. Its secrets are given to `verify`, not read from a file."""
    algorithm = signer if isinstance(signer, str) else signer.algorithm
    made = OutsideIssuer(
        **{"name": "acme", "issuer": ISSUER, "jwks_url": "https://id.example/keys", "audience": "beaconfire", **change}
    )
    return made.model_copy(update={"algorithms": (algorithm,)})


def verify(token: str, signer: Signer, **change: Any) -> OutsideClaims:
    return outside_tokens.verify(token, {"k1": signer.key}, issuer(signer, **change))


@pytest.fixture(name="signer", params=list(SIGNERS.values()), ids=list(SIGNERS))
def _signer(request: pytest.FixtureRequest) -> Signer:
    signer: Signer = request.param
    return signer


def test_good_token_of_each_algorithm_names_its_user(signer: Signer) -> None:
    claims = verify(signer.token(claims={"name": "Alice", "aud": ["beaconfire", "account"]}), signer)

    assert (claims.user_id, claims.name, claims.outside, claims.subject) == ("acme-alice", "Alice", "acme", "alice")
    assert claims.grants == {}


HOSTILE = {name: Fresh(partial(hostile_tokens, signer)) for name, signer in SIGNERS.items()}


@pytest.mark.parametrize(
    ("algorithm", "problem"), [(name, problem) for name, found in HOSTILE.items() for problem in found.tokens()]
)
def test_hostile_tokens_of_each_algorithm_are_refused_with_one_exception(algorithm: str, problem: str) -> None:
    signer = SIGNERS[algorithm]
    with pytest.raises(InvalidToken):
        verify(HOSTILE[algorithm].tokens()[problem], signer)


@pytest.mark.parametrize(
    "loose", [{"require_kid": False}, {"require_typ": False}, {"require_aud": False}, {"require_iat": False}]
)
def test_hostile_tokens_are_refused_whichever_check_is_loosened(signer: Signer, loose: dict[str, bool]) -> None:
    for problem, token in HOSTILE[signer.algorithm].tokens().items():
        with pytest.raises(InvalidToken):
            pytest.fail(f"accepted: {problem}: {verify(token, signer, **loose)}")


def test_kid_is_needed_for_public_keys_and_ignored_for_secrets(signer: Signer) -> None:
    for kid in (ABSENT, "", "k2", "../../dev/null", "k1' OR '1'='1"):
        token = signer.token({"kid": kid})
        if signer.algorithm == "HS256":
            assert verify(token, signer).user_id == "acme-alice"
        else:
            with pytest.raises(InvalidToken):
                verify(token, signer)


@pytest.mark.parametrize("kid", [None, 7, ["k1"], {}])
@pytest.mark.parametrize("require_kid", [True, False])
def test_kid_that_is_not_a_text_is_refused(signer: Signer, kid: Any, require_kid: bool) -> None:
    with pytest.raises(InvalidToken):
        verify(signer.token({"kid": kid}), signer, require_kid=require_kid)


def test_token_without_kid_is_tried_with_the_keys_of_its_algorithm_if_the_issuer_allows_it() -> None:
    signer = SIGNERS["RS256"]
    others = {f"o{number}": rsa.generate_private_key(65537, 2048).public_key() for number in range(3)}
    curve = {"e1": SIGNERS["ES256"].key}
    loose, token = issuer(signer, require_kid=False), signer.token({"kid": ABSENT})

    assert outside_tokens.verify(token, {**others, **curve, "k1": signer.key}, loose).key_id == "k1"
    with pytest.raises(UnknownKey):  # it may be a new key's
        outside_tokens.verify(token, others, loose)
    with pytest.raises(UnknownKey):
        outside_tokens.verify(token, curve, loose)
    with pytest.raises(InvalidToken, match="5 keys"):
        outside_tokens.verify(token, {**others, "o3": others["o0"], "k1": signer.key}, loose)
    with pytest.raises(UnknownKey):  # a name that is given counts
        outside_tokens.verify(signer.token({"kid": "k2"}), {"k1": signer.key}, loose)


def test_keys_without_a_name_are_read_only_for_issuers_whose_tokens_need_not_name_one() -> None:
    nameless = jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True)
    symmetric = {"kty": "oct", "k": "A" * 43, "alg": "HS256"}
    document = {"keys": [nameless, symmetric, {**symmetric, "kid": "k1"}]}
    (key_id,) = tokens.read_jwks(document, ("RS256", "HS256"), need_kid=False)

    assert tokens.read_jwks(document, ("RS256", "HS256")) == {}
    assert key_id == next(iter(tokens.read_jwks(document, ("RS256",), need_kid=False)))


@pytest.mark.parametrize("typ", [ABSENT, "JWT", "jwt", "at+jwt", "AT+JWT"])
def test_typ_may_be_absent_only_if_the_issuer_allows_it(signer: Signer, typ: Any) -> None:
    token = signer.token({"typ": typ})

    assert verify(token, signer, require_typ=False).user_id == "acme-alice"
    if typ is ABSENT:
        with pytest.raises(InvalidToken):
            verify(token, signer)


def test_aud_may_be_absent_only_if_the_issuer_allows_it_and_counts_where_it_is_there(signer: Signer) -> None:
    absent, other = signer.token(claims={"aud": ABSENT}), signer.token(claims={"aud": "other"})

    assert verify(absent, signer, require_aud=False).user_id == "acme-alice"
    assert verify(signer.token(), signer, require_aud=False).user_id == "acme-alice"
    assert verify(absent, signer, require_aud=False, audience="").user_id == "acme-alice"
    for token, change in (
        (absent, {}),
        (other, {"require_aud": False}),
        (other, {"require_aud": False, "audience": ""}),
    ):
        with pytest.raises(InvalidToken) as refused:
            verify(token, signer, **change)
        assert refused.value.reason in ("missing_claim", "wrong_audience")


def test_token_without_iat_counts_as_issued_as_long_ago_as_its_issuer_lets_tokens_live(signer: Signer) -> None:
    end = int(time.time()) + 60
    token = signer.token(claims={"iat": ABSENT, "exp": end})

    assert verify(token, signer, require_iat=False, max_lifetime_s=600).issued_at == end - 600
    with pytest.raises(InvalidToken):
        verify(token, signer)
    with pytest.raises(InvalidToken) as refused:
        verify(signer.token(claims={"iat": ABSENT, "exp": end + 3_600}), signer, require_iat=False)
    assert refused.value.reason == "lives_too_long"


@pytest.mark.parametrize("secrets", [[SECRET], [SECRET, b"new" * 16], [b"new" * 16, SECRET]])
def test_token_is_verified_with_either_of_two_secrets(secrets: list[bytes]) -> None:
    keys: dict[str, tokens.Key] = {f"s{number}": Secret(one) for number, one in enumerate(secrets)}
    hs256 = issuer("HS256")

    assert outside_tokens.verify(SIGNERS["HS256"].token(), keys, hs256).user_id == "acme-alice"
    with pytest.raises(UnknownKey):  # it may be a new secret's, so the files are read again
        outside_tokens.verify(SIGNERS["HS256"].token(sign=hmac_with(b"x" * 32)), keys, hs256)


def test_es256_signature_has_a_twin_that_names_the_same_user_and_no_other_encoding() -> None:
    """RFC 7518 allows both. No decision depends on a token's text, so the twin gives nothing."""
    signer = SIGNERS["ES256"]
    token = signer.token()

    assert verify(twin(token), signer).user_id == verify(token, signer).user_id


def test_token_of_one_algorithm_is_refused_by_an_issuer_of_another() -> None:
    keys: dict[str, tokens.Key] = {name: signer.key for name, signer in SIGNERS.items()}
    for pinned in SIGNERS:
        for name, signer in SIGNERS.items():
            token = signer.token({"kid": name})
            if name == pinned:
                assert outside_tokens.verify(token, keys, issuer(pinned)).user_id == "acme-alice"
            else:
                with pytest.raises(InvalidToken):
                    outside_tokens.verify(token, keys, issuer(pinned))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exp": 1, "iat": 0}, "expired"),
        ({"nbf": 10**11}, "not_yet_valid"),
        ({"aud": "other"}, "wrong_audience"),
        ({"iss": "other"}, "wrong_issuer"),
        ({"sub": ABSENT}, "missing_claim"),
        ({"sub": 7}, "bad_claim"),
    ],
)
def test_refusal_has_a_reason_and_the_issuers_name_and_no_part_of_the_token(change: Any, reason: str) -> None:
    signer = SIGNERS["RS256"]
    with pytest.raises(InvalidToken) as refused:
        verify(signer.token(claims={"note": "canary", **change}), signer)

    assert (refused.value.reason, refused.value.issuer) == (reason, "acme")
    assert "canary" not in str(refused.value)


def test_any_claim_gives_one_stable_unique_user_id() -> None:
    signer = SIGNERS["EdDSA"]
    names = ["alice", "auth0|alice", "a" * 59, "a" * 60, "Ä", "a b", "_alice", "-alice"]
    ids = [verify(signer.token(claims={"sub": name}), signer).user_id for name in names]
    # A claim that was chosen to look like the hash of another does not become that other.
    ids.append(verify(signer.token(claims={"sub": ids[1].removeprefix("acme_")}), signer).user_id)

    assert len(set(ids)) == len(ids)
    assert all(is_id(one) and one.startswith("acme") for one in ids)


@pytest.mark.parametrize(("who", "user_id"), [(42, "acme-42"), ("42", "acme-42"), (0, "acme-0"), (2**53, None)])
def test_user_claim_may_be_a_whole_number(who: Any, user_id: str | None) -> None:
    """Except in `sub`, which is a text by RFC 7519."""
    signer = SIGNERS["EdDSA"]
    token = signer.token(claims={"uid": who, "sub": ABSENT})
    if user_id is not None:
        assert verify(token, signer, user_claim="uid").user_id == user_id
    else:
        with pytest.raises(InvalidToken):
            verify(token, signer, user_claim="uid")


@pytest.mark.parametrize(("verified", "email"), [(True, "alice@id.example"), (False, ""), ("true", ""), (ABSENT, "")])
def test_address_is_taken_over_only_if_the_issuer_verified_it(verified: Any, email: str) -> None:
    signer = SIGNERS["EdDSA"]
    token = signer.token(claims={"email": "Alice@id.example", "email_verified": verified})

    assert verify(token, signer).email == email


# Grants.

GRANTING: dict[str, Any] = {"grants": {"depot:*": "editor", "depot:hq": "viewer", "fleet:eu-*": "owner"}}


def grants(claim: Any, **change: Any) -> Any:
    signer = SIGNERS["EdDSA"]
    return verify(signer.token(claims={"beaconfire": claim}), signer, **{**GRANTING, **change}).grants


@pytest.mark.parametrize(
    ("root", "role", "counts"),
    [
        ("depot:d1", "viewer", True),
        ("depot:d1", "editor", True),
        ("depot:d1", "owner", False),
        ("depot:hq", "editor", True),  # the pattern that allows more counts
        ("fleet:eu-1", "owner", True),
        ("fleet:us-1", "viewer", False),
        ("fleet:eu", "viewer", False),
        ("depots:d1", "viewer", False),
        ("user:acme-alice", "viewer", False),
        ("depot:*", "viewer", False),
        ("depot:", "viewer", False),
        ("depot", "viewer", False),
        ("depot:d1/parcel:p1", "viewer", False),
        ("depot:d 1", "viewer", False),
        ("", "viewer", False),
        ("depot:d1", "Editor", False),
        ("depot:d1", "", False),
        ("depot:d1", None, False),
        ("depot:d1", ["viewer"], False),
        ("depot:d1", {"role": "viewer"}, False),
        ("depot:d1", 7, False),
    ],
)
def test_grant_counts_if_its_issuer_may_grant_that_role_in_that_root(root: str, role: Any, counts: bool) -> None:
    found = grants({root: role, "depot:d9": "viewer"})

    assert found[Pair("depot", "d9")] is Role.VIEWER
    assert len(found) == 1 + counts


def test_each_grant_that_does_not_count_has_a_reason() -> None:
    body = {"beaconfire": {"depot:d1": "owner", "van:v1": "viewer", "depot:d2": "boss", "depot": "viewer"}}
    told = {one.root: one.why_not for one in read_grants(body, issuer(**GRANTING))}

    assert told == {
        "depot:d1": "acme may grant editor at most in this root",
        "van:v1": "acme may not grant anything in this root",
        "depot:d2": "not a role: use owner, editor, viewer",
        "depot": "not a root like depot:d1",
    }


@pytest.mark.parametrize("claim", [None, [], "depot:d1", 7, True, [{"root": "depot:d1", "role": "viewer"}]])
def test_claim_of_another_shape_makes_the_token_invalid_only_for_an_issuer_that_may_grant(claim: Any) -> None:
    assert grants(claim, grants={}) == {}
    with pytest.raises(InvalidToken) as refused:
        grants(claim)
    assert refused.value.reason == "bad_grants"


def test_token_has_a_hundred_grants_at_most() -> None:
    assert len(grants({f"depot:{number}": "viewer" for number in range(MAX_GRANTS)})) == MAX_GRANTS
    with pytest.raises(InvalidToken, match="100 at most"):
        grants({f"depot:{number}": "viewer" for number in range(MAX_GRANTS + 1)})


def test_grants_are_in_the_claim_that_the_issuers_configuration_names() -> None:
    signer, name = SIGNERS["EdDSA"], "https://acme.example/beaconfire"
    token = signer.token(claims={name: {"depot:d1": "editor"}, "beaconfire": "something else"})

    assert verify(token, signer, **GRANTING, grants_claim=name).grants == {Pair("depot", "d1"): Role.EDITOR}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
ROOTS = st.text(max_size=8) | st.from_regex(r"(depot|user|fleet):[a-z*]{1,4}", fullmatch=True)
NAMES = ["iss", "aud", "sub", "name", "iat", "exp", "nbf", "jti", "email", "email_verified"]


@given(
    header=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk"]), JSON | st.just("EdDSA")),
    claims=st.dictionaries(st.sampled_from(NAMES), JSON),
    claim=JSON | st.dictionaries(ROOTS, st.sampled_from(["owner", "editor", "viewer"]) | JSON, max_size=4),
)
def test_signed_token_with_any_content_is_refused_or_has_valid_claims(
    header: dict[str, Any], claims: dict[str, Any], claim: Any
) -> None:
    signer = SIGNERS["EdDSA"]
    loose = {"require_kid": False, "require_typ": False, "require_aud": False, "require_iat": False}
    try:
        found = verify(signer.token(header, {**claims, "beaconfire": claim}), signer, **GRANTING, **loose)
    except InvalidToken:
        return
    assert is_id(found.user_id)
    assert found.user_id.startswith("acme")
    assert type(found.issued_at) is type(found.expires_at) is int
    assert 0 < found.expires_at - found.issued_at <= 3_600
    assert {root.kind for root in found.grants} <= {"depot", "fleet"}
    assert all(role in Role for role in found.grants.values())


def test_wrong_curve_is_no_key() -> None:
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)

    assert tokens.read_jwks({"keys": [jwk | {"kid": "k1"}]}, ("ES256",)) == {}


def test_secret_is_shown_by_nothing(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    made = OutsideIssuer(name="acme", issuer=ISSUER, audience="beaconfire", secret_files=(str(path),))

    assert SECRET.decode() not in repr(made) + repr(Secret(SECRET)) + made.model_dump_json()
