"""Write what each image contains, as CycloneDX documents: `make sbom`, or `python -m scripts.sbom --into dist IMAGE…`.

The image itself is asked, in a container without a network: for the packages of its distribution, its Python packages,
and the Go modules of Caddy.
"""

import argparse
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

ROOT = Path(__file__).parents[1]
ASK_S = 120
_PYTHON = """\
import importlib.metadata, json
for one in importlib.metadata.distributions():
    about = one.metadata
    license = about["License-Expression"] or about["License"] or ""
    print(json.dumps([about["Name"], one.version, license.splitlines()[0] if license else "", one.requires or []]))
"""
_QUESTIONS = {
    "system": "cat /etc/os-release",
    "debian": "dpkg-query --show --showformat '${Package} ${Version} ${Architecture}\\n'",
    "alpine": "apk info -v",
    "python": f"python -c '{_PYTHON}'",
    "go": "caddy build-info",
}
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.sbom", description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "dist", help="the folder for the documents")
    parser.add_argument("image", nargs="*", help="the images. Without any, those that docker-compose.yml builds")
    given = parser.parse_args()
    given.into.mkdir(parents=True, exist_ok=True)
    for image in given.image or composed():
        path = given.into / f"{image.rpartition('/')[2].replace(':', '-')}.cdx.json"
        path.write_text(document(image, contents(image)))
        print(f"{path} describes {image}")


def composed() -> list[str]:
    """The images that docker-compose.yml builds."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    return sorted({one["image"] for one in services if "build" in one})


def contents(image: str) -> dict[str, list[str]]:
    """Ask an image what it contains. Returns the lines of each answer. Fails if Docker cannot run the image."""
    asked = "\n".join(f"echo '=== {name}'\n{command} 2>/dev/null" for name, command in _QUESTIONS.items())
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", f"{asked}\ntrue"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=ASK_S)
    answers = re.split(r"^=== (\w+)\n", done.stdout, flags=re.MULTILINE)[1:]
    return {name: text.splitlines() for name, text in zip(answers[::2], answers[1::2], strict=True)}


def document(image: str, answers: Mapping[str, list[str]]) -> str:
    """The CycloneDX document of an image, from its answers."""
    bom = Bom()
    whole = Component(name=image, type=ComponentType.CONTAINER, bom_ref=image)
    bom.metadata.component = whole
    system = dict(line.split("=", 1) for line in answers["system"] if "=" in line)
    distribution = f"{system['ID']}-{system['VERSION_ID']}".replace('"', "")
    python = [json.loads(line) for line in answers["python"]]
    packages = {_key(name): _python_package(name, version, text) for name, version, text, _ in python}
    parts = [*packages.values(), *_system_packages(answers, distribution), *_go_modules(answers["go"])]
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(whole, parts)
    for name, _, _, requires in python:
        wanted = {_key(found[0]) for one in requires if (found := _NAME.match(one))}
        bom.register_dependency(packages[_key(name)], [packages[one] for one in sorted(wanted & packages.keys())])
    return str(JsonV1Dot6(bom).output_as_string(indent=2)) + "\n"


def _key(name: str) -> str:
    """The name of a Python package as an index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _python_package(name: str, version: str, license_text: str) -> Component:
    licenses = [LicenseFactory().make_from_string(license_text)] if license_text else []
    return _component(PackageURL("pypi", None, _key(name), version), licenses=licenses)


def _system_packages(answers: Mapping[str, list[str]], distribution: str) -> Iterator[Component]:
    for line in answers["debian"]:
        name, version, architecture = line.split()
        yield _component(PackageURL("deb", "debian", name, version, {"arch": architecture, "distro": distribution}))
    for line in answers["alpine"]:
        name, version, release = line.rsplit("-", 2)
        yield _component(PackageURL("apk", "alpine", name, f"{version}-{release}", {"distro": distribution}))


def _go_modules(lines: list[str]) -> Iterator[Component]:
    for kind, path, version, *_ in (line.split("\t") for line in lines if line.count("\t") >= 2):
        if kind in ("mod", "dep"):
            namespace, _, name = path.rpartition("/")
            yield _component(PackageURL("golang", namespace, name, version))


def _component(purl: PackageURL, **more: Any) -> Component:
    return Component(
        name=purl.name, version=purl.version, type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl), **more
    )


if __name__ == "__main__":
    main()
