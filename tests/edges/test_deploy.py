"""The example deployments: well formed, safe as they are, and at one with image and settings."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from compose_spec import PyCompose
from compose_spec.models import ComposeSpecification

from gateway.cli.main import main
from gateway.configuration.settings import Settings
from gateway.configuration.settings_file import load_settings
from tests.edges import deployments
from tests.edges.deployments import DEPLOY, GRANTS, ROOT, Json, Machine

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
NOBODY = 10001
STOP_SECONDS = 90
DEPLOYMENTS = ["systemd", "compose", "kubernetes"]
TOLERABLE = 20
"""Tenths: `systemd-analyze security` calls up to 2.0 "OK" with its best smile."""


def test_no_start_of_the_image_compiles_python_anew() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "PYTHONDONTWRITEBYTECODE=1" in final, "a root that is read only would not take it"
    assert re.search(r"^RUN python -m compileall .*\\\n.*stdlib", final, re.MULTILINE), "the base image has none"
    assert "--no-compile" not in DOCKERFILE


def settings(deployment: str, folder: Path) -> Settings:
    return load_settings(Machine(folder).set_up(deployment), allowed=frozenset(), secrets=True)


def workloads() -> list[tuple[str, Json]]:
    return [
        (f"{name}-{each['kind']}", each)
        for name, each in deployments.manifests()
        if "kustomize" not in each["apiVersion"]
    ]


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_check_finds_no_mistake_in_what_is_deployed(deployment: str, tmp_path: Path) -> None:
    config = Machine(tmp_path).set_up(deployment)
    ran = CliRunner().invoke(main, ["check", "--config", str(config), "--json"])
    told = json.loads(ran.stdout)
    assert (ran.exit_code, told["problems"], told["notes"]) == (0, [], [])


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_no_deployment_needs_an_insecure_flag_or_lets_anybody_in(deployment: str, tmp_path: Path) -> None:
    read = settings(deployment, tmp_path)
    assert read.public_url.startswith("https://")
    assert read.listen.tls is not None
    assert read.admin.host == "127.0.0.1" or all(each.token_sha256 == "0" * 64 for each in read.admin.operators)
    assert read.audit.signing_key is not None
    grants = tomllib.loads(deployments.grants_of(deployment)["grants.toml"])["grants"]
    assert [grant["shadow"] for grant in grants] == [True] * len(grants), "a fresh gateway permits nothing"


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_no_secret_stands_in_a_deployment(deployment: str) -> None:
    text = deployments.settings_of(deployment) + deployments.grants_of(deployment)["grants.toml"]
    values = re.findall(r'(?:secret|password|hl7_username|signing_key|\bkey|pseudonym_key) = "([^"]*)"', text)
    assert values
    assert [each for each in values if not each.startswith("file:/") and not each.startswith("file:swiftbook-")] == []


@pytest.mark.parametrize(("name", "found"), workloads(), ids=lambda each: each if isinstance(each, str) else "")
def test_a_manifest_keeps_to_the_schema_of_kubernetes(name: str, found: Json) -> None:
    for version in ("1.31", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(found, version, strict=True)


def test_the_schema_refuses_what_is_misspelt() -> None:
    bad = deployments.manifest("StatefulSet")
    bad["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(bad, "1.31", strict=True)


def test_kustomize_takes_in_every_manifest_and_the_image_of_this_version() -> None:
    kustomization = deployments.manifests_of("kustomization.yaml")[0]
    files = {path.name for path in (DEPLOY / "kubernetes").iterdir()}
    assert set(kustomization["resources"]) == files - {"kustomization.yaml"}
    (image,) = kustomization["images"]
    assert f"{image['name']}:{image['newTag']}" == deployments.container()["image"] == f"pkb-gateway:{VERSION}"
    assert {each["metadata"].get("namespace", "pkb-gateway") for _, each in workloads()} == {kustomization["namespace"]}


def test_a_pod_has_no_right_that_it_does_not_need() -> None:
    pod, container = deployments.pod(), deployments.container()
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": NOBODY,
        "runAsGroup": NOBODY,
        "fsGroup": NOBODY,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert deployments.manifest("ServiceAccount")["automountServiceAccountToken"] is False
    labels = deployments.manifest("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_ports_are_those_of_image_and_settings(tmp_path: Path) -> None:
    read = settings("kubernetes", tmp_path)
    ports = {each["name"]: each["containerPort"] for each in deployments.container()["ports"]}
    assert ports == {"partners": read.listen.port, "admin": read.admin.port}
    assert re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE) == [str(read.listen.port)]
    for service in ("pkb-gateway", "pkb-gateway-admin"):
        (port,) = deployments.manifest("Service", service)["spec"]["ports"]
        assert port["targetPort"] in ports
    policy = deployments.manifest("NetworkPolicy")["spec"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["partners", "admin"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize("kind", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_a_probe_asks_what_the_admin_side_answers_and_by_a_name_that_it_knows(kind: str) -> None:
    asked = deployments.container()[kind]["httpGet"]
    assert asked["path"] == ("/health/ready" if kind == "readinessProbe" else "/health/live")
    assert asked["port"] == "admin"
    assert asked["httpHeaders"] == [{"name": "Host", "value": "localhost"}]


def test_prometheus_may_ask_each_pod_by_its_name(tmp_path: Path) -> None:
    replicas = deployments.manifest("StatefulSet")["spec"]["replicas"]
    hosts = settings("kubernetes", tmp_path).admin.hosts
    assert list(hosts) == [f"pkb-gateway-{number}.pkb-gateway-admin" for number in range(replicas)]


def test_every_file_that_the_settings_name_is_mounted_in_the_pod(tmp_path: Path) -> None:
    mounts = {each["mountPath"]: each for each in deployments.container()["volumeMounts"]}
    read = deployments.settings_of("kubernetes")
    places = {str(Path(name).parent) for name in deployments.references(read)}
    assert places == {"/run/keys", "/run/secrets/pkb-gateway"} <= set(mounts)
    writable = {place for place, mount in mounts.items() if not mount.get("readOnly")}
    assert writable == {"/var/lib/pkb-gateway", "/tmp"}
    assert re.search(r'CMD \["serve", "--config", "/etc/pkb-gateway/gateway.toml"\]', DOCKERFILE)
    assert "/etc/pkb-gateway" in mounts
    assert [mount for mount in mounts.values() if "subPath" in mount] == [], "a subPath is never updated"
    volumes = {each["name"] for each in deployments.pod()["volumes"]} | {"data"}
    assert {mount["name"] for mount in mounts.values()} == volumes


def test_each_pod_keeps_an_audit_folder_of_its_own_for_good() -> None:
    spec = deployments.manifest("StatefulSet")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data"
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert spec["serviceName"] == "pkb-gateway-admin"
    budget = deployments.manifest("PodDisruptionBudget")["spec"]
    assert (spec["replicas"], budget["minAvailable"]) == (2, 1)
    for other in (
        budget["selector"]["matchLabels"],
        deployments.manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert other == spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


def test_the_grants_of_the_configmap_are_those_of_the_example() -> None:
    assert dict(deployments.grants_of("kubernetes")) == {
        path.name: path.read_text(encoding="utf-8") for path in GRANTS.iterdir()
    }


def composed(found: Json) -> None:
    """Hold a file against the Compose specification in two ways: its schema, and a parser that knows every key."""
    ComposeSpecification.model_validate(found)
    PyCompose.from_yaml(yaml.safe_dump(found))


def test_the_compose_file_keeps_to_the_specification() -> None:
    composed(deployments.compose())


@pytest.mark.parametrize(("key", "value"), [("read_onli", True), ("read_only", ["yes"])])
def test_the_specification_refuses_what_is_misspelt_or_of_another_type(key: str, value: object) -> None:
    found = deployments.compose()
    found["services"]["gateway"][key] = value
    with pytest.raises(ValueError, match=key):
        composed(found)


@pytest.mark.parametrize("service", ["gateway", "postgres"])
def test_a_container_of_compose_has_no_right_that_it_does_not_need(service: str) -> None:
    found = deployments.compose()["services"][service]
    assert (found["read_only"], found["cap_drop"]) == (True, ["ALL"])
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in found
    assert "cap_add" not in found


def test_compose_runs_the_image_of_this_version_as_the_image_says(tmp_path: Path) -> None:
    found = deployments.compose()
    gateway = found["services"]["gateway"]
    assert gateway["image"] == f"pkb-gateway:{VERSION}"
    assert gateway["build"]["args"]["VERSION"] == VERSION
    assert "user" not in gateway, "the image names it"
    assert "HEALTHCHECK" in DOCKERFILE
    assert "healthcheck" not in gateway
    read = settings("compose", tmp_path)
    assert gateway["ports"] == [f"443:{read.listen.port}", f"127.0.0.1:9090:{read.admin.port}"]
    assert gateway["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_every_file_that_the_settings_name_is_in_the_container() -> None:
    found = deployments.compose()
    gateway = found["services"]["gateway"]
    named = deployments.references(deployments.settings_of("compose"))
    assert {Path(name).name for name in named if name.startswith("/run/secrets/")} == set(gateway["secrets"])
    assert {str(Path(name).parent) for name in named} == {"/run/secrets", "/run/keys"}
    targets = {each["target"]: each for each in gateway["volumes"]}
    assert set(targets) == {"/etc/pkb-gateway", "/run/keys", "/var/lib/pkb-gateway"}
    assert [place for place, each in targets.items() if not each.get("read_only")] == ["/var/lib/pkb-gateway"]
    assert set(found["secrets"]) == {*gateway["secrets"], *found["services"]["postgres"]["secrets"]}


def test_the_database_of_compose_is_reached_by_the_gateway_alone() -> None:
    found = deployments.compose()
    postgres = found["services"]["postgres"]
    assert postgres["networks"] == ["database"]
    assert found["networks"]["database"] == {"internal": True}
    assert "ports" not in postgres
    assert {name for name in postgres["environment"] if "PASSWORD" in name} == {"POSTGRES_PASSWORD_FILE"}


def test_every_deployment_leaves_the_gateway_time_to_end_its_writes() -> None:
    assert deployments.unit()["TimeoutStopSec"] == [str(STOP_SECONDS)]
    assert deployments.compose()["services"]["gateway"]["stop_grace_period"] == f"{STOP_SECONDS}s"
    assert deployments.pod()["terminationGracePeriodSeconds"] == STOP_SECONDS


def test_the_unit_loads_what_the_settings_refer_to_and_writes_nowhere_else(tmp_path: Path) -> None:
    unit, named = deployments.unit(), deployments.references(deployments.settings_of("systemd"))
    loaded = [each.partition(":") for each in unit["LoadCredential"]]
    credentials = {f"/run/credentials/pkb-gateway.service/{name}" for name, _, _ in loaded}
    assert credentials == {name for name in named if name.startswith("/run/credentials")}
    assert {path for _, _, path in loaded} == {f"/etc/pkb-gateway/credentials/{name}" for name, _, _ in loaded}
    assert unit["ExecStart"] == ["/opt/pkb-gateway/bin/pkb-gateway serve --config /etc/pkb-gateway/gateway.toml"]
    read = settings("systemd", tmp_path)
    assert unit["StateDirectory"] == ["pkb-gateway"]
    assert read.audit.directory == tmp_path / "var/lib/pkb-gateway/audit"
    assert f"u {unit['User'][0]} " in (DEPLOY / "systemd" / "pkb-gateway.sysusers.conf").read_text(encoding="utf-8")


def test_systemd_understands_the_unit_and_finds_it_shut_off_from_the_rest(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("THE SYSTEMD UNIT WAS NOT CHECKED: THERE IS NO systemd-analyze")
    text = (DEPLOY / "systemd" / "pkb-gateway.service").read_text(encoding="utf-8")
    there = tmp_path / "pkb-gateway.service"
    # The program need not be installed on the machine that runs the tests.
    there.write_text(text.replace("/opt/pkb-gateway/bin/pkb-gateway", sys.executable), encoding="utf-8")
    for command in (["verify", "--man=no"], ["security", "--offline=true", "--no-pager", f"--threshold={TOLERABLE}"]):
        ran = subprocess.run([analyze, *command, str(there)], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout[-500:] + ran.stderr
        assert command[0] == "security" or ran.stderr == ""
