"""The measured system: one gateway on its own core, and the broker, auth and the load client on another one.

Publisher and workers are not started: they would use the load client's core, and are not on the way from the broker to
a socket. Auth is frozen while events are pushed through, for the same reason: it also reads the stream, to learn which
room belongs to which root.
"""

import asyncio
import functools
import json
import os
import re
import secrets
import signal
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from nats.aio.client import Client
from pydantic import SecretStr
from sqlalchemy import insert

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import NatsServer
from beaconfire_auth.keys import Keys
from beaconfire_auth.seal import Seal
from beaconfire_auth.store import MEMBERS, USERS
from beaconfire_kit import broker, tokens
from beaconfire_kit.catalogue.builtin import documents
from beaconfire_kit.catalogue_store import CatalogueStore
from beaconfire_kit.database import Database
from beaconfire_kit.gateway_buckets import BUCKETS
from beaconfire_kit.settings import Settings
from beaconfire_kit.stream_setup import declare_stream
from bench.cores import on_core
from bench.gateway import MARK
from bench.load import PAYLOAD_EVENT, LoadFailed, Target, wait_until

CAMPAIGN = "bench"
UNLIMITED = {
    f"BEACONFIRE_{name}": "1000000"
    for name in (
        "MAX_SESSIONS_PER_USER",
        "MAX_SESSIONS_PER_ADDRESS",
        "MAX_CONNECTING",
        "MAX_CONNECTING_PER_ADDRESS",
        "MESSAGES_PER_MINUTE_PER_USER",
        "ROOMS_PER_MINUTE_PER_USER",
    )
}
"""All load comes from one address, so the limits per address and per user are raised."""
EPOCH = "bench"
SERVER, BROKER = "server", "broker"
NATIVE, SOCKETIO, SSE, POLL = "native", "socketio", "sse", "poll"
"""Ways into the gateway."""
OTHER_TOKENS = 2_000
FEW = 200
MEMORY_STREAM_BYTES = 48 * 1024 * 1024  # the broker's configuration allows 64 MB in memory


class System:
    """Broker, auth and a gateway. Call `start`, then `start_gateway` any number of times. `stop` ends all of them."""

    def __init__(self, folder: Path, *, users: int, in_memory: bool) -> None:
        self._folder = folder
        self._users = users
        self._in_memory = in_memory
        self._keys_secret = secrets.token_hex(24)
        self._gc_lines: list[str] = []
        self.tokens = folder / "tokens.txt"
        self.other_tokens = folder / "other-tokens.txt"
        """Other tokens of the same users, issued in the same second."""
        self.few_tokens = folder / "few-tokens.txt"
        """The tokens of a few users."""
        self.nats = NatsServer(folder / "nats")
        self.auth = ServiceProcess(
            "auth",
            "beaconfire_auth",
            {
                **self.nats.environment("auth"),
                "BEACONFIRE_DATABASE_URL": self._database_url,
                "BEACONFIRE_KEYS_SECRET": self._keys_secret,
                "BEACONFIRE_LOG_LEVEL": "warning",
            },
            folder=folder / "logs",
        )
        self.gateway = self._gateway({})

    def start(self) -> None:
        """Start broker and auth, and create the users. Raises DidNotStart, BrokerDidNotStart."""
        with on_core(1):
            self.nats.start()
            asyncio.run(self._declare_stream())
            self.auth.start()
        asyncio.run(self._add_users())

    def start_gateway(self, environment: Mapping[str, str] | None = None, *, core: int | None = 0) -> None:
        """Start or restart the gateway on a core. None means all cores. Raises DidNotStart."""
        self.auth.process.thaw()
        self.gateway.kill()
        self.gateway = self._gateway(environment or {})
        with on_core(core):
            self.gateway.start()

    def stop_gateway(self) -> None:
        """End the gateway."""
        self.gateway.kill()

    def stop(self) -> None:
        """End everything."""
        for process in (self.gateway.process, self.auth.process, self.nats.process):
            process.thaw()
            process.kill()

    def target(self, *, is_narrow: bool = False, cursor: str | None = None, way: str = NATIVE) -> Target:
        """Return the gateway as a target. Its room is a campaign or, with `is_narrow`, settlements of that campaign."""
        room = f"campaign:{CAMPAIGN}/settlement:s%d" if is_narrow else f"campaign:{CAMPAIGN}"
        after = f',"cursor":"{cursor}"' if cursor else ""
        native = replace(
            self.store().watching(**{SERVER: self.gateway_pid}),
            steps=[f'0:{{"type":"connect","id":1,"token":"{{token}}","rooms":[{{rooms}}]{after}}}'],
            headers=["Sec-WebSocket-Protocol: beaconfire.v1"],
            answers=1,
            room=room,
            options=["--refused", '"success":false'],
            tokens=self.tokens,
        )
        bearer = ["Authorization: Bearer {token}"]
        if way == SOCKETIO:
            return replace(
                native,
                path="/socket.io/?EIO=4&transport=websocket",
                steps=['1:40{"token":"{token}","rooms":[{rooms}]}'],
                headers=[],
                answers=3,  # the open packet, CONNECT and the ack
                event=PAYLOAD_EVENT,
                options=[*native.options, "--ping", "2=3"],
            )
        if way == SSE:
            options = [*native.options, "--carrier", "stream"]
            return replace(native, path="/sse?rooms={room}", steps=[], headers=bearer, options=options)
        if way == POLL:
            options = [*native.options, "--carrier", "polls"]
            path = "/poll?rooms={room}&cursor={cursor}"
            return replace(native, path=path, steps=[], headers=bearer, options=options)
        return native

    def store(self) -> Target:
        """Return the stream as a target, for a load client that only publishes. No gateway need run."""
        host = self.nats.url.removeprefix("nats://")
        return Target(
            port=self.gateway.port,
            publish=f"nats:{host}:publisher:{self.nats.passwords['publisher']}",
            subject=f"campaign.{CAMPAIGN}.settlement.s%d",
            steps=[],
            watch={BROKER: self._pid(self.nats.process.pid)},
        )

    @property
    def gateway_pid(self) -> int:
        return self._pid(self.gateway.process.pid)

    @contextmanager
    def auth_frozen(self) -> Iterator[None]:
        """Freeze auth during the block."""
        self.auth.process.freeze()
        try:
            yield
        finally:
            self.auth.process.thaw()

    def memory_kib(self) -> int:
        """Return RssAnon of the gateway and its workers in KiB. It does not include file pages, which vary."""
        children = Path(f"/proc/{self.gateway_pid}/task/{self.gateway_pid}/children").read_text().split()
        return sum(rss_anon_kib(pid) for pid in (self.gateway_pid, *map(int, children)))

    @property
    def cursor(self) -> str:
        """Return the gateway's position in the stream in memory, with its known epoch."""
        return f"{EPOCH}:{int(self.metric('beaconfire_gateway_position'))}"

    def metric(self, name: str) -> float:
        """Return a figure of the gateway's /metrics, or 0 if it has none."""
        with urllib.request.urlopen(f"{self.gateway.ops_url}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))

    def hold_collector(self) -> None:
        """Stop the gateway from freezing sessions until its pauses are asked for. See `bench.gateway`."""
        os.kill(self.gateway_pid, signal.SIGUSR2)

    def gc_pauses_ms(self) -> dict[str, float]:
        """Return how long a full collection stops the gateway. See `bench.gateway`."""
        self._gc_lines.clear()
        os.kill(self.gateway_pid, signal.SIGUSR1)
        wait_until(lambda: self._gc_lines, "the gateway's garbage collector reports")
        return dict(json.loads(self._gc_lines[0])[MARK])

    def _read_line(self, _name: str, line: str) -> None:
        if MARK in line:
            self._gc_lines.append(line)

    def _gateway(self, environment: Mapping[str, str]) -> ServiceProcess:
        return ServiceProcess(
            "gateway",
            "bench.gateway",
            {
                **self.nats.environment("gateway"),
                "BEACONFIRE_JWKS_URL": f"{self.auth.url}/.well-known/jwks.json",
                "BEACONFIRE_LOG_LEVEL": "warning",
                "PYTHONPATH": str(Path(__file__).parents[1]),  # this package is not installed
                **UNLIMITED,
                **environment,
            },
            folder=self._folder / "logs",
            on_line=self._read_line,
        )

    @property
    def _database_url(self) -> str:
        return f"sqlite+aiosqlite:///{(self._folder / 'auth').absolute()}.db"

    @staticmethod
    def _pid(pid: int | None) -> int:
        if pid is None:
            raise LoadFailed("not started")
        return pid

    async def _declare_stream(self) -> None:
        settings = Settings(
            nats_url=self.nats.url, nats_user="setup", nats_password=SecretStr(self.nats.passwords["setup"])
        )
        nc: Client = await broker.connect(settings, "setup", on_closed=lambda: None)
        try:
            if self._in_memory:
                config = {"storage": "memory", "max_bytes": MEMORY_STREAM_BYTES, "duplicate_window": 1_000_000_000}
                wanted = broker.stream_config(replicas=1, epoch=EPOCH) | config
                await nc.request(f"$JS.API.STREAM.CREATE.{broker.STREAM}", json.dumps(wanted).encode(), timeout=5)
                await broker.publish(nc, "anchor", b"", message_id="anchor")
                store = CatalogueStore(nc)
                await store.prepare()
                await store.push(documents().values(), by="bench")
                for bucket in BUCKETS.values():
                    await bucket.declare(nc, replicas=1)
            else:
                await declare_stream(nc)
        finally:
            await broker.close(nc)

    async def _add_users(self) -> None:
        """Write users into auth's tables, as members of one campaign, and a token for each, signed with auth's key.

        Signing up over HTTP would hash a password for each, which takes half a minute for a thousand.
        """
        database = Database(self._database_url)
        try:
            keys = Keys(database, Seal([self._keys_secret]))
            await keys.refresh()
            key_id, key = keys.signer
            names = [f"user{number}" for number in range(self._users)]
            now = datetime.now(UTC)
            async with database.writing() as tx:
                rows = [
                    {"id": one, "email": f"{one}@bench.example", "name": one, "password_hash": "", "created_at": now}
                    for one in names
                ]
                await tx.execute(insert(USERS), rows)
                member = {"root_kind": "campaign", "root_id": CAMPAIGN, "role": "viewer"}
                await tx.execute(insert(MEMBERS), [{**member, "user_id": one} for one in names])
        finally:
            await database.close()
        sign = functools.partial(
            tokens.sign,
            key,
            key_id,
            issuer="beaconfire",
            audience="beaconfire",
            ttl_s=tokens.MAX_LIFETIME_S,
            not_before=int(time.time())
            + 15,  # all from the same second, and accepted immediately, because it is within the leeway
        )
        for path, most in ((self.tokens, self._users), (self.other_tokens, OTHER_TOKENS), (self.few_tokens, FEW)):
            path.write_text("".join(sign(user_id=one, name=one) + "\n" for one in names[:most]))


def rss_anon_kib(pid: int) -> int:
    """Return the memory of a process that belongs to no file, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    return 0


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user and system, from the 14th field on
