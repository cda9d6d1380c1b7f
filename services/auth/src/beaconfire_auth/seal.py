"""Encrypt secrets in the database: the signing keys, and the secret that derives refresh tokens."""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class KeysUnusable(Exception):
    """The keys in the database cannot be read. The text contains the reason and what to do."""


class Seal:
    """Encrypt and decrypt with `BEACONFIRE_KEYS_SECRET`. Its first secret encrypts, and all of them decrypt."""

    def __init__(self, secrets: Sequence[str]) -> None:
        fernets = [_fernet(secret) for secret in secrets]
        self._newest, self._all = fernets[0], MultiFernet(fernets)

    def close(self, plain: bytes) -> str:
        """Encrypt with the newest secret."""
        return self._newest.encrypt(plain).decode()

    def open(self, sealed: str, *, what: str) -> bytes:
        """Decrypt with any of the secrets. Raises KeysUnusable, which names `what`."""
        try:
            return self._all.decrypt(sealed.encode())
        except (InvalidToken, ValueError):
            raise KeysUnusable(
                f"BEACONFIRE_KEYS_SECRET does not open {what} in the database: restore the secret that encrypted it, "
                "after the new one and a comma if you are changing it"
            ) from None

    def renewed(self, sealed: str, *, what: str) -> str | None:
        """Encrypt again with the newest secret, or return None if it is already. Raises KeysUnusable."""
        try:
            self._newest.decrypt(sealed.encode())
        except InvalidToken:
            return self.close(self.open(sealed, what=what))
        return None


def _fernet(secret: str) -> Fernet:
    derived = HKDF(SHA256(), 32, salt=None, info=b"beaconfire signing keys").derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
