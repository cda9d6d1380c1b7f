"""`beaconfire token explain` gives the verdict of the gateways, names what is wrong, and shows no secret."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from beaconfire.token_explanation import Issuers, explain
from beaconfire_kit import outside_tokens, tokens
from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.tokens import InvalidToken, ServiceClaims
from tests.forgery import ABSENT, KEY, KEYS, Forger, forged, hostile
from tests.issuers import ISSUER, RSA_KEY, SECRET, SIGNERS, Signer, hostile_tokens
from tests.tools.conftest import Call


def issuer(signer: Signer, **change: Any) -> OutsideIssuer:
    made = OutsideIssuer(
        **{"name": "acme", "issuer": ISSUER, "jwks_url": "https://id.example/keys", "audience": "beaconfire", **change}
    )
    return made.model_copy(update={"algorithms": (signer.algorithm,)})


def known(signer: Signer, **change: Any) -> Issuers:
    return Issuers(outside=[issuer(signer, **change)], keys={ISSUER: {"k1": signer.key}, "beaconfire": KEYS})


LOOSE = {"require_kid": False, "require_typ": False, "require_aud": False, "require_iat": False}


@pytest.mark.parametrize("loose", [{}, LOOSE], ids=["strict", "loose"])
@pytest.mark.parametrize("algorithm", SIGNERS)
def test_verdict_is_that_of_the_gateway_and_a_refusal_names_a_failed_check(
    algorithm: str, loose: dict[str, bool]
) -> None:
    signer = SIGNERS[algorithm]
    accepted = {
        "good": signer.token(),
        "without kid": signer.token({"kid": ABSENT}),
        "without typ": signer.token({"typ": ABSENT}),
        "without aud": signer.token(claims={"aud": ABSENT}),
        "without iat": signer.token(claims={"iat": ABSENT}),
    }
    for problem, token in {**accepted, **hostile_tokens(signer)}.items():
        explanation = explain(token, known(signer, **loose))
        try:
            outside_tokens.verify(token, {"k1": signer.key}, issuer(signer, **loose))
            is_valid = True
        except InvalidToken:
            is_valid = False
        failed = [check for check in explanation.checks if check.ok is False]

        assert explanation.accepted is is_valid, problem
        assert bool(failed) is not is_valid, (problem, explanation)


def test_verdict_about_auths_own_tokens_is_that_of_the_gateway() -> None:
    signer = SIGNERS["RS256"]
    good = explain(forged(), known(signer))

    assert good.accepted
    assert "accepted as the user owner of auth" in good.verdict
    for problem, token in hostile(Forger(KEY, "k1")).items():
        explanation = explain(token, known(signer))
        assert not explanation.accepted, problem


def test_service_token_is_explained_with_what_it_may_publish() -> None:
    now = int(time.time())
    claims = ServiceClaims("weather", ("campaign.*.world_time",), now, now + 60, "t1")
    token = tokens.sign_service(KEY, "k1", claims, issuer="beaconfire", audience="beaconfire")
    explanation = explain(token, known(SIGNERS["RS256"]))

    assert explanation.accepted
    assert "the service weather" in explanation.verdict
    assert explanation.publishes == ("campaign.*.world_time",)


def test_every_failed_check_is_named_at_once_with_what_was_expected() -> None:
    signer, now = SIGNERS["RS256"], int(time.time())
    token = signer.token({"typ": ABSENT}, {"aud": "other", "iat": now - 7_300, "exp": now - 90})
    failed = {check.name: check.detail for check in explain(token, known(signer), now=now).checks if check.ok is False}

    assert set(failed) == {"typ", "aud", "exp", "lifetime"}
    assert failed["typ"] == "absent; expected at+jwt or JWT"
    assert failed["aud"] == "'other'; expected 'beaconfire'"
    assert failed["exp"].endswith("90 s ago")
    assert failed["lifetime"] == "7210 s, 3600 at most"


def test_unknown_issuer_is_named_beside_the_known_ones() -> None:
    explanation = explain(SIGNERS["RS256"].token(claims={"iss": f"{ISSUER}/"}), known(SIGNERS["RS256"]))
    failed = [check for check in explanation.checks if check.ok is False]

    assert not explanation.accepted
    assert [check.detail for check in failed] == [f"'{ISSUER}/' is none of 'beaconfire', '{ISSUER}'"]


@pytest.fixture(name="shop")
def _shop(tmp_path: Path) -> dict[str, str]:
    """The setting of an issuer with a secret that may grant, as an environment."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    shop = {"name": "shop", "issuer": ISSUER, "audience": "beaconfire", "secretFiles": [str(path)]}
    return {"BEACONFIRE_OUTSIDE_ISSUERS": json.dumps([{**shop, "grants": {"depot:*": "editor"}}])}


def shop_token(**change: Any) -> str:
    now = int(time.time())
    return jwt.encode(
        {"iss": ISSUER, "aud": "beaconfire", "sub": "alice", "iat": now, "exp": now + 60, **change}, SECRET
    )


def test_command_shows_user_end_and_grants_and_neither_token_nor_secret(call: Call, shop: dict[str, str]) -> None:
    token = shop_token(beaconfire={"depot:d1": "editor", "depot:d2": "owner", "van:v1": "viewer"}, note="canary")
    said = call("token", "explain", token, **shop)

    assert said.exit_code == 0
    assert "Issuer: shop" in said.text
    assert "Accepted as the user shop-alice, until 20" in said.text
    assert "counts" in said.text
    assert "shop may grant editor at most in this root" in said.text
    assert "shop may not grant anything in this root" in said.text
    for secret in (token, *token.split("."), SECRET.decode(), "canary"):
        assert secret not in said.text


def test_text_of_a_token_does_not_control_the_terminal(call: Call, shop: dict[str, str]) -> None:
    said = call(
        "token", "explain", shop_token(beaconfire={"depot:\x1b[2J": "\x1b]0;own", "\r\u202ed1": "viewer"}), **shop
    )

    assert "depot:·[2J" in said.text
    assert [letter for letter in said.text if not letter.isprintable() and letter != "\n"] == []


def test_command_exits_with_1_for_a_token_that_would_be_refused(call: Call, shop: dict[str, str]) -> None:
    said = call("token", "explain", shop_token(aud="other"), "--json", **shop)
    found = json.loads(said.text)

    assert said.exit_code == 1
    assert found["accepted"] is False
    assert [check["name"] for check in found["checks"] if check["ok"] is False] == ["aud"]


def test_command_checks_with_the_files_it_is_given(call: Call, shop: dict[str, str], tmp_path: Path) -> None:
    signer = SIGNERS["RS256"]
    acme = [{"name": "acme", "issuer": ISSUER, "audience": "beaconfire", "jwksUrl": "https://id.example/keys"}]
    issuers, jwks, other = tmp_path / "issuers.json", tmp_path / "jwks.json", tmp_path / "other"
    issuers.write_text(json.dumps(acme))
    public = jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True)
    jwks.write_text(json.dumps({"keys": [{**public, "kid": "k1"}]}))
    other.write_text("another secret of 32 characters or more")
    by_jwks = call("token", "explain", signer.token(), "--issuers", str(issuers), "--jwks", str(jwks))
    by_secret = call("token", "explain", shop_token(), "--secret-file", str(other), **shop)

    assert by_jwks.exit_code == 0
    assert by_secret.exit_code == 1
    assert "none of them has signed it" in by_secret.text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--issuers", "/absent"), "cannot be read"),
        (("--issuers", "[{}]"), "--issuers: 0.name"),
        (("--secret-file", "/absent"), "/absent: cannot be read"),
        (("--jwks", "/absent"), "/absent cannot be read"),
    ],
)
def test_command_says_which_file_it_cannot_use(call: Call, arguments: tuple[str, ...], why: str) -> None:
    said = call("token", "explain", shop_token(), *arguments)

    assert said.exit_code == 1
    assert why in said.text


def test_unreachable_keys_leave_the_verdict_open(call: Call) -> None:
    said = call("token", "explain", forged(), BEACONFIRE_JWKS_URL="http://127.0.0.1:1/keys")

    assert said.exit_code == 1
    assert "Undecided: the keys cannot be read" in said.text
