"""Real proxies in front of gateways, with the configurations of deploy/proxy: nginx, HAProxy and Caddy."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from beaconfire.nats_server import free_port
from tests.architecture.sources import ROOT

NAME = "localhost"
START_S = 15


class Balancer:
    """A proxy as a process."""

    def __init__(self, command: Sequence[str], folder: Path, port: int) -> None:
        self.url = f"https://{NAME}:{port}"
        self._command, self._folder, self._port = command, folder, port
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it takes connections."""
        log = self._folder / "proxy.log"
        with log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdout=output, stderr=output, cwd=self._folder
            )
        await _listens(self._port, self._process, log)

    async def kill(self) -> None:
        """Kill it. All of its connections are closed."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def balanced(
    kind: str, folder: Path, gateways: Sequence[str], *, port: int = 0, under_prefix: bool = False
) -> AsyncIterator[Balancer]:
    """Start a proxy in front of gateways (`http://…`), with TLS, for HTTP/1.1 and HTTP/2.

    The file `site.crt` in the folder is its certificate. `port` 0 is a free one. `under_prefix` serves everything under
    /table.
    """
    port = port or free_port()
    ends = [one.removeprefix("http://") for one in gateways]
    site = _under_prefix(kind, _read(_FILES[kind])) if under_prefix else _read(_FILES[kind])
    name, *arguments = _KINDS[kind](site, folder, port, ends)
    program = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin")
    assert program, f"{name} is missing: `make proxies` installs it"
    one = Balancer([program, *arguments], folder, port)
    try:
        await one.start()
        yield one
    finally:
        await one.kill()


@asynccontextmanager
async def proxied(kind: str, folder: Path, gateways: Sequence[str], **options: Any) -> AsyncIterator[str]:
    """Start a proxy as `balanced` does. Yields its address."""
    async with balanced(kind, folder, gateways, **options) as one:
        yield one.url


def _nginx(site: str, folder: Path, port: int, gateways: Sequence[str]) -> list[str]:
    certificate, key = _certificate(folder)
    more = "".join(f"    server {one} max_fails=1 fail_timeout=2s;\n" for one in gateways[2:])
    site = _placed(site, gateways).replace("    least_conn;\n", f"    least_conn;\n{more}")
    site = site.replace("443 ssl", f"127.0.0.1:{port} ssl")
    site = site.replace("/etc/nginx/site.crt", str(certificate)).replace("/etc/nginx/site.key", str(key))
    stores = "".join(
        f"{kind}_temp_path {folder / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder / 'nginx.pid'};\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{stores}{site}}}\n"
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _haproxy(site: str, folder: Path, port: int, gateways: Sequence[str]) -> list[str]:
    certificate, key = _certificate(folder)
    pair = folder / "site.pem"
    pair.write_bytes(certificate.read_bytes() + key.read_bytes())
    site = _placed(site, gateways).replace("bind :443", f"bind 127.0.0.1:{port}")
    site += "".join(f"    server gateway-{number} {one}\n" for number, one in enumerate(gateways[2:], 3))
    (folder / "haproxy.cfg").write_text(site.replace("/etc/haproxy/site.pem", str(pair)))
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


def _caddy(site: str, folder: Path, port: int, gateways: Sequence[str]) -> list[str]:
    certificate, key = _certificate(folder)
    site = site.replace("gateway-1:8080 gateway-2:8080", " ".join(gateways))
    # No other interface, and none of the container's ports.
    site = site.replace("admin off", f"admin off\n\tdefault_bind 127.0.0.1\n\tstorage file_system {folder / 'caddy'}")
    site = site.replace("http_port 8080", f"http_port {free_port()}").replace(
        "127.0.0.1:8081", f"127.0.0.1:{free_port()}"
    )
    site = site.replace("https_port 8443", f"https_port {port}")
    site = site.replace("{$BEACONFIRE_TLS:internal}", f"{certificate} {key}")
    (folder / "Caddyfile").write_text(site)
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


UNDER_A_PREFIX: Mapping[str, Sequence[tuple[str, str]]] = {
    "nginx": (
        ("location / {", "location /table/ {"),
        ("proxy_pass http://beaconfire_gateways;", "proxy_pass http://beaconfire_gateways/;"),
    ),
    "haproxy": (
        ("frontend beaconfire", "http-request redirect code 301 location /table/ if { path /table }"),
        ("frontend beaconfire", r"http-request replace-path /table/(.*) /\1"),
    ),
    "caddy": (("@auth path", "redir /table /table/ 301"), ("@auth path", "uri strip_prefix /table")),
}
"""How an operator changes a configuration to serve everything under /table (docs/howto/deploy.md)."""


def _under_prefix(kind: str, text: str) -> str:
    """Change a configuration as the page says."""
    for place, line in UNDER_A_PREFIX[kind]:
        assert text.count(place) == 1, place
        match kind:
            case "nginx":
                text = text.replace(place, line)
            case "haproxy":
                text = text.replace(place, f"{place}\n    {line}")
            case _:
                text = text.replace(place, f"{line}\n\t{place}")
    return text


_KINDS: Mapping[str, Callable[[str, Path, int, Sequence[str]], list[str]]] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "caddy": _caddy,
}
_FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg", "caddy": "Caddyfile"}
KINDS = tuple(_KINDS)


def _read(name: str) -> str:
    return (ROOT / "deploy/proxy" / name).read_text()


def _placed(text: str, gateways: Sequence[str]) -> str:
    """Return a configuration with the addresses of these gateways."""
    for number, gateway in enumerate(gateways, 1):
        text = text.replace(f"gateway-{number}:8080", gateway)
    return text


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "site.crt", folder / "site.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


async def _listens(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    """Wait until a proxy takes connections."""
    async with asyncio.timeout(START_S):
        while True:
            assert process.returncode is None, log.read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
