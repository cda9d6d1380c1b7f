"""Render deploy/k8s with kustomize."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.architecture.sources import ROOT

KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v4@v4.5.7"
"""The newest release that Debian's Go can build."""
BUILD_S = 500


def kustomize(folder: Path) -> Path:
    """Build kustomize from its Go module."""
    go = shutil.which("go")
    assert go, "Go is missing: deploy/install-languages.sh installs it"
    environment = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-mod=mod"}
    done = subprocess.run(
        [go, "install", KUSTOMIZE], env=environment, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "kustomize"


def rendered(program: Path, overlay: str) -> str:
    """What `kubectl apply -k` would apply."""
    done = subprocess.run(
        [program, "build", ROOT / "deploy/k8s" / overlay], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Manifests:
    """The objects of an overlay, by kind and name."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.all: dict[tuple[str, str], dict[str, Any]] = {
            (one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text)
        }

    def of(self, *kinds: str) -> dict[str, dict[str, Any]]:
        return {name: one for (kind, name), one in self.all.items() if kind in kinds}

    @property
    def pods(self) -> dict[str, dict[str, Any]]:
        """The specification of each pod, by the name of what makes it."""
        return {
            name: one["spec"]["template"]["spec"] for name, one in self.of("Deployment", "StatefulSet", "Job").items()
        }

    def environment(self, name: str) -> dict[str, Any]:
        """The variables of a pod's container: text, or the place of a secret."""
        (container,) = self.pods[name]["containers"]
        found: dict[str, Any] = {}
        for source in container.get("envFrom", ()):
            found |= self.all["ConfigMap", source["configMapRef"]["name"]]["data"]
        return found | {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}

    def secret_at(self, name: str, path: Path) -> str:
        """The key of the secret `beaconfire` that a file of a pod's container has."""
        (container,) = self.pods[name]["containers"]
        (mount,) = (one for one in container["volumeMounts"] if Path(one["mountPath"]) == path.parent)
        (volume,) = (one["secret"] for one in self.pods[name]["volumes"] if one["name"] == mount["name"])
        assert mount["readOnly"]
        assert volume["secretName"] == "beaconfire"
        assert volume["defaultMode"] == 0o440
        (item,) = (one for one in volume["items"] if one["path"] == path.name)
        return str(item["key"])
