"""Look at what a deployment stands on: disks, certificates, and secrets that expire. `beaconfire doctor` uses it."""

import asyncio
import contextlib
import ipaddress
import shutil
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from sqlalchemy.engine import make_url

from beaconfire.api import ApiError
from beaconfire.operating import AuthOperator

TLS_S = 5.0
_TLS_PORTS = {"https": 443, "wss": 443}
_PLAIN_PORTS = {"http": 80, "ws": 80}


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of a folder on this machine."""

    what: str
    folder: str
    free_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Door:
    """An address that clients use, and its certificate."""

    url: str
    is_private: bool
    """Only this machine, or a private network, can reach it."""
    has_tls: bool = False
    expires: datetime | None = None
    names: tuple[str, ...] = ()
    problem: str = ""
    """Why a client would not trust it, or why it cannot be reached."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The signing keys and service tokens of auth, as its operations port lists them."""

    keys: Sequence[Mapping[str, Any]]
    service_tokens: Sequence[Mapping[str, Any]]


def disks_of(store: str | None, databases: Mapping[str, str]) -> tuple[Disk, ...]:
    """Return the disks of the broker's store and of SQLite's files, as far as they are on this machine."""
    folders = {"the broker's store": Path(store)} if store else {}
    for service, url in databases.items():
        file = make_url(url).database
        if url.startswith("sqlite") and file:
            folders[f"the database of {service}"] = Path(file).parent
    return tuple(_disk(what, folder) for what, folder in folders.items() if folder.is_dir())


def _disk(what: str, folder: Path) -> Disk:
    usage = shutil.disk_usage(folder)
    return Disk(what, str(folder), usage.free, usage.total)


async def look_at_doors(urls: Iterable[str]) -> tuple[Door, ...]:
    """Return each address with its certificate, as a client that verifies it sees it."""
    return tuple(await asyncio.gather(*(_look_at_door(url) for url in urls)))


async def _look_at_door(url: str) -> Door:
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if not host or scheme not in {**_TLS_PORTS, **_PLAIN_PORTS}:
        return Door(
            url, is_private=False, problem="is not an address that starts with https://, wss://, http:// or ws://"
        )
    private = await asyncio.to_thread(is_private, host)
    if scheme in _PLAIN_PORTS:
        return Door(url, private)
    return await _look_at_certificate(url, host, port or _TLS_PORTS[scheme], private)


async def _look_at_certificate(url: str, host: str, port: int, private: bool) -> Door:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE  # to read a certificate that is not trusted
    try:
        shown = await _certificate(host, port, trusting)
    except (OSError, TimeoutError) as error:
        return Door(url, private, problem=f"does not answer with TLS ({error or type(error).__name__})")
    problem = ""
    try:
        await _certificate(host, port, ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        problem = error.verify_message or str(error)
    except (OSError, TimeoutError) as error:
        problem = str(error) or type(error).__name__
    return Door(url, private, has_tls=True, expires=shown.not_valid_after_utc, names=_names(shown), problem=problem)


async def _certificate(host: str, port: int, context: ssl.SSLContext) -> x509.Certificate:
    async with asyncio.timeout(TLS_S):
        _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(TLS_S):
                await writer.wait_closed()
    return x509.load_der_x509_certificate(shown)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(getattr(name, "value", "")) for name in names)


def is_private(host: str) -> bool:
    """Return whether all addresses of a host are of this machine or of a private network. It may ask the DNS."""
    try:
        found = {str(one[4][0]).partition("%")[0] for one in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(one).is_private for one in found)


def read_credentials(operator: AuthOperator) -> Credentials:
    """Ask auth for its keys and service tokens. Raises ValueError with the reason."""
    try:
        return Credentials(operator.get("keys")["keys"], operator.get("service-tokens")["serviceTokens"])
    except ApiError as error:
        raise ValueError(str(error)) from None
