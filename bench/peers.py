"""The servers that Beaconfire is compared with.

They are Socket.IO and uWebSockets.js, each fed by Redis, Centrifugo fed by a nats-server, and a floor in C. Each runs
on the gateway's core. Redis, nats-server and the load client are on the other core. `npm ci` installs the packages
under `bench/peers`, from the lock file there. Centrifugo is compared if the variable CENTRIFUGO is the path of its
binary.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from beaconfire import nats_server
from beaconfire.nats_server import free_port
from beaconfire.processes import Process
from bench.cores import on_core
from bench.figures import CENTRIFUGO, FLOOR, PEERS, SOCKETIO, UWS
from bench.load import LoadFailed, Target, compile_c, wait_until
from bench.system import BROKER

LEFT_OUT = "left out by --no-peers"
FOLDER = Path(__file__).with_name("peers")
_MODULES = FOLDER / "node_modules"
_UWS = _MODULES / "@btc-vision" / "uwebsockets.js"
_CENTRIFUGO = os.environ.get("CENTRIFUGO", "")


class NotInstalled(Exception):
    """A peer is not available on this machine. The text names what is missing."""


class Peers:
    """The available peers, each started when it is needed. `missing` has the reasons for the others."""

    def __init__(self, folder: Path, *, wanted: bool) -> None:
        self._folder = folder
        self._redis: Process | None = None
        self._redis_port = free_port()
        self._nats: Process | None = None
        self._nats_port = free_port()
        self._uws_environment: dict[str, str] = {}
        self._floor = folder / "floor"
        self.missing: dict[str, str] = {}
        if not wanted:
            self.missing = dict.fromkeys(PEERS, LEFT_OUT)
            return
        self._prepare(FLOOR, lambda: compile_c(FOLDER / "floor.c", self._floor))
        self._prepare(SOCKETIO, self._install)
        self._prepare(UWS, self._install_uws)
        self._prepare(CENTRIFUGO, _find_centrifugo)

    def start(self, name: str) -> "Peer":
        """Start a peer on the gateway's core. Raises NotInstalled, LoadFailed."""
        if name in self.missing:
            raise NotInstalled(self.missing[name])
        if name == FLOOR:
            port, publish_port = free_port(), free_port()
            said = '0:{"subscribe":"{room}"}'
            target = Target(port, f"lines:127.0.0.1:{publish_port}", "%s", [said])
            return Peer(name, [str(self._floor), str(port), str(publish_port)], target, folder=self._folder)
        if name == CENTRIFUGO:
            return self._centrifugo()
        watch = {BROKER: self._start_redis()}
        port, redis = free_port(), f"redis://127.0.0.1:{self._redis_port}"
        if name == UWS:
            target = Target(
                port, f"redis:127.0.0.1:{self._redis_port}", "room.%s", ['0:{"subscribe":"{room}"}'], watch=watch
            )
            return Peer(
                name, _node("uws.js", port, redis), target, folder=self._folder, environment=self._uws_environment
            )
        publisher = FOLDER / "publish_socketio.js"
        target = Target(
            port,
            f"program:NODE_ENV=production exec node '{publisher}' {redis}",
            "%s",
            ["1:40", '2:42["subscribe","{room}"]'],
            path="/socket.io/?EIO=4&transport=websocket",
            extra_answers=2,
            options=["--ping", "2=3"],
            watch=watch,
        )
        return Peer(name, _node("socketio.js", port, redis), target, folder=self._folder)

    def _centrifugo(self) -> "Peer":
        """Centrifugo as it is by default. Its broker is NATS, and clients may subscribe without a token."""
        watch = {BROKER: self._start_nats()}
        port = free_port()
        target = Target(
            port,
            f"nats:127.0.0.1:{self._nats_port}",
            "room.%s",
            ['0:{"id":1,"connect":{}}', '1:{"id":2,"subscribe":{"channel":"{room}"}}'],
            path="/connection/websocket",
            answers=2,
            options=["--ping", "{}={}"],
            watch=watch,
        )
        environment = {
            "GOMAXPROCS": "1",
            "CENTRIFUGO_LOG_LEVEL": "error",
            "CENTRIFUGO_HTTP_SERVER_ADDRESS": "127.0.0.1",
            "CENTRIFUGO_HTTP_SERVER_PORT": str(port),
            "CENTRIFUGO_CLIENT_INSECURE": "true",
            "CENTRIFUGO_BROKER_ENABLED": "true",
            "CENTRIFUGO_BROKER_TYPE": "nats",
            "CENTRIFUGO_BROKER_NATS_URL": f"nats://127.0.0.1:{self._nats_port}",
            "CENTRIFUGO_BROKER_NATS_RAW_MODE_ENABLED": "true",
            "CENTRIFUGO_BROKER_NATS_RAW_MODE_PREFIX": "room.",
        }
        command = [_CENTRIFUGO]
        return Peer(CENTRIFUGO, command, target, folder=self._folder, environment=environment, says_nothing=True)

    def stop(self) -> None:
        """End Redis and nats-server."""
        for process in (self._redis, self._nats):
            if process is not None:
                process.kill()

    def _prepare(self, name: str, make: Callable[[], object]) -> None:
        try:
            make()
        except (NotInstalled, LoadFailed) as error:
            self.missing[name] = str(error)

    def _install(self) -> None:
        """Install the packages of the peers if they are missing. Raises NotInstalled."""
        for program, package in (("node", "nodejs"), ("npm", "npm"), ("redis-server", "redis-server")):
            if shutil.which(program) is None:
                raise NotInstalled(f"{program} is not installed (Debian: apt-get install {package})")
        lock = FOLDER / "package-lock.json"
        done = _MODULES / ".package-lock.json"
        if done.exists() and done.stat().st_mtime >= lock.stat().st_mtime:
            return
        print("Installing Socket.IO and uWebSockets.js under bench/peers/node_modules", file=sys.stderr)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(FOLDER)]
        try:
            installed = subprocess.run(command, capture_output=True, text=True, timeout=180)
        except subprocess.TimeoutExpired:
            raise NotInstalled("npm ci did not end within three minutes") from None
        if installed.returncode:
            raise NotInstalled(f"npm ci failed: {installed.stderr.strip()[-300:]}")

    def _install_uws(self) -> None:
        """Make uWebSockets.js loadable, even if glibc is older than the one it was built for."""
        self._install()
        if self._loads_uws():
            return
        shim = self._folder / "old_glibc.so"
        compile_c(FOLDER / "old_glibc.c", shim, options=("-shared", "-fPIC"))
        for binary in _UWS.glob("uws_linux_*.node"):
            allow_old_glibc(binary)
        self._uws_environment = {"LD_PRELOAD": str(shim)}
        if not self._loads_uws():
            raise NotInstalled("uWebSockets.js has no binary for this system and version of Node")

    def _loads_uws(self) -> bool:
        command = ["node", "-e", f"require({str(_UWS)!r})"]
        return subprocess.run(command, capture_output=True, env={**os.environ, **self._uws_environment}).returncode == 0

    def _start_redis(self) -> int:
        """Start Redis if it does not run. Returns its process id."""
        if self._redis is not None and self._redis.is_running and self._redis.pid is not None:
            return self._redis.pid
        words = [
            "redis-server",
            "--port",
            str(self._redis_port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self._redis = Process("redis", words, log_path=self._folder / "redis.log")
        return _start(self._redis, self._redis_port)

    def _start_nats(self) -> int:
        """Start nats-server if it does not run. Returns its process id."""
        if self._nats is not None and self._nats.is_running and self._nats.pid is not None:
            return self._nats.pid
        words = [nats_server.binary(), "--addr", "127.0.0.1", "--port", str(self._nats_port)]
        self._nats = Process("nats", words, log_path=self._folder / "nats-of-centrifugo.log")
        return _start(self._nats, self._nats_port)


def _start(broker: Process, port: int) -> int:
    """Start a broker on the load client's core. Returns its process id."""
    with on_core(1):
        broker.start()
    wait_until(lambda: _answers(port), f"{broker.name} answers")
    assert broker.pid is not None
    return broker.pid


class Peer:
    """A running server of a peer. Use it as a context manager."""

    def __init__(
        self,
        name: str,
        command: list[str],
        target: Target,
        *,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        says_nothing: bool = False,
    ) -> None:
        """It prints `ready`, or it says nothing and its port answers."""
        self._says_nothing = says_nothing
        self._said: list[str] = []
        self._process = Process(
            name,
            command,
            log_path=folder / f"{name}.log",
            environment={"NODE_ENV": "production", **(environment or {})},
            on_line=lambda _, line: self._said.append(line),
        )
        self._target = target

    def __enter__(self) -> Target:
        port = self._target.port
        with on_core(0):
            self._process.start()
        wait_until(
            lambda: "ready" in self._said or not self._process.is_running or (self._says_nothing and _answers(port)),
            f"{self._process.name} is ready",
        )
        if not self._process.is_running or self._process.pid is None:
            raise LoadFailed(f"{self._process.name} did not start: {' '.join(self._process.last_lines)[-300:]}")
        return self._target.watching(server=self._process.pid)

    def __exit__(self, *_: object) -> None:
        self._process.kill()


def allow_old_glibc(binary: Path) -> None:
    """Mark a binary's symbols of glibc 2.38 as weak, so that the loader works without them (ELF, 64 bits).

    `old_glibc.c` then provides the three functions in question.
    """
    data = bytearray(binary.read_bytes())
    (sections_at,) = struct.unpack_from("<Q", data, 0x28)
    size, count, _ = struct.unpack_from("<HHH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + number * size) for number in range(count)]
    needed = next((one for one in sections if one[1] == 0x6FFFFFFE), None)  # SHT_GNU_verneed
    if needed is None:
        return
    names_at, at = sections[needed[6]][4], needed[4]
    while True:
        _, auxiliaries, _, first, following = struct.unpack_from("<HHIII", data, at)
        here = at + first
        for _ in range(auxiliaries):
            _, flags, _, name, next_one = struct.unpack_from("<IHHII", data, here)
            text = data[names_at + name : data.index(0, names_at + name)]
            if text == b"GLIBC_2.38":
                struct.pack_into("<H", data, here + 4, flags | 2)  # VER_FLG_WEAK
            here += next_one
        if not following:
            break
        at += following
    binary.write_bytes(data)


def _find_centrifugo() -> None:
    """Raise NotInstalled if there is no binary of Centrifugo."""
    if not _CENTRIFUGO:
        raise NotInstalled("CENTRIFUGO is not set to the path of its binary")
    if shutil.which(_CENTRIFUGO) is None:
        raise NotInstalled(f"CENTRIFUGO={_CENTRIFUGO} is no program")


def versions() -> str:
    """Return the versions of the installed peers."""
    found = []
    for words, name in ((["node", "--version"], "Node"), (["redis-server", "--version"], "")):
        if shutil.which(words[0]):
            said = subprocess.run(words, capture_output=True, text=True).stdout.strip()
            found.append(f"{name} {said}".strip() if name else " ".join(said.split()[:3]))
    if _CENTRIFUGO and shutil.which(_CENTRIFUGO):
        said = subprocess.run([_CENTRIFUGO, "version"], capture_output=True, text=True).stdout
        found.append(" ".join(said.split()[:2]))
    for package in ("socket.io", "@socket.io/redis-adapter", "@btc-vision/uwebsockets.js"):
        description = _MODULES / package / "package.json"
        if description.exists():
            found.append(f"{package} {json.loads(description.read_text())['version']}")
    return ", ".join(found)


def _node(script: str, port: int, redis: str) -> list[str]:
    return ["node", str(FOLDER / script), str(port), redis]


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False
