"""Settings that could never work stop the start, with the variable's name."""

from collections.abc import Mapping

import pytest

from beaconfire.admin.settings import Settings as AdminSettings
from beaconfire.service_settings import settings_classes, variables
from beaconfire_auth.settings import Settings as AuthSettings
from beaconfire_demo.settings import PageSettings
from beaconfire_gateway.process.settings import Settings as GatewaySettings
from beaconfire_kit.settings import Settings, misspellings, read_settings, variable
from tests.architecture.variables import known_variables


def read(monkeypatch: pytest.MonkeyPatch, cls: type[Settings], environment: Mapping[str, str]) -> Settings:
    """Return the settings that a service reads from this environment."""
    monkeypatch.setenv("BEACONFIRE_ENVIRONMENT", "development")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read_settings(cls)


REFUSED = {
    ("BEACONFIRE_ALLOWED_ORIGINS", "*"): "wildcards are not supported",
    ("BEACONFIRE_ALLOWED_ORIGINS", "https://app.example.com,https://*.example.com"): "wildcards are not supported",
    ("BEACONFIRE_ALLOWED_ORIGINS", "https://app.example.com/chat"): "leave it at https://app.example.com",
    ("BEACONFIRE_ALLOWED_ORIGINS", "app.example.com"): "not an origin",
    ("BEACONFIRE_TRUSTED_PROXIES", "10.0.0.1/8"): "write 10.0.0.0/8 or 10.0.0.1",
    ("BEACONFIRE_TRUSTED_PROXIES", "proxy.example.com"): "is not a network",
    ("BEACONFIRE_TRUSTED_PROXIES", "0.0.0.0"): "write 0.0.0.0/0",
    ("BEACONFIRE_TRUSTED_PROXIES", "::"): "write ::/0",
    ("BEACONFIRE_ISSUER", "beaconfire\n"): "white space",
    ("BEACONFIRE_AUDIENCE", " beaconfire"): "white space",
    ("BEACONFIRE_NATS_USER", "gateway\n"): "white space",
    ("BEACONFIRE_HOST", ""): "at least 1",
    ("BEACONFIRE_OPS_HOST", ""): "at least 1",
    ("BEACONFIRE_STATIC_DIR", "/no/such/folder"): "'/no/such/folder' is not a folder",
    ("BEACONFIRE_STATIC_DIR", __file__): "is not a folder",
    ("BEACONFIRE_OUTSIDE_ISSUERS", '[{"name": "a", "issuer": "a", "audience": "a ", "jwksUrl": "https://a"}]'): (
        ", entry 1, audience: starts or ends with white space"
    ),
    ("BEACONFIRE_OUTSIDE_ISSUERS", "{"): "not a JSON list",
    ("BEACONFIRE_OUTSIDE_ISSUERS", '[{"name": "a", "issuer": "a", "audience": "a", "jwksUrl": "a"}]'): (
        ", entry 1, jwksUrl: 'a' is not an address"
    ),
    (
        "BEACONFIRE_OUTSIDE_ISSUERS",
        '[{"name": "a", "issuer": "b", "audience": "a", "jwksUrl": "https://a"},'
        ' {"name": "b", "issuer": "c", "audience": "a", "jwksUrl": "https://b"}]',
    ): "b is the name of one outside issuer and the iss of a",
    ("BEACONFIRE_NATS_PASSWORD", "out-of-a-file\n"): "white space",
    ("BEACONFIRE_NATS_URL", "http://broker.example:4222"): "nats://",
    ("BEACONFIRE_JWKS_URL", "auth.example/jwks.json"): "http://",
    ("BEACONFIRE_JWKS_URL", "https://auth.example:port/"): "http://",
    ("BEACONFIRE_ISSUER", ""): "at least 1",
    ("BEACONFIRE_AUDIENCE", ""): "at least 1",
    ("BEACONFIRE_PORT", "web"): "integer",
    ("BEACONFIRE_LOG_LEVEL", "INFO"): "'debug', 'info'",
    ("BEACONFIRE_AUTOMATIC_ROOMS", '{"socketio:/other": ["user:{sub}"]}'): (
        "BEACONFIRE_SOCKETIO_NAMESPACES does not have /other"
    ),
}


REFUSED_FOR_THE_PAGE = {
    ("BEACONFIRE_PUBLIC_AUTH_URL", "https://auth.example?x"): "a query",
    ("BEACONFIRE_DEMO_PEOPLE", "["): "not a JSON list",
    ("BEACONFIRE_PUBLIC_AUTH_URL", "/auth"): "http://",
    ("BEACONFIRE_PUBLIC_SOCKET_URL", "https://gateway.example/ws"): "wss://",
}
REFUSED_FOR_THE_ADMIN_PAGE = {("BEACONFIRE_OPERATOR_TOKEN", ""): "is empty"}
ALL_REFUSED = REFUSED | REFUSED_FOR_THE_PAGE | REFUSED_FOR_THE_ADMIN_PAGE
OTHERS: dict[tuple[str, str], type[Settings]] = {
    **dict.fromkeys(REFUSED_FOR_THE_PAGE, PageSettings),
    **dict.fromkeys(REFUSED_FOR_THE_ADMIN_PAGE, AdminSettings),
}


@pytest.mark.parametrize(("given", "why"), ALL_REFUSED.items(), ids=["=".join(given) for given in ALL_REFUSED])
def test_impossible_value_ends_the_start_with_2_and_a_sentence_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: tuple[str, str], why: str
) -> None:
    name, value = given
    cls = OTHERS.get(given, GatewaySettings)
    with pytest.raises(SystemExit) as ended:
        read(monkeypatch, cls, {name: value})

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(name)
    assert why in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("cls", [GatewaySettings, AuthSettings])
def test_outside_issuer_with_our_own_name_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cls: type[Settings]
) -> None:
    """That issuer's keys would be used for our own tokens."""
    issuers = '[{"name": "a", "issuer": "beaconfire", "audience": "a", "jwksUrl": "https://a"}]'
    with pytest.raises(SystemExit):
        read(monkeypatch, cls, {"BEACONFIRE_OUTSIDE_ISSUERS": issuers, "BEACONFIRE_ISSUER": "beaconfire"})

    assert capsys.readouterr().err.startswith("BEACONFIRE_ISSUER: 'beaconfire' is an outside issuer, too")


def test_ipv4_proxies_may_be_written_as_mapped_ipv6_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    read_ = read(monkeypatch, GatewaySettings, {"BEACONFIRE_TRUSTED_PROXIES": "::ffff:10.0.0.0/104,::ffff:192.0.2.1"})

    assert isinstance(read_, GatewaySettings)
    assert [str(one) for one in read_.trusted_proxies] == ["10.0.0.0/8", "192.0.2.1/32"]


def test_allowed_origins_are_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        AuthSettings,
        {"BEACONFIRE_ALLOWED_ORIGINS": "https://App.Example.com:443/, https://app.example.com,http://localhost:3000/,"},
    )

    assert settings.allowed_origins == ("https://app.example.com", "http://localhost:3000")


def test_public_addresses_lose_their_trailing_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page appends a path to them."""
    settings = read(monkeypatch, PageSettings, {"BEACONFIRE_PUBLIC_AUTH_URL": "https://id.example/"})

    assert isinstance(settings, PageSettings)
    assert settings.public_auth_url == "https://id.example"


@pytest.mark.parametrize("written", ["BEACONFIRE_ALOWED_ORIGINS", "BEACONFIRE_ALLOWED_ORIGIN", "beaconfire_max_room"])
def test_misspelt_variable_stops_the_start_with_the_name_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], written: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        read(monkeypatch, GatewaySettings, {written: "1"})

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"{written}: there is no such setting; did you mean BEACONFIRE_" in said


@pytest.mark.parametrize("cls", settings_classes().values(), ids=settings_classes())
def test_variables_of_other_services_are_not_taken_for_misspellings(cls: type[Settings]) -> None:
    """All services may be given one file of variables."""
    assert list(misspellings(cls, known_variables())) == []


@pytest.mark.parametrize("cls", settings_classes().values(), ids=settings_classes())
def test_every_long_variable_with_a_missing_letter_is_recognised(cls: type[Settings]) -> None:
    others = known_variables()
    for name in variables(cls):
        short = name.removeprefix("BEACONFIRE_")
        for cut in range(len(short)):
            written = variable(short[:cut] + short[cut + 1 :])
            if len(short) >= 8 and written not in others:
                assert list(misspellings(cls, [written])), written
