"""docker-compose.yml, brought up in a folder of its own, as an operator does it."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from beaconfire.nats_server import free_port
from tests.architecture.sources import ROOT
from tests.containers import engine
from tests.docs.tree import Tree, fresh_environment

IMAGES = "beaconfire-test"
"""Tests' images have names of their own, so that no deployment on the same engine starts with them."""
IMAGES_BEFORE = f"{IMAGES}-before"
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
        self._ports = {f"BEACONFIRE_{name}_PORT": free_port() for name in ("HTTP", "HTTPS", "ADMIN")}
        self._others: dict[str, str] = {}
        """The services whose images are of another version, and the names of these images."""
        self._additions: list[Path] = []
        self._name_images()

    @property
    def url(self) -> str:
        return f"https://localhost:{self._ports['BEACONFIRE_HTTPS_PORT']}"

    def make_secrets(self) -> None:
        """Write `.env`, with the documented command."""
        self.shell(documented(_START)[0])
        self._choose_ports()

    def build(self) -> None:
        """Make the secrets, and build each image once."""
        self.make_secrets()
        self.compose("build", *{image: name for name, image in self._built_here().items()}.values(), timeout_s=UP_S)

    def run_from(self, images: str, services: Iterable[str]) -> None:
        """Let some services run from other images than the rest, from their next start on."""
        self._others |= dict.fromkeys(services, images)
        self._name_images()

    def add(self, name: str, compose: str) -> None:
        """Add a compose file to docker-compose.yml."""
        path = self.folder / name
        path.write_text(compose)
        self._additions.append(path)

    def bring_up(self, *, build: bool = True) -> None:
        """Start everything, with the documented command, or without building images."""
        command = documented(_START)[1]
        self.shell(command if build else command.replace(" --build", ""))
        (export_certificate,) = documented("TLS")
        self.shell(export_certificate)

    @property
    def admin_port(self) -> int:
        return self._ports["BEACONFIRE_ADMIN_PORT"]

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
        """Run documented commands in the folder. As root they need no sudo, which a machine of CI does not have."""
        return engine.run(
            ["bash", "-euo", "pipefail", "-c", command if os.geteuid() else command.replace("sudo ", "")],
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

    def images(self) -> dict[str, str]:
        """The name of the image of each container that was made, by service."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return {one["Service"]: one["Image"] for one in map(json.loads, lines)}

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
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")

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
        files = ":".join(map(str, [self.folder / "docker-compose.yml", self._override, *self._additions]))
        return {**fresh_environment(), "COMPOSE_PROJECT_NAME": self.project, "COMPOSE_FILE": files}

    def _name_images(self) -> None:
        """Write a second compose file, which gives the images our names."""
        ours = {
            name: {"image": image.replace("beaconfire/", f"{self._others.get(name, self._images)}/")}
            for name, image in self._built_here().items()
        }
        self._override.write_text(yaml.safe_dump({"services": ours}))

    def _built_here(self) -> dict[str, str]:
        """The images that the compose file builds, by service. Several services may have one image."""
        services = yaml.safe_load((self.folder / "docker-compose.yml").read_text())["services"]
        return {name: one["image"] for name, one in services.items() if "build" in one}

    def _choose_ports(self) -> None:
        path = self.folder / ".env"
        text = path.read_text()
        for name, port in self._ports.items():
            text = re.sub(rf"^{name}=.*$", f"{name}={port}", text, flags=re.MULTILINE)
        path.write_text(text)


@contextmanager
def another(folder: Path) -> Iterator[Deployment]:
    """Make a deployment of this version with secrets of its own, to be changed and then started. It has the images that
    are built already."""
    one = Deployment(Tree(folder).root)
    one.make_secrets()
    try:
        yield one
    finally:
        one.remove()
