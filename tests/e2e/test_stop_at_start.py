"""SIGTERM and SIGINT at any moment of a start end the process in order, with exit code 0."""

import os
import signal
import socket
from pathlib import Path
from queue import Queue

import pytest

from beaconfire.local_services import ServiceProcess
from beaconfire.nats_server import free_port

PATIENCE_S = 50.0
IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}
"""Every import is a line of output: how far a start has come."""
MOMENTS = {
    "auth": (" uvloop", "| beaconfire_auth.app", "migrated the database", "listening"),
    "publisher": (" uvloop", "| beaconfire_publisher.app", "migrated the database", "listening"),
    "gateway": ("| structlog", "| beaconfire_gateway.process.app", "listening"),
    "scheduler": (" uvloop", "| beaconfire_publisher.app", "migrated the database", "listening"),
}


class Start:
    """A service that starts, without a broker, and what it has said so far."""

    def __init__(self, name: str, folder: Path, *, ignores: str = "", workers: int = 1, database_url: str = "") -> None:
        self._lines: Queue[str] = Queue()
        module = f"beaconfire_{name}" if name in ("auth", "gateway") else "beaconfire_publisher"
        service = ServiceProcess(
            name,
            module,
            {
                **IMPORTS,
                "BEACONFIRE_NATS_URL": f"nats://127.0.0.1:{free_port()}",
                "BEACONFIRE_DATABASE_URL": database_url or f"sqlite+aiosqlite:///{folder}/{name}.db",
                "BEACONFIRE_WORKERS": str(workers),
            },
            arguments=[name] if name == "scheduler" else [],
            folder=folder,
            on_line=lambda _name, line: self._lines.put(line),
        )
        self.process = service.process
        if ignores:
            self.process.command = ["sh", "-c", f'trap "" {ignores}; exec "$@"', "sh", *self.process.command]
        self.process.start()

    def wait_for(self, text: str) -> None:
        seen = []
        while text not in (line := self._lines.get(timeout=PATIENCE_S)):
            seen.append(line)

    def wait_for_handler(self) -> None:
        """Wait until the process has a handler for SIGTERM."""
        while not _hears(self.process.pid, signal.SIGTERM):
            assert self.process.is_running, self.process.last_lines

    def ends_at(self, number: signal.Signals) -> int | None:
        """Send this signal, and return the exit code."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        assert self.process.wait(PATIENCE_S), "it still runs"
        assert "Traceback" not in self.process.log_path.read_text()
        return self.process.exit_code


def _hears(pid: int | None, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal, and already runs the service's own program."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) & 1 << number - 1) and b"-m\0beaconfire_" in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("service", MOMENTS)
def test_sigterm_at_any_moment_of_its_start_ends_a_service_with_0_and_no_stack_trace(
    service: str, tmp_path: Path
) -> None:
    codes = {}
    start = Start(service, tmp_path / "first")
    start.wait_for_handler()
    codes["first line"] = start.ends_at(signal.SIGTERM)
    for moment in MOMENTS[service]:
        start = Start(service, tmp_path / moment.strip("| "))
        start.wait_for(moment)
        codes[moment] = start.ends_at(signal.SIGTERM)

    assert set(codes.values()) == {0}, codes


@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", [" uvloop", "listening"])
def test_sigint_ends_a_service_that_was_started_with_it_ignored(moment: str, tmp_path: Path) -> None:
    """`nohup`, and the background of a script, start processes like that."""
    start = Start("auth", tmp_path, ignores="INT")
    start.wait_for(moment)

    assert start.ends_at(signal.SIGINT) == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", ["| structlog", "| beaconfire_gateway.process.app", "starting workers"])
def test_sigterm_at_any_moment_of_its_start_ends_a_gateway_and_all_its_workers(moment: str, tmp_path: Path) -> None:
    start = Start("gateway", tmp_path, workers=2)
    start.wait_for(moment)

    assert start.ends_at(signal.SIGTERM) == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_service_that_waits_for_its_database_can_be_stopped(number: signal.Signals, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+asyncpg://u:p@127.0.0.1:{silent.getsockname()[1]}/d"
        start = Start("publisher", tmp_path, database_url=url)
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)

            assert start.ends_at(number) == 0
