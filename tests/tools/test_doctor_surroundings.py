"""What doctor says about versions, clocks, disks, certificates and secrets that expire."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from beaconfire import surroundings_diagnosis as judge
from beaconfire.diagnosis import Check, Facts, Readiness, examine
from beaconfire.nats_server import free_port
from beaconfire.outboxes import Seen
from beaconfire.surroundings import Credentials, Disk, Door, disks_of, look_at_doors
from beaconfire_kit.lease import Holder
from beaconfire_kit.outbox_table import WaitingRoot

NOW = datetime(2027, 3, 1, tzinfo=UTC)
GIB = 1024**3


def verdicts(checks: Iterable[Check]) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}


def service(url: str, **more: Any) -> Readiness:
    return Readiness(url, ready=True, said="ready", **more)


def every_problem_has_advice(checks: Iterable[Check]) -> bool:
    return all(check.advice for check in checks if check.verdict != "ok")


@pytest.mark.parametrize(
    ("versions", "verdict"),
    [
        (["0.4.0", "0.4.2"], "warning"),
        (["0.4.0", "0.4.0"], "ok"),
        (["0.3.1", "0.4.0"], "warning"),
        (["0.2.0", "0.4.0"], "wrong"),
        (["1.4.0", "0.4.0"], "wrong"),
        (["", ""], "unseen"),
    ],
)
def test_versions_that_differ_are_allowed_only_next_to_each_other(versions: list[str], verdict: str) -> None:
    services = [service(f"http://{number}:9090", version=version) for number, version in enumerate(versions)]
    (check,) = judge.versions(services, "0.4.0")

    assert check.verdict == verdict
    assert every_problem_has_advice([check])
    assert all(version in check.found for version in versions)


def test_clock_of_a_database_or_service_that_is_off_says_what_that_breaks() -> None:
    boxes = [Seen("auth", 0, [], 0, [], skew_s=0.1), Seen("publisher", 0, [], 0, [], skew_s=-45.0)]
    checks = list(judge.clocks([service("http://gateway", skew_s=5.0), service("http://auth", skew_s=0.4)], boxes))

    assert verdicts(checks) == {
        "clock of the database of auth": "ok",
        "clock of the database of publisher": "wrong",
        "clock of http://gateway": "warning",
    }
    assert "45.0 s behind" in checks[1].found
    assert "tokens are refused too early" in checks[2].advice


def test_disk_must_have_room_for_what_the_stream_may_still_grow_by() -> None:
    stream = {"config": {"max_bytes": 8 * GIB}, "state": {"bytes": GIB}}
    free = {"empty": 100 * 1024**2, "low": GIB // 2, "small": 3 * GIB, "large": 20 * GIB}
    seen = [Disk("the broker's store", name, size, 100 * GIB) for name, size in free.items()]
    found = list(judge.disks(seen, stream))
    databases = [Disk("the database of auth", "/data", size, 9 * GIB) for size in (3 * GIB, 100 * 1024**2)]
    of_sqlite = list(judge.disks(databases, stream))

    assert [check.verdict for check in found] == ["wrong", "warning", "warning", "ok"]
    assert "the stream may grow by 7 GiB" in found[2].found
    assert "`df -h small`" in found[2].advice
    assert "while it is full, events wait in the outbox" in found[0].advice
    assert [check.verdict for check in of_sqlite] == ["ok", "wrong"]
    assert of_sqlite[1].advice.endswith(": while it is full, changes fail")


def test_disks_of_this_machine_are_found_and_those_of_others_are_not(tmp_path: Path) -> None:
    databases = {"auth": f"sqlite+aiosqlite:///{tmp_path}/auth.db", "publisher": "postgresql+asyncpg://p@db/publisher"}

    assert [disk.what for disk in disks_of("/no/such/store", databases)] == ["the database of auth"]
    assert [disk.folder for disk in disks_of(str(tmp_path), {})] == [str(tmp_path)]


def test_storage_and_buckets_that_are_nearly_full_are_reported() -> None:
    page = {"server_name": "n1", "jetstream": {"config": {"max_storage": 100}, "stats": {"storage": 95}}}
    account = {"storage": 10, "limits": {"max_storage": 100}}
    bucket = {"config": {"max_bytes": 100}, "state": {"bytes": 99}}
    checks = list(judge.rooms(account, [page], {"bucket A": bucket, "bucket B": {}}))

    assert verdicts(checks) == {"max_file_store": "warning", "account's storage": "ok", "bucket A": "warning"}
    assert every_problem_has_advice(checks)


def test_public_door_without_tls_is_wrong_and_a_private_one_is_a_warning() -> None:
    doors = [Door("http://rt.example", is_private=False), Door("http://10.0.0.1", is_private=True)]
    checks = list(judge.doors(doors, NOW, development=False))

    assert [check.verdict for check in checks] == ["wrong", "warning"]
    assert "tokens can be read" in checks[0].advice
    assert [check.verdict for check in judge.doors(doors[1:], NOW, development=True)] == ["ok"]


def test_certificate_is_reported_before_it_expires() -> None:
    ends = {"ok": 60, "warning": 5, "wrong": -1}
    doors = [
        Door(f"https://{verdict}", False, True, NOW + timedelta(days=days), ("rt.example",))
        for verdict, days in ends.items()
    ]
    checks = list(judge.doors(doors, NOW, development=False))

    assert [check.verdict for check in checks] == list(ends)
    assert "expires in 5 days: for rt.example, until 2027-03-06" in checks[1].found


def certificate(folder: Path, name: str, lifetime: timedelta) -> Path:
    """A self-signed certificate for this name, and its key, in one file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + lifetime)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(made.public_bytes(Encoding.PEM) + private)
    return file


@asynccontextmanager
async def tls_server(file: Path) -> AsyncIterator[str]:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    port = free_port()
    async with await asyncio.start_server(answer, "127.0.0.1", port, ssl=context):
        yield f"https://127.0.0.1:{port}"


async def test_certificate_of_a_real_server_is_read_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = certificate(tmp_path, "rt.example", timedelta(days=5))
    async with tls_server(file) as url:
        (foreign,) = await look_at_doors([url])
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        trusted, plain, wrong = await look_at_doors([url, url.replace("https", "http"), "ftp://example"])
        (refused,) = await look_at_doors([f"https://127.0.0.1:{free_port()}"])

    assert foreign.names == trusted.names == ("rt.example", "127.0.0.1")
    assert "self-signed" in foreign.problem.replace("self signed", "self-signed")
    assert trusted.problem == ""
    assert trusted.expires is not None
    assert (plain.has_tls, plain.is_private) == (False, True)
    assert "https://" in wrong.problem
    assert "does not answer with TLS" in refused.problem


def test_service_token_in_use_is_reported_before_it_expires_with_the_command_for_another() -> None:
    def token(name: str, ends_days: int, used_days: int | None) -> dict[str, Any]:
        return {
            "id": name,
            "service": name,
            "publish": ["campaign.*.weather"],
            "expiresAt": (NOW + timedelta(days=ends_days)).isoformat(),
            "usedAt": None if used_days is None else (NOW - timedelta(days=used_days)).isoformat(),
            "revokedAt": None,
        }

    tokens = [token("weather", 3, 1), token("old", -1, 2), token("unused", 3, None), token("fresh", 90, 1)]
    key = {"kid": "k1", "state": "signing"}
    checks = list(judge.expiries(Credentials([key], tokens), NOW))

    assert verdicts(checks) == {
        "signing keys": "ok",
        "token of weather": "warning",
        "token of old": "wrong",
        "service tokens": "ok",
    }
    assert "`beaconfire service-token issue weather 'campaign.*.weather'`" in checks[1].advice
    assert verdicts(judge.expiries(Credentials([], []), NOW))["signing keys"] == "wrong"


@pytest.mark.parametrize(
    ("relay", "verdict"),
    [(Holder("host:7", 2.0), "ok"), (Holder("host:7", 90.0), "wrong"), (Holder("", 90.0), "wrong"), (None, "wrong")],
)
def test_outbox_names_the_event_that_blocks_a_root_and_the_process_that_sends(
    relay: Holder | None, verdict: str
) -> None:
    late = WaitingRoot("campaign:c1", 7, 42.0, "e1", "campaign.c1.state")
    box = Seen("publisher", 1, [late], 0, [], relay)
    facts = Facts({"version": "2.15.1", "max_payload": 262_144}, "operator", False, NOW, outboxes=(box,))
    checks = {check.name: check for check in examine(facts) if check.part == "outbox"}

    assert checks["relay of publisher"].verdict == verdict
    assert "7 events wait behind event e1 (campaign.c1.state)" in checks["publisher campaign:c1"].found
    assert every_problem_has_advice(checks.values())


@pytest.mark.parametrize(
    ("has_tls", "private", "verdict"), [(True, False, "ok"), (False, True, "ok"), (False, False, "wrong")]
)
def test_way_to_a_broker_on_a_public_address_must_be_encrypted(has_tls: bool, private: bool, verdict: str) -> None:
    assert judge.broker_door("nats://rt.example", has_tls, private).verdict == verdict


def test_outbox_that_cannot_be_read_is_shown_with_the_reason() -> None:
    unseen = {"outbox of auth": "auth.db: this database does not exist"}
    facts = Facts({"version": "2.15.1", "max_payload": 262_144}, "operator", False, NOW, unseen=unseen)
    checks = {check.name: check for check in examine(facts) if check.part == "outbox"}

    assert (checks["auth"].verdict, checks["auth"].found) == ("unseen", unseen["outbox of auth"])
    assert "--database" in checks["auth"].advice
