"""The bill of materials: all that is installed, nothing of the machine it was made on, the same each time."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench import sbom

ROOT = Path(__file__).resolve().parents[2]
PINS = re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the command writes, in another folder than the checkout's."""
    made = tmp_path_factory.mktemp("sbom") / "sbom.cdx.json"
    command = [sys.executable, str(ROOT / "bench" / "sbom.py"), "--validate", "--output", str(made)]
    subprocess.run(command, cwd=made.parent, check=True, capture_output=True)
    return made.read_text(encoding="utf-8")


def test_it_names_every_pin_of_the_lock_with_its_hashes(text: str) -> None:
    components = json.loads(text)["components"]
    assert [(each["name"], each["version"]) for each in components] == PINS
    for each in components:
        (reference,) = each["externalReferences"]
        assert reference["hashes"], each["name"]
        assert each["licenses"], each["name"]


def test_it_tells_who_needs_what(text: str) -> None:
    told = json.loads(text)
    needs = {each["ref"].split("@")[0]: each["dependsOn"] for each in told["dependencies"]}
    own = needs["pkg:pypi/pkb-partner-appointment-gateway"]
    assert {name.split("@")[0] for name in own} >= {"pkg:pypi/aiohttp", "pkg:pypi/click"}
    assert any(name.startswith("pkg:pypi/yarl@") for name in needs["pkg:pypi/aiohttp"])
    reached = {name for names in needs.values() for name in names}
    assert reached == {each["bom-ref"] for each in told["components"]}, "what nobody needs would not be there"


def test_it_is_the_same_each_time_and_holds_no_host_path_or_time(text: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    again = sbom.bill(project, (ROOT / "requirements.lock").read_text(encoding="utf-8"))
    assert json.dumps(again, indent=2) + "\n" == text
    assert re.findall(r"https?://[^\"]+", text) == [f"http://cyclonedx.org/schema/bom-{sbom.SPEC}.schema.json"]
    assert str(ROOT) not in text
    assert "timestamp" not in text


def test_another_lock_is_another_bill() -> None:
    project = {"name": "x", "version": "1", "description": "d", "license": "MIT"}
    serials = {sbom.bill(project, lock)["serialNumber"] for lock in ("", "a==1 \\\n    --hash=sha256:" + "0" * 64)}
    assert len(serials) == 2


def test_what_the_schema_does_not_allow_is_told(text: str) -> None:
    assert sbom.problem(text) is None
    assert "bomFormat" in str(sbom.problem(text.replace('"bomFormat": "CycloneDX",', "")))


def test_the_image_has_the_bill_of_what_it_installs() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "COPY bench/sbom.py bench/sbom.py" in dockerfile
    assert "/opt/pkb-gateway/bin/python bench/sbom.py --output /opt/pkb-gateway/sbom.cdx.json" in dockerfile
    assert "`/opt/pkb-gateway/sbom.cdx.json`" in (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
