"""The example deployments as values, and a machine that has all the files that they name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
GRANTS: Final = DEPLOY / "grants"
FOLDERS: Final = ("/run/", "/etc/pkb-gateway", "/var/lib/pkb-gateway")
"""What is the machine's own, and stands below another folder here."""
PEM: Final = serialization.Encoding.PEM

Json = dict[str, Any]


def manifests() -> Iterator[tuple[str, Json]]:
    """Every Kubernetes object, by its file."""
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for found in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            yield path.name, found


def manifests_of(name: str) -> list[Json]:
    return [found for file, found in manifests() if file == name]


def manifest(kind: str, name: str = "pkb-gateway") -> Json:
    (found,) = (each for _, each in manifests() if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def pod() -> Json:
    found: Json = manifest("StatefulSet")["spec"]["template"]["spec"]
    return found


def container() -> Json:
    (found,) = pod()["containers"]
    return dict(found)


def compose() -> Json:
    found: Json = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
    return found


def unit() -> Mapping[str, list[str]]:
    """The systemd unit's keys, of all its sections; a key may stand several times."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / "pkb-gateway.service").read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def settings_of(deployment: str) -> str:
    """The gateway.toml of a deployment, as its process will find it."""
    if deployment == "kubernetes":
        text: str = manifest("ConfigMap", "pkb-gateway-settings")["data"]["gateway.toml"]
        return text
    folder = "config/" if deployment == "compose" else ""
    return (DEPLOY / deployment / f"{folder}gateway.toml").read_text(encoding="utf-8")


def grants_of(deployment: str) -> Mapping[str, str]:
    """The files that stand beside gateway.toml there."""
    if deployment == "kubernetes":
        found: Mapping[str, str] = manifest("ConfigMap", "pkb-gateway-grants")["data"]
        return found
    return {path.name: path.read_text(encoding="utf-8") for path in GRANTS.iterdir()}


def references(text: str) -> list[str]:
    """The files that hold secrets, as a TOML file names them."""
    said = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return re.findall(r'"file:([^"]+)"', said)


@dataclass(frozen=True)
class Machine:
    """A folder that stands for the root of a machine."""

    root: Path

    def set_up(self, deployment: str) -> Path:
        """Lay a deployment's files, make the secrets that they name, and give its gateway.toml."""
        config = self.root / "etc" / "pkb-gateway"
        config.mkdir(parents=True)
        grants = grants_of(deployment)
        for name, text in grants.items():
            (config / name).write_text(text, encoding="utf-8")
        settings = settings_of(deployment)
        for name in (*references(settings), *references(grants["grants.toml"])):
            path = self._at(name) if name.startswith("/") else config / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_secret(path.name), encoding="ascii")
        for folder in FOLDERS:
            settings = settings.replace(folder, f"{self.root}{folder}")
        (config / "gateway.toml").write_text(settings, encoding="utf-8")
        return config / "gateway.toml"

    def _at(self, path: str) -> Path:
        return self.root / path.removeprefix("/")


def _secret(name: str) -> str:
    """What such a file would hold."""
    if name == "state-url":
        return "postgresql://pkb_gateway:made-up@postgres/pkb_gateway?sslmode=disable"
    if name == "audit-signing-key.pem":
        return _private(ed25519.Ed25519PrivateKey.generate())
    return _private(ec.generate_private_key(ec.SECP256R1())) if name.endswith(".pem") else f"made-up-{name}-of-a-test"


def _private(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(PEM, form, serialization.NoEncryption()).decode()
