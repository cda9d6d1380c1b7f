"""An outside issuer's configuration is refused at the start if it is unsafe, or if a part of it has no effect."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from beaconfire_kit.outside_issuer import OutsideIssuer
from beaconfire_kit.roles import Role
from beaconfire_kit.settings import Settings, read_settings

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
BY_JWKS = {"name": "acme", "issuer": "https://id.example", "audience": "beaconfire", "jwksUrl": "https://id.example/k"}


@pytest.fixture(name="secret")
def _secret(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return str(path)


def by_secret(secret: str, **more: Any) -> dict[str, Any]:
    return {"name": "shop", "issuer": "shop", "audience": "beaconfire", "secretFiles": [secret], **more}


def test_algorithm_follows_from_where_the_keys_are(secret: str) -> None:
    assert OutsideIssuer.model_validate(BY_JWKS).algorithms == ("RS256",)
    assert OutsideIssuer.model_validate(by_secret(secret)).algorithms == ("HS256",)
    assert OutsideIssuer.model_validate(by_secret(secret, algorithms=["HS256"])).algorithms == ("HS256",)


def test_every_check_is_strict_unless_it_is_loosened() -> None:
    made = OutsideIssuer.model_validate(BY_JWKS)

    assert (made.require_kid, made.require_typ, made.require_aud, made.require_iat) == (True, True, True, True)
    assert made.grants == {}


JWKS_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"algorithms": ["HS256"]}, "needs secretFiles"),
    ({"algorithms": ["RS256", "HS256"]}, "needs secretFiles"),
    ({"algorithms": []}, "at least 1"),
    ({"algorithms": ["none"]}, "EdDSA"),
    ({"algorithms": ["HS512"]}, "EdDSA"),
    ({"jwksUrl": ""}, "either jwksUrl or secretFiles"),
    ({"audience": ""}, "name the audience"),
    ({"secretEncoding": "base64"}, "no effect"),
    ({"grantsClaim": "x"}, "no effect"),
    ({"grants": {"user:*": "viewer"}}, "user's root"),
    ({"grants": {"user:acme-alice": "viewer"}}, "user's root"),
    ({"grants": {"*": "viewer"}}, "not a pattern"),
    ({"grants": {"auth:*": "viewer"}}, "reserved"),
    ({"grants": {"*:*": "viewer"}}, "not a pattern"),
    ({"grants": {"depot:*x": "viewer"}}, "not a pattern"),
    ({"grants": {"depot": "viewer"}}, "not a pattern"),
    ({"grants": {"depot:d1/parcel:p1": "viewer"}}, "not a pattern"),
    ({"grants": {"depot:*": "admin"}}, "owner"),
    ({"requireKids": False}, "not permitted"),
]


@pytest.mark.parametrize(("change", "why"), JWKS_REFUSED, ids=[str(change) for change, _ in JWKS_REFUSED])
def test_unsafe_or_useless_configuration_of_an_issuer_with_a_jwks_is_refused(change: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        OutsideIssuer.model_validate({**BY_JWKS, **change})


SECRET_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"algorithms": ["RS256"]}, "needs jwksUrl"),
    ({"algorithms": ["HS256", "RS256"]}, "needs jwksUrl"),
    ({"jwksUrl": "https://id.example/k"}, "either jwksUrl or secretFiles"),
    ({"requireKid": False}, "no effect"),
    ({"secretFiles": ["/absent"]}, "cannot be read"),
    ({"secretFiles": ["/a", "/b", "/c"]}, "at most 2"),
]


@pytest.mark.parametrize(("change", "why"), SECRET_REFUSED, ids=[str(change) for change, _ in SECRET_REFUSED])
def test_unsafe_or_useless_configuration_of_an_issuer_with_secrets_is_refused(
    secret: str, change: Any, why: str
) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        OutsideIssuer.model_validate(by_secret(secret, **change))

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("encoding", ["text", "base64"])
def test_weak_secret_stops_the_start_and_is_not_printed(
    secret: str, encoding: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weak = b"correct horse battery staple for the shop"
    Path(secret).write_bytes(base64.b64encode(weak) if encoding == "base64" else weak)
    monkeypatch.setenv("BEACONFIRE_OUTSIDE_ISSUERS", json.dumps([by_secret(secret, secretEncoding=encoding)]))
    with pytest.raises(SystemExit):
        read_settings(Settings)

    said = capsys.readouterr().err
    assert "BEACONFIRE_OUTSIDE_ISSUERS: a secret of shop contains 'correct horse'" in said
    assert "battery" not in said


@pytest.mark.parametrize(
    ("root", "highest"),
    [
        ("depot:d1", Role.VIEWER),
        ("depot:eu-1", Role.EDITOR),
        ("depot:hq", Role.OWNER),
        ("depot:hq2", Role.VIEWER),
        ("depots:d1", None),
        ("van:v1", None),
    ],
)
def test_most_generous_pattern_of_a_root_counts(root: str, highest: Role | None) -> None:
    patterns = {"depot:*": "viewer", "depot:eu-*": "editor", "depot:hq": "owner"}
    issuer = OutsideIssuer.model_validate({**BY_JWKS, "grants": patterns})

    assert issuer.highest_grant(root) is highest
