"""services.auth.keys: made once, kept, several at a time."""

import os
import stat
from pathlib import Path

import pytest

from services.auth.keys import KeysUnusable, open_keys
from shared import tokens


def sign(folder: Path) -> str:
    keys = open_keys(folder)
    return tokens.sign(
        keys.private[keys.current], keys.current, user_id="u1", name="", issuer="i", audience="a", ttl_s=60
    )


def test_first_start(tmp_path: Path) -> None:
    """The first start makes one key, which only we may read."""
    keys = open_keys(tmp_path / "new" / "keys")
    files = list((tmp_path / "new" / "keys").iterdir())

    assert [path.name for path in files] == [f"{keys.current}.pem"]
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700


def test_later_start(tmp_path: Path) -> None:
    """Later starts keep it."""
    first, second = open_keys(tmp_path), open_keys(tmp_path)

    assert first.jwks() == second.jwks()


def test_rotation(tmp_path: Path) -> None:
    """The newest key signs, and tokens of the older one still verify."""
    old = sign(tmp_path)
    (older,) = tmp_path.glob("*.pem")
    newer = open_keys(tmp_path / "other").current
    (tmp_path / "other" / f"{newer}.pem").rename(tmp_path / f"{newer}.pem")
    os.utime(older, (1, 1))
    keys = open_keys(tmp_path)
    claims = tokens.verify(old, tokens.read_jwks(keys.jwks()), issuer="i", audience="a")

    assert keys.current == newer
    assert claims.user_id == "u1"


def test_unfinished_key(tmp_path: Path) -> None:
    """Half a key, of a start that was killed, is no key."""
    (tmp_path / "0123456789abcdef.new").write_bytes(b"-----BEGIN")
    keys = open_keys(tmp_path)

    assert keys.current != "0123456789abcdef"
    assert len(keys.private) == 1


@pytest.mark.parametrize("content", [b"", b"-----BEGIN", b"\0" * 100])
def test_unusable_key(tmp_path: Path, content: bytes) -> None:
    """A file that is no key stops the start with its name: nobody may be signed out by a new one in silence."""
    (tmp_path / "spoilt.pem").write_bytes(content)

    with pytest.raises(KeysUnusable, match=r"spoilt\.pem"):
        open_keys(tmp_path)


def test_unusable_folder(tmp_path: Path) -> None:
    """A folder that is none stops the start with its name."""
    (tmp_path / "keys").write_bytes(b"")

    with pytest.raises(KeysUnusable, match="keys"):
        open_keys(tmp_path / "keys")
