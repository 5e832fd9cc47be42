"""Facts about the repository itself: what it must hold, and what must never slip in."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^\s;]+)(?: ; [^\\]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
VERBS = {
    *("help", "run", "serve", "test", "check", "lock", "mutation", "schemas", "docs", "clean", "site", "sbom"),
    *("faults", "load", "neighbour", "overload", "soak", "bench", "audit-bench"),
}

# Each pattern is written so that it does not match itself.
FORBIDDEN = {
    "a registry's host": (
        r"py[p]i\.org|python[h]osted\.org|registry\.np[m]js|deb\.debia[n]\.org|docker\.i[o]\b|ghcr\.i[o]\b|quay\.i[o]\b"
    ),
    "a path of somebody's machine": r"(?<![\w.])/(?:wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+)/",
    "a note about unfinished work": r"\b(?:TOD[O]|FIXM[E]|XX[X]|HAC[K])\b",
    "a private key": r"-----BEGI[N] [A-Z ]*PRIVATE KEY-----",
    "a merge that was not finished": r"^(?:<{7}|>{7}) ",
}


def tracked() -> list[Path]:
    """What a clone holds; where git does not know the tree (an unpacked archive), there is nothing to ask."""
    listing = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("THE TREE IS NOT A GIT CHECKOUT")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def places(pattern: str, paths: list[Path]) -> Iterator[str]:
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for found in re.finditer(pattern, text, re.MULTILINE):
            yield f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, found.start()) + 1}"


def lock(name: str) -> dict[str, str]:
    """Name and version of each pin."""
    pins = (PIN.fullmatch(line) for line in (ROOT / name).read_text().splitlines())
    return {pin["name"]: pin["version"] for pin in pins if pin}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_holds(what: str) -> None:
    assert list(places(FORBIDDEN[what], tracked())) == []


@pytest.mark.parametrize(
    ("what", "example"),
    [
        ("a registry's host", "--index-url https://py" + "pi.org/simple"),
        ("a path of somebody's machine", "open('/wor" + "k/main/x')"),
        ("a note about unfinished work", "# TO" + "DO: later"),
        ("a private key", "-----BEG" + "IN EC PRIVATE KEY-----"),
        ("a merge that was not finished", "<" * 7 + " HEAD"),
    ],
)
def test_the_search_finds(what: str, example: str) -> None:
    assert re.search(FORBIDDEN[what], f"above\n{example}\n", re.MULTILINE)


def test_every_python_file_can_be_read_in_one_sitting() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in tracked() if path.suffix == ".py"}
    assert {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length >= 400} == {}


def test_every_silenced_check_says_why() -> None:
    silenced = r"# (?:noq[a]\b|type: ignor[e]\b|pragma: no cove[r]\b)"
    reasoned = (
        r"# (?:noq[a]: [A-Z]+\d+(?:, ?[A-Z]+\d+)*|type: ignor[e]\[[\w, -]+\]|pragma: no (?:cove[r]|branc[h]))"
        r"[^\w\n]+\w\S* \w"
    )
    python = [path for path in tracked() if path.suffix == ".py"]
    assert list(places(rf"^(?!.*{reasoned}).*{silenced}", python)) == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_pins_hashes_and_reasons_and_nothing_else(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    assert [
        line for line in lines if not (PIN.fullmatch(line) or HASH.fullmatch(line) or re.match(r"    # via ", line))
    ] == []
    assert [line for line in lines if "/" in line] == [], "an address or a path"


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_of_a_lock_is_hashed(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    pins = [number for number, line in enumerate(lines) if PIN.fullmatch(line)]
    assert pins
    assert [lines[number] for number in pins if not HASH.fullmatch(lines[number + 1])] == []


def test_the_locks_answer_to_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    asked = {
        "requirements.lock": project["project"]["dependencies"],
        "requirements-dev.lock": [*project["project"]["dependencies"], *groups["build"], *groups["dev"]],
        "requirements-build.lock": [*groups["build"], *project["build-system"]["requires"]],
    }
    for name, requirements in asked.items():
        pins = lock(name)
        for requirement in (Requirement(text) for text in requirements if isinstance(text, str)):
            pinned = pins.get(requirement.name.lower())
            assert pinned, f"{name} lacks {requirement}: make lock"
            assert requirement.specifier.contains(pinned), f"{name} pins {pinned} against {requirement}: make lock"


def test_what_ships_is_what_was_tested() -> None:
    tested = lock("requirements-dev.lock")
    for name in ("requirements.lock", "requirements-build.lock"):
        assert lock(name).items() <= tested.items()


def test_make_help_lists_every_verb() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == VERBS
    printed = subprocess.run(["make", "--silent", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([\w-]+) +\w", printed, re.MULTILINE)) == VERBS


def test_the_build_server_runs_what_a_developer_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111, "not executable"
    assert script.read_text().splitlines()[-1] == "make test"


def test_the_image_runs_as_nobody_from_a_base_that_a_digest_can_pin() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert set(bases) == {"${PYTHON_IMAGE}${PYTHON_DIGEST:+@${PYTHON_DIGEST}}"}
    assert len(bases) == 2


def test_the_image_takes_in_only_what_is_named() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert patterns[0] == "*"
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    sources = {source for line in copied for source in line.split()}
    assert sources == {pattern[1:] for pattern in patterns if pattern.startswith("!")}


def test_the_licence_is_the_whole_one_that_the_project_names() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


def test_the_changelog_and_the_image_name_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\n## [{version}] - " in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nARG VERSION={version}\n" in (ROOT / "Dockerfile").read_text()
