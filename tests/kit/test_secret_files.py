"""Secrets are read from files, strictly."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from beaconfire_kit.secret_files import read_secret, read_secrets
from tests.issuers import EC_KEY

SECRET = b"0f1e2d3c4b5a69788796a5b4c3d2e1f0"
PUBLIC = EC_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "issuer.secret"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_secret_is_the_files_content_without_its_last_line_break(path: Path, end: bytes) -> None:
    path.write_bytes(SECRET + end)

    assert read_secret(str(path)).value == SECRET


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("prefix", [b"", b"whsec_"])
def test_secret_in_base64_is_decoded_with_and_without_padding(path: Path, encode: object, prefix: bytes) -> None:
    raw = bytes(range(220, 256)) + b"\xfb\xff"
    for text in (encode(raw), encode(raw).rstrip(b"=")):  # type: ignore[operator]
        path.write_bytes(prefix + text + b"\n")
        assert read_secret(str(path), "base64").value == raw


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "has 0 bytes"),
        (b"x" * 31, "has 31 bytes"),
        (b"x" * 31 + b"\n", "has 31 bytes"),
        (b" " + SECRET, "white space"),
        (SECRET + b"\n\n", "white space"),
        (SECRET + b"\t", "white space"),
        (b"x" * 4_097, "more than 4096 bytes"),
        (PUBLIC, "is a key"),
        (b'{"keys": [{"kty": "RSA"}]}' + SECRET, "is a key"),
        (b"ssh-rsa " + SECRET * 9, "is a key"),
    ],
)
def test_file_that_holds_no_good_secret_is_refused_without_its_content(path: Path, content: bytes, why: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=why) as refused:
        read_secret(str(path))

    assert str(path) in str(refused.value)
    assert SECRET.decode() not in str(refused.value)


@pytest.mark.parametrize("content", [b"$$$" * 20, b"A" * 45, base64.b64encode(b"x" * 31), b"AAAA\nAAAA"])
def test_bad_base64_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"base64|31 bytes"):
        read_secret(str(path), "base64")


def test_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ValueError, match="cannot be read"):
            read_secret(str(path))


def test_two_equal_secrets_are_refused(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for path in paths:
        Path(path).write_bytes(SECRET)

    with pytest.raises(ValueError, match="the same secret"):
        read_secrets(paths)
