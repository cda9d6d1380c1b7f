"""Secrets in files: strict about what a file contains, and read again where the secret can change."""

import asyncio
from pathlib import Path

import pytest
import structlog

from beaconfire.nats_server import NatsServer
from beaconfire.service_settings import settings_classes
from beaconfire_auth.settings import Settings as AuthSettings
from beaconfire_kit import broker
from beaconfire_kit.consumer import faststream_options
from beaconfire_kit.seams.faststream_broker import FastStreamBroker
from beaconfire_kit.setting_files import may_be_in_file, read_setting
from beaconfire_kit.settings import Settings, read_settings

PASSWORD = "x4f9c0a1d2b3e5f60718293a4"


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "nats-password"
    path.write_text(PASSWORD)
    path.chmod(0o600)
    return path


@pytest.fixture(name="in_file", autouse=True)
def _in_file(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setenv("BEACONFIRE_ENVIRONMENT", "development")
    monkeypatch.setenv("BEACONFIRE_NATS_PASSWORD_FILE", str(path))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_secret_comes_from_the_file_that_the_variable_names_without_its_last_line_break(path: Path, end: str) -> None:
    path.write_text(PASSWORD + end)

    settings = read_settings(Settings)

    assert settings.nats_password.get_secret_value() == PASSWORD
    assert settings.is_in_file("nats_password")
    assert PASSWORD not in repr(settings)


def test_every_setting_of_a_secret_or_a_url_with_a_password_can_be_in_a_file() -> None:
    fields = {name: field for cls in settings_classes().values() for name, field in cls.model_fields.items()}
    secret_names = ("password", "secret", "token", "database_url", "nats_url")
    named = {name for name in fields if name.endswith(secret_names)}

    assert {name for name, field in fields.items() if may_be_in_file(field)} == named | {"grant_tokens"}


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"BEACONFIRE_NATS_PASSWORD": PASSWORD}, "NATS_PASSWORD and BEACONFIRE_NATS_PASSWORD_FILE are both set"),
        ({"BEACONFIRE_NATS_PASSWORD_FILE": "/no/file"}, "PASSWORD_FILE: /no/file: cannot be read (No such file or"),
        ({"BEACONFIRE_NATS_PASSWORD_FILE": "/tmp"}, "_FILE: /tmp: cannot be read (Is a directory)"),
        ({"BEACONFIRE_PORT_FILE": "/no/file"}, "BEACONFIRE_PORT holds no secret, so it cannot be in a file"),
        ({"BEACONFIRE_NATS_PASWORD_FILE": "/no/file"}, "did you mean BEACONFIRE_NATS_PASSWORD_FILE?"),
    ],
)
def test_wrong_file_ends_the_start_with_2_and_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str], why: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        read_settings(Settings)

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert why in said
    assert PASSWORD not in said


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b" " + PASSWORD.encode(), "white space at an end"),
        (b"one\ntwo\n", "several lines"),
        (b"\xff\xfe", "not text in UTF-8"),
        (b"x" * 4_097, "more than 4096 bytes"),
    ],
)
def test_file_that_holds_no_secret_is_refused_with_its_path(path: Path, content: bytes, why: str) -> None:
    path.write_bytes(content)

    with pytest.raises(ValueError, match=why) as refused:
        read_setting(str(path))
    assert str(refused.value).startswith(f"{path}: ")


def test_every_wrong_file_is_named_at_once_and_an_empty_variable_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BEACONFIRE_NATS_PASSWORD", "")
    monkeypatch.setenv("BEACONFIRE_KEYS_SECRET_FILE", "/no/keys")
    monkeypatch.setenv("BEACONFIRE_DATABASE_URL_FILE", "/no/url")
    monkeypatch.setenv("BEACONFIRE_OPERATOR_TOKEN_FILE", "")
    with pytest.raises(SystemExit):
        read_settings(AuthSettings)

    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "BEACONFIRE_DATABASE_URL_FILE",
        "BEACONFIRE_KEYS_SECRET_FILE",
    ]


def test_file_that_every_user_can_read_is_a_warning_in_the_log(path: Path) -> None:
    """Docker Swarm and Kubernetes mount secrets that way by default, so it is no error."""
    with structlog.testing.capture_logs() as private:
        read_settings(Settings).warn_of_readable_files()
    path.chmod(0o644)
    with structlog.testing.capture_logs() as public:
        read_settings(Settings).warn_of_readable_files()

    assert private == []
    assert [(line["log_level"], line["path"]) for line in public] == [("warning", str(path))]


def test_value_that_was_replaced_in_code_is_not_read_from_the_file_again(path: Path) -> None:
    settings = read_settings(Settings)
    other = settings.model_copy(update={"nats_password": type(settings.nats_password)("another")})
    path.write_text("rotated")

    assert settings.current("nats_password") == "rotated"
    assert other.current("nats_password") == "another"


def test_lost_file_leaves_the_secret_as_it_was_and_a_warning(path: Path) -> None:
    settings = read_settings(Settings)
    path.unlink()
    with structlog.testing.capture_logs() as lines:
        assert settings.current("nats_password") == PASSWORD

    assert [line["log_level"] for line in lines] == ["warning"]


async def test_broker_password_is_changed_while_services_keep_their_connections_and_the_file_changes_later(
    stream: NatsServer, path: Path
) -> None:
    """The broker drops the users with the old password. nats-py alone would then close for good."""
    path.write_text(stream.passwords["publisher"])
    settings = Settings(nats_url=stream.url, nats_user="publisher")
    back, refused, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def reconnected() -> None:
        back.set()

    async def noticed(problem: Exception) -> None:
        if "authorization violation" in str(problem).lower():
            refused.set()

    nc = await broker.connect(settings, "rotating", on_closed=closed.set, on_reconnected=reconnected)
    nc._error_cb = noticed
    worker = FastStreamBroker(**faststream_options(settings, "worker"))
    await worker.connect()
    try:
        stream.passwords["publisher"] = "y" + PASSWORD
        await asyncio.to_thread(stream.permit)
        async with asyncio.timeout(30):
            await refused.wait()
            path.write_text(stream.passwords["publisher"])
            await back.wait()
            offset = await broker.publish(nc, "campaign.c1.state", b"{}", message_id="after the rotation")
            await worker.publish(b"{}", "campaign.c1.state")
            await worker.ping(timeout=20)
    finally:
        await worker.stop()
        await broker.close(nc)

    assert offset > 0
    assert not closed.is_set()
