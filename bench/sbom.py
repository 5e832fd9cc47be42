#!/usr/bin/env python3
"""Write the bill of materials of what a deployment installs: CycloneDX JSON, made of requirements.lock.

`make sbom` writes build/sbom.cdx.json and holds it against CycloneDX's schema; the image is built with it. It depends
on the lock alone, and on the licences that the installed packages name: no time, no address, no path. So it needs
nothing but the standard library, unless it is to be validated.
"""

import argparse
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
PIN: Final = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\]+?))? \\$")
HASH: Final = re.compile(r"^    --hash=sha256:([0-9a-f]{64})")
VIA: Final = re.compile(r"^    # via (.+)$")
SPEC: Final = "1.6"

Json = dict[str, Any]


@dataclass(slots=True)
class Package:
    """One pin of the lock."""

    name: str
    version: str
    marker: str | None
    hashes: list[str]
    via: list[str]

    @property
    def purl(self) -> str:
        """Its address in CycloneDX, which names no host."""
        return f"pkg:pypi/{self.name}@{self.version}"


def read_lock(text: str) -> list[Package]:
    """Read the pins with their hashes and with who asked for them."""
    found: list[Package] = []
    for line in text.splitlines():
        if pin := PIN.match(line):
            found.append(Package(pin["name"], pin["version"], pin["marker"], [], []))
        elif digest := HASH.match(line):
            found[-1].hashes.append(digest[1])
        elif via := VIA.match(line):
            found[-1].via += [word.split(" ")[0] for word in via[1].split(", ")]
    return found


def licences(name: str) -> list[Json]:
    """What an installed package says of its licence; nothing where it is not installed here."""
    try:
        told = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return []
    if expression := told.get("License-Expression"):
        return [{"expression": expression}]
    classifiers = [each.rpartition(" :: ")[2] for each in told.get_all("Classifier", []) if "License ::" in each]
    named = [line for line in (told.get("License") or "").splitlines()[:1] if line.strip()] or classifiers
    return [{"license": {"name": each.strip()}} for each in named]


def component(package: Package) -> Json:
    """Describe one package."""
    told: Json = {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "externalReferences": [
            {
                "type": "distribution",
                "url": package.purl,
                "comment": "any one of the files that the lock allows",
                "hashes": [{"alg": "SHA-256", "content": each} for each in sorted(package.hashes)],
            }
        ],
    }
    if found := licences(package.name):
        told["licenses"] = found
    if package.marker:
        told["properties"] = [{"name": "python:environment-marker", "value": package.marker.strip()}]
    return told


def bill(project: Json, lock: str) -> Json:
    """Make the whole bill."""
    packages = read_lock(lock)
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    asked: dict[str, list[str]] = {own: [], **{each.purl: [] for each in packages}}
    purls = {project["name"]: own, **{each.name: each.purl for each in packages}}
    for each in packages:
        for name in each.via:
            if name in purls:
                asked[purls[name]].append(each.purl)
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, own + lock)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "licenses": [{"expression": project["license"]}],
                "purl": own,
            }
        },
        "components": [component(each) for each in packages],
        "dependencies": [{"ref": ref, "dependsOn": sorted(on)} for ref, on in asked.items()],
    }


def problem(text: str) -> str | None:
    """Hold a bill against the schema of CycloneDX; tell what is wrong with it."""
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415 - the image's builder has only the standard library
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415 - the same

    found = JsonStrictValidator(SchemaVersion.from_version(SPEC)).validate_str(text)
    return None if found is None else str(found.data.message)


def main(words: Sequence[str]) -> int:
    """Write it."""
    parser = argparse.ArgumentParser(description="Write the bill of materials.")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "sbom.cdx.json")
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements.lock")
    parser.add_argument("--project", type=Path, default=ROOT / "pyproject.toml")
    parser.add_argument("--validate", action="store_true")
    given = parser.parse_args(words)
    project = tomllib.loads(given.project.read_text(encoding="utf-8"))["project"]
    text = json.dumps(bill(project, given.lock.read_text(encoding="utf-8")), indent=2) + "\n"
    if given.validate and (wrong := problem(text)) is not None:
        print(f"not what CycloneDX {SPEC} asks for: {wrong}", file=sys.stderr)
        return 1
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(text, encoding="utf-8")
    print(f"{given.output.name}: {len(read_lock(given.lock.read_text(encoding='utf-8')))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
