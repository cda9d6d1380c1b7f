"""Services as processes of their own that start in no time: forked from one that has imported everything.

A test that kills a service again and again spends its time on Python's imports otherwise. Everything else is as it is
outside: a process, its own memory, its own connections, SIGKILL.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess

from beaconfire.local_services import Plan, ServiceProcess, Services
from beaconfire.processes import LAST_LINES, Process
from beaconfire_kit.parent_death import end_with_parent

_FORKS = multiprocessing.get_context("forkserver")
_SERVICES = (
    "beaconfire_auth",
    "beaconfire_gateway",
    "beaconfire_publisher",
    "beaconfire_demo.tracker",
    "beaconfire_demo.workspace",
)
_MAINS = [f"{service}.__main__" for service in _SERVICES]
_FORKS.set_forkserver_preload([*_MAINS, "tests.forked"])


class Forked(Process):
    """Like the process it is made of, which runs `python -m MODULE …`. It dies with the one it is forked from."""

    def __init__(self, like: Process) -> None:
        super().__init__(like.name, like.command, log_path=like.log_path, environment=like.environment)
        self._child: ForkServerProcess | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.is_alive()

    @property
    def exit_code(self) -> int | None:
        return self._child.exitcode if self._child else None

    @property
    def last_lines(self) -> list[str]:
        return self.log_path.read_text().splitlines()[-LAST_LINES:]

    def start(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        module, *arguments = self.command[self.command.index("-m") + 1 :]
        self._child = _FORKS.Process(
            target=_become, args=(module, arguments, self.environment, str(self.log_path)), daemon=True
        )
        self._child.start()

    def wait(self, timeout_s: float) -> bool:
        if self._child is not None:
            self._child.join(timeout_s)
        return not self.is_running

    def _signal(self, number: signal.Signals) -> None:
        if self.is_running and self.pid is not None:
            os.kill(self.pid, number)


def forked(service: ServiceProcess) -> ServiceProcess:
    """The service, to be started by a fork."""
    service.process = Forked(service.process)
    return service


def all_forked(whole: Services) -> Services:
    """The whole set, its services to be started by forks."""
    for service in whole.services:
        forked(service)
    return whole


@contextmanager
def all_running(plan: Plan) -> Iterator[Services]:
    """Start a whole set as `all_forked` makes it, and kill it at the end of the block, whatever happened to it."""
    services = all_forked(Services(plan))
    try:
        services.start()
        yield services
    finally:
        services.kill()


def _become(module: str, arguments: Sequence[str], environment: Mapping[str, str], log_path: str) -> None:
    """Run a module as `python -m` does, in this process."""
    end_with_parent(os.getppid())
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for output in (1, 2):
        os.dup2(log, output)
    for name in [name for name in os.environ if name.startswith("BEACONFIRE_")]:
        del os.environ[name]
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
