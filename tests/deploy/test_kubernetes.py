"""deploy/k8s is accepted by the versions of Kubernetes, and gives the services what they need."""

import asyncio
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from beaconfire.broker_users import USERS, password_variable
from beaconfire.local_services import WORKERS, ServiceProcess
from beaconfire.nats_server import NatsServer
from beaconfire.service_settings import settings_classes, variables
from beaconfire_kit.setting_files import SUFFIX
from beaconfire_kit.settings import Settings
from tests.architecture.sources import ROOT
from tests.client import open_socket
from tests.deploy.compose_file import ALL, EXAMPLE
from tests.deploy.kubernetes import Manifests, kustomize, rendered
from tests.fakes import FakeAuth

OVERLAYS = ("single", "cluster")
SERVICES = ("gateway", "auth", "publisher", *WORKERS)
ROUTES_PASSWORD = "BEACONFIRE_NATS_ROUTES_PASSWORD"
VERSIONS = ("1.33", "1.34", "1.35", "1.36", "1.37")
# The first test builds kustomize.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(name="program", scope="session")
def _program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kustomize(tmp_path_factory.mktemp("kustomize"))


@pytest.fixture(name="manifests", scope="session", params=OVERLAYS)
def _manifests(request: pytest.FixtureRequest, program: Path) -> Manifests:
    return Manifests(rendered(program, request.param))


def settings_of(name: str) -> type[Settings]:
    """Return the settings that a pod's service reads."""
    return settings_classes()["publisher's workers" if name in WORKERS else name]


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_of_kubernetes_accepts_the_manifests(version: str, manifests: Manifests) -> None:
    """Strictly: a key that it does not know is a mistake."""
    for manifest in manifests.all.values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_misspelt_key_is_reported(manifests: Manifests) -> None:
    misspelt = yaml.safe_load(yaml.safe_dump(manifests.of("Deployment")["gateway"]).replace("readiness", "readyness"))

    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(misspelt, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", SERVICES)
def test_pods_give_services_only_variables_that_they_read_and_all_that_compose_gives(
    name: str, manifests: Manifests
) -> None:
    """DATABASE_PASSWORD is a part of the URL of the database."""
    given = manifests.environment(name).keys() - {"DATABASE_PASSWORD"}
    environment = {one.removesuffix(SUFFIX) for one in given}
    composed = ALL["gateway-1" if name == "gateway" else name]["environment"]
    has_port = name not in WORKERS

    assert environment <= variables(settings_of(name)).keys()
    assert environment - ({"BEACONFIRE_AUTH_URL"} if not has_port else set()) == set(composed)


def test_every_secret_is_a_variable_of_the_env_file(manifests: Manifests) -> None:
    keys = set(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE))
    named = set(re.findall(r"^\s+(?:- )?key: (\w+)\n\s+(?:name: beaconfire|path: \w+)$", manifests.text, re.MULTILINE))

    assert named
    assert named <= keys | {ROUTES_PASSWORD}


@pytest.mark.parametrize("name", SERVICES)
def test_each_pod_connects_as_its_own_broker_user_with_that_users_password(name: str, manifests: Manifests) -> None:
    """The password is in a file, so that a changed one is read without a restart."""
    environment = manifests.environment(name)

    assert environment["BEACONFIRE_NATS_USER"] == name
    assert manifests.secret_at(name, Path(environment["BEACONFIRE_NATS_PASSWORD_FILE"])) == password_variable(name)


def test_job_setup_connects_with_the_password_of_setup(manifests: Manifests) -> None:
    environment = manifests.environment("setup")

    assert environment["BEACONFIRE_NATS_USER"] == "setup"
    assert environment["BEACONFIRE_NATS_PASSWORD"]["secretKeyRef"]["key"] == password_variable("setup")


def test_broker_gets_every_password_and_its_configuration(manifests: Manifests) -> None:
    (container,) = manifests.pods["nats"]["containers"]
    config = manifests.all["ConfigMap", manifests.pods["nats"]["volumes"][0]["configMap"]["name"]]["data"]
    wanted = set(re.findall(r"\$(BEACONFIRE_\w+)", config[Path(container["args"][-1]).name]))

    assert wanted == manifests.environment("nats").keys() & wanted
    assert {password_variable(user.name) for user in USERS} <= wanted


def test_no_pod_runs_as_root_has_capabilities_or_writes_outside_its_volumes(manifests: Manifests) -> None:
    for name, pod in manifests.pods.items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] == 10001, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in [*pod["containers"], *pod.get("initContainers", ())]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"], name


def test_every_service_is_probed_and_spread_and_only_one_leaves_at_a_time(manifests: Manifests) -> None:
    budgets = manifests.of("PodDisruptionBudget")
    for name in SERVICES:
        (container,) = manifests.pods[name]["containers"]
        # A pod that serves requests must be ready once, and then it serves them without the broker, too.
        began = "startupProbe" if name in ("gateway", "auth", "publisher") else "readinessProbe"
        others = {"startupProbe", "readinessProbe"} - {began}
        assert container[began]["httpGet"] == {"path": "/readyz", "port": "ops"}, name
        assert [container[one]["httpGet"]["path"] for one in others] == ["/healthz"], name
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "ops"}, name
    for name in ("gateway", "auth", "publisher"):
        assert budgets[name]["spec"]["maxUnavailable"] == 1
        assert {one["topologyKey"] for one in manifests.pods[name]["topologySpreadConstraints"]} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }


def test_every_address_names_a_service_of_the_manifests(manifests: Manifests) -> None:
    """Brokers of a cluster are addressed one by one, as pods of their service."""
    services = manifests.of("Service")
    for name in (*SERVICES, "setup", "migrate-auth", "migrate-publisher"):
        for value in manifests.environment(name).values():
            for host, port in re.findall(r"(?:http://|nats://|@)(?:nats-\d\.)?([\w-]+):(\d+)", str(value)):
                if host != "postgres":  # which operators bring
                    assert int(port) in {one["port"] for one in services[host]["spec"]["ports"]}, value


def test_only_named_pods_reach_ours(manifests: Manifests) -> None:
    policies = manifests.of("NetworkPolicy")
    operations: dict[str, Any] = policies["operations"]["spec"]

    assert "ingress" not in policies["nobody"]["spec"]
    assert operations["ingress"][0]["ports"] == [{"port": 9090}]
    for policy in policies.values():
        assert policy["spec"]["policyTypes"] == ["Ingress"]
        for rule in policy["spec"].get("ingress", ()):
            assert rule["from"]
            assert rule["ports"]


async def test_gateway_that_drains_as_configured_ends_within_the_grace_period(
    program: Path, stream: NatsServer, tmp_path: Path
) -> None:
    """Even if a client ignores that it is asked to leave."""
    manifests = Manifests(rendered(program, OVERLAYS[-1]))
    configured = manifests.environment("gateway")
    grace_s = manifests.pods["gateway"]["terminationGracePeriodSeconds"]
    stopping = {name: configured[name] for name in ("BEACONFIRE_STOP_TIMEOUT_S", "BEACONFIRE_STOP_ACCEPT_S")}
    async with FakeAuth().running(stream) as auth:
        environment = {**stream.environment("gateway"), "BEACONFIRE_JWKS_URL": auth.jwks_url, **stopping}
        gateway = ServiceProcess("gateway", "beaconfire_gateway", environment, folder=tmp_path)
        try:
            await asyncio.to_thread(gateway.start)
            async with open_socket(gateway.url) as client:
                auth.members["viewer"] = {"campaign:c1": "viewer"}
                await client.connect(auth.token("viewer"), ["campaign:c1"])
                gateway.terminate()
                ended = await asyncio.to_thread(gateway.process.wait, grace_s)
        finally:
            gateway.kill()

    assert ended
    assert gateway.process.exit_code == 0


def test_page_about_deployment_names_both_overlays() -> None:
    page = (ROOT / "docs/howto/deploy.md").read_text()

    assert all(f"kubectl apply -k deploy/k8s/{overlay}" in page for overlay in OVERLAYS)


def test_admin_component_asks_every_service_as_the_operator_and_is_let_in(program: Path, tmp_path: Path) -> None:
    overlays = os.path.relpath(ROOT / "deploy/k8s", tmp_path)
    own = {"resources": [f"{overlays}/single"], "components": [f"{overlays}/admin"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(own))
    manifests = Manifests(rendered(program, str(tmp_path)))
    environment, services = manifests.environment("admin"), manifests.of("Service")
    asked = {
        urlsplit(environment[f"BEACONFIRE_{kind.upper()}_OPS"]).hostname: kind
        for kind in ("gateway", "auth", "publisher")
    }

    for version in VERSIONS:
        for manifest in manifests.all.values():
            kubernetes_validate.validate(manifest, version, strict=True)
    assert environment.keys() <= variables(settings_classes()["admin"]).keys()
    assert environment.keys() == ALL["admin"]["environment"].keys()
    assert environment["BEACONFIRE_NATS_PASSWORD"]["secretKeyRef"]["key"] == password_variable("operator")
    for host, kind in asked.items():
        assert services[host]["spec"]["clusterIP"] == "None"  # all pods, not one of them
        assert services[host]["spec"]["selector"]["app"] == kind
    policies, pod = manifests.of("NetworkPolicy"), manifests.of("Deployment")["admin"]["spec"]["template"]["metadata"]
    for name in ("admin", "nats"):
        peer = policies[name]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
        assert peer.items() <= pod["labels"].items(), name
