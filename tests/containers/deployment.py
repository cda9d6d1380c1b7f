"""docker-compose.yml, brought up in a folder of its own, as an operator does it."""

import re
import secrets
import shutil
from pathlib import Path

import yaml

from beaconfire.nats_server import free_port
from tests.architecture.sources import ROOT
from tests.containers import engine
from tests.docs.tree import fresh_environment

IMAGES = "beaconfire-test"
"""Tests' images have names of their own, so that no deployment on the same engine starts with them."""
UP_S = 600.0
DEPLOY_PAGE = "docs/howto/deploy.md"
_START = "One machine, with containers"


def documented(heading: str) -> list[str]:
    """The commands in the first code block below a heading of the page about deployment."""
    section = (ROOT / DEPLOY_PAGE).read_text().split(f"\n## {heading}\n", 1)[1]
    block = section.split("```", 2)[1].partition("\n")[2]
    return [line for line in block.splitlines() if line.strip()]


class Deployment:
    """The containers of one project, on free ports of this machine. `folder` has a copy of the tree."""

    def __init__(self, folder: Path, *, images: str = IMAGES) -> None:
        self.folder = folder
        self.project = f"beaconfire-test-{secrets.token_hex(4)}"
        self._images = images
        self._override = folder.parent / f"{self.project}.yml"
        self._ports = {"BEACONFIRE_HTTP_PORT": free_port(), "BEACONFIRE_HTTPS_PORT": free_port()}
        self._name_images()

    @property
    def url(self) -> str:
        return f"https://localhost:{self._ports['BEACONFIRE_HTTPS_PORT']}"

    def build(self) -> None:
        """Make the secrets, with the documented command, and build the images."""
        self.shell(documented(_START)[0])
        self._choose_ports()
        self.compose("build", timeout_s=UP_S)

    def bring_up(self) -> None:
        """Start everything, with the documented command."""
        self.shell(documented(_START)[1])
        (export_certificate,) = documented("TLS")
        self.shell(export_certificate)

    @property
    def secrets(self) -> dict[str, str]:
        """The variables of `.env`."""
        return dict(re.findall(r"^(\w+)=(.*)$", (self.folder / ".env").read_text(), re.MULTILINE))

    @property
    def certificate(self) -> Path:
        """The root certificate of the proxy's own authority."""
        return self.folder / "root.crt"

    def replace_tree(self, other: "Deployment") -> None:
        """Put another version's files into the folder, as `git pull` does. Secrets and data stay."""
        for path in self.folder.rglob("*"):
            if path not in self._own_files and (path.is_symlink() or path.is_file()):
                path.unlink()
        own = [path.name for path in other._own_files]
        shutil.copytree(other.folder, self.folder, symlinks=True, dirs_exist_ok=True, ignore=lambda *_: own)
        self._images = other._images
        self._name_images()

    def shell(self, command: str) -> str:
        """Run a documented command in the folder."""
        return engine.run(
            ["bash", "-euo", "pipefail", "-c", command],
            timeout_s=UP_S,
            folder=self.folder,
            environment=self._environment,
        )

    def compose(self, *arguments: str, timeout_s: float = 180.0) -> str:
        return engine.docker(
            "compose", *arguments, timeout_s=timeout_s, folder=self.folder, environment=self._environment
        )

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def crash(self, service: str) -> None:
        """Kill a container's first process from outside. The engine must start it again by itself."""
        container = self.container(service)
        before = engine.state(container)
        self._kill(before["Pid"])
        engine.wait_until(
            lambda: engine.state(container)["RestartCount"] > before["RestartCount"] and engine.is_healthy(container),
            f"{service} is healthy again after a crash",
        )

    def restart(self, service: str) -> None:
        """Stop a container in order, start it again, and wait until it is healthy."""
        self.compose("restart", service)
        container = self.container(service)
        engine.wait_until(lambda: engine.is_healthy(container), f"{service} is healthy again after a restart")

    def remove(self) -> None:
        """Remove the containers with their data."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")

    def _kill(self, pid: int) -> None:
        """Kill a process of the engine's machine. After `docker kill`, the engine would let it stay down."""
        kill = ["python", "-c", f"import os; os.kill({pid}, 9)"]
        rights = ("--pid", "host", "--user", "0", "--cap-drop", "ALL", "--cap-add", "KILL", "--network", "none")
        engine.docker("run", "--rm", *rights, f"{self._images}/tools", *kill)

    @property
    def _own_files(self) -> list[Path]:
        """The files that no version of the tree has."""
        return [self.folder / ".env", self.certificate]

    @property
    def _environment(self) -> dict[str, str]:
        files = f"{self.folder / 'docker-compose.yml'}:{self._override}"
        return {**fresh_environment(), "COMPOSE_PROJECT_NAME": self.project, "COMPOSE_FILE": files}

    def _name_images(self) -> None:
        """Write a second compose file, which gives the images our names."""
        services = yaml.safe_load((self.folder / "docker-compose.yml").read_text())["services"]
        ours = {
            name: {"image": one["image"].replace("beaconfire/", f"{self._images}/")}
            for name, one in services.items()
            if "build" in one
        }
        self._override.write_text(yaml.safe_dump({"services": ours}))

    def _choose_ports(self) -> None:
        path = self.folder / ".env"
        text = path.read_text()
        for name, port in self._ports.items():
            text = re.sub(rf"^{name}=.*$", f"{name}={port}", text, flags=re.MULTILINE)
        path.write_text(text)
