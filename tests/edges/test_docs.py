"""The documents say what the product does: nothing that it has goes unsaid, and what they tell to type works."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from gateway.cli.main import main
from gateway.configuration.grants import GrantsReader
from gateway.domain.chain import canonical, open_line
from gateway.domain.chain_check import Sound
from gateway.domain.codes import Code
from gateway.domain.decision import Facts
from gateway.domain.hl7_limits import Unsayable
from gateway.flow.records import Upstream
from gateway.storage.journal_records import EXTRAS, FIELDS
from tests.domain.whole_chain import verify_chain
from tests.edges.console_desk import Desk
from tests.edges.still_gauges import every_metric
from tests.journeys.processes import Sandbox, sandbox_process

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GENERATOR: Mapping[str, Any] = runpy.run_path(str(DOCS / "generate.py"))
EVERY = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TESTED = re.compile(r"^<!-- tested -->\n```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def says(text: str, word: str) -> bool:
    """Whether a word stands in a code span."""
    return re.search(rf"`[^`\n]*(?<![\w-]){re.escape(word)}(?![\w-])[^`\n]*`", text) is not None


def properties(schema: Mapping[str, Any], node: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """The dotted path of every key of a schema; NAME stands for a name of one's own."""
    if "$ref" in node:
        yield from properties(schema, schema["$defs"][node["$ref"].removeprefix("#/$defs/")], at)
    for each in node.get("oneOf", []):
        yield from properties(schema, each, at)
    for name, each in node.get("properties", {}).items():
        path = f"{at}.{name}" if at else name
        yield path
        yield from properties(schema, each, path)
    for each in node.get("patternProperties", {}).values():
        yield from properties(schema, each, f"{at}.NAME")
    if "items" in node:
        yield from properties(schema, node["items"], f"{at}[]")


def keys_of(name: str) -> list[str]:
    """The keys that hold a value; tables are known by what is in them."""
    schema = json.loads(read(f"config/schemas/{name}.schema.json"))
    found = set(properties(schema, schema))
    return sorted(key for key in found if not any(other.startswith(f"{key}.") for other in found))


def verbs(command: click.Command, name: str = "pkb-gateway") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None, word
            yield from verbs(below, f"{name} {word}")
    else:
        yield name, command


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def metric_names() -> list[str]:
    names = re.findall(r"^# TYPE (\S+)", every_metric().text().decode(), re.MULTILINE)
    return [name for name in names if not name.endswith("_created")]


def written_events() -> list[str]:
    """The events that the code writes, as its own text has them."""
    code = [path for path in (ROOT / "gateway").rglob("*.py") if "simulator" not in path.parts]
    found = {word for path in code for word in re.findall(r'"event": "([a-z-]+)"', path.read_text(encoding="utf-8"))}
    assert {"start", "stop", "checkpoint", "intent", "outcome", "refused", "read", "suppressed"} <= found
    return sorted(found)


def logged_events() -> list[str]:
    """The first words of every line that the code logs, as its own text has them."""
    code = [path for path in (ROOT / "gateway").rglob("*.py") if not {"simulator", "configuration"} & set(path.parts)]
    said = r"(?:\b_?log\.(?:info|warning|error|exception|log)|notice)\(\s*(?:record\.levelno, )?\"([a-z][A-Za-z -]+)\""
    found = {words for path in code for words in re.findall(said, path.read_text(encoding="utf-8"))}
    assert {"request", "serving", "fault", "library", "open write", "blocks could not be read"} <= found
    return sorted(found)


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_its_row(code: Code) -> None:
    assert f"\n| `{code.value}` | " in read("docs/errors.md")


def test_the_readme_lists_every_code_that_can_be_sent() -> None:
    readme = read("README.md")
    assert {code for code in Code if not says(readme, code.value)} == set(GENERATOR["NEVER_SENT"])


def test_what_is_never_sent_is_used_nowhere() -> None:
    used = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "gateway").rglob("*.py"))
    assert [
        code for code in GENERATOR["NEVER_SENT"] if f"Code.{code.name}" in used.replace(f"Code.{code.name}: ", "")
    ] == []


@pytest.mark.parametrize("path", GENERATOR["documents"](), ids=lambda path: path.name)
def test_generated_documents_are_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == GENERATOR["documents"]()[path], "run: make docs"


@pytest.mark.parametrize("key", keys_of("gateway"))
def test_every_setting_is_explained(key: str) -> None:
    assert f"\n| `{key}` | " in read("docs/settings.md")


@pytest.mark.parametrize("key", keys_of("grants"))
def test_every_key_of_the_grants_file_is_explained(key: str) -> None:
    assert says(read("docs/grants.md"), key.rpartition(".")[2].removesuffix("[]"))


@pytest.mark.parametrize(("name", "command"), list(verbs(main)), ids=lambda each: each if isinstance(each, str) else "")
def test_every_verb_is_explained_with_its_options(name: str, command: click.Command) -> None:
    rows = [line for line in read("docs/operations.md").splitlines() if line.startswith(f"| `{name}")]
    assert len(rows) == 1
    given = [word for option in command.params for word in (*option.opts, *option.secondary_opts) if word[0] == "-"]
    assert [word for word in given if not says(rows[0], word)] == []


@pytest.mark.parametrize("name", metric_names())
def test_every_metric_is_explained(name: str) -> None:
    assert f"\n| `{name}` |" in read("docs/operations.md")


@pytest.mark.parametrize("event", logged_events())
def test_every_event_of_the_log_is_explained(event: str) -> None:
    table = read("docs/operations.md").partition("## Log")[2].partition("## Workers")[0]
    assert any(says(line.split("|")[1], event) for line in table.splitlines() if line.startswith("| `"))


@pytest.mark.parametrize("why", list(Unsayable), ids=lambda why: why.name)
def test_what_hl7_cannot_say_is_explained_in_the_words_of_the_answer(why: Unsayable) -> None:
    assert f"\n| {why.value} | " in read("docs/hl7.md")


@pytest.mark.parametrize("event", written_events())
def test_every_audit_event_is_explained(event: str) -> None:
    table = read("docs/audit.md").partition("## Events")[2].partition("## Fields")[0]
    assert any(says(line.split("|")[1], event) for line in table.splitlines() if line.startswith("| `"))


@pytest.mark.parametrize(
    "field",
    [
        *FIELDS,
        "prev",
        "hash",
        *sorted(set().union(*EXTRAS.values())),
        *Upstream("").as_record(),
        *(each.name for each in fields(Facts)),
    ],
)
def test_every_audit_field_is_explained(field: str) -> None:
    table = read("docs/audit.md").partition("## Fields")[2].partition("## Verify")[0]
    assert says(table, field)


@pytest.mark.parametrize("path", EVERY, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    lost = []
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists():
            lost.append(link)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            lost += [] if anchor in map(slug, headings) else [link]
    assert lost == []


def test_every_document_is_reached_from_the_index() -> None:
    index = read("docs/index.md")
    assert [path.name for path in DOCS.glob("*.md") if path.name != "index.md" and f"({path.name})" not in index] == []
    first = read("docs/decisions/0001-record-decisions.md")
    pages = sorted(path.name for path in (DOCS / "decisions").glob("*.md"))[1:]
    assert [name for name in pages if f"({name})" not in first] == []


def test_the_grants_file_of_the_readme_is_a_good_one(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(.*?)```", read("README.md"), re.DOTALL)
    assert block is not None
    shutil.copytree(ROOT / "config" / "keys", tmp_path / "keys")
    (tmp_path / "grants.toml").write_text(block[1], encoding="utf-8")
    policy = GrantsReader(tmp_path / "grants.toml", secrets=False).load().policy
    assert [grant.id for grant in policy.grants] == ["airedale-swiftbook"]


def test_the_worked_hash_of_the_audit_document_is_right() -> None:
    blocks = re.findall(r"```text\n(\{.*?)\n```", read("docs/audit.md"), re.DOTALL)
    lines = [line.encode() + b"\n" for line in blocks[0].splitlines()]
    chain = "20260101T090000Z-0a1b2c3d"
    assert isinstance(verify_chain(chain, [("x", number, line) for number, line in enumerate(lines, 1)]), Sound)
    first = open_line(lines[0])
    assert isinstance(first, dict)
    assert canonical({name: value for name, value in first.items() if name != "hash"}).decode() == blocks[1]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    if shutil.which("curl") is None:
        pytest.skip("WHAT THE DOCUMENTS TELL TO TYPE WAS NOT TRIED: THERE IS NO CURL")
    with sandbox_process(tmp_path_factory.mktemp("documents")) as running:
        yield running


def typed(name: str, sandbox: Sandbox) -> subprocess.CompletedProcess[str]:
    """Run every block marked as tested of a document, one after the other in one shell."""
    blocks = TESTED.findall(read(name))
    assert blocks, "nothing is marked"
    script = "\n".join(text if kind == "sh" else f"python - <<'END'\n{text}\nEND" for kind, text in blocks)
    script = script.replace("http://127.0.0.1:8080", sandbox.place.gateway_url)
    script = script.replace("var/sandbox", str(sandbox.place.directory))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # The documents put .venv first; the tests may run in another environment.
    script = script.replace('PATH="$PWD/.venv/bin:$PATH"', "")
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("README.md", ["HTTP/1.1 200 OK", "The change is visible in PKB.", "no mistakes", "signatures: checked"]),
        ("docs/partners.md", ["bearer 300 system/Appointment.ru", "booked", "HTTP/1.1 200 OK"]),
        ("docs/grants.md", ["no mistakes"]),
        ("docs/hl7.md", ["HTTP/1.1 202 Accepted", "PKB accepted the message.", "SIU^S14", "1 open"]),
        ("docs/audit.md", ["signatures: checked", '"crv": "Ed25519"', "good: 1 chains"]),
        ("docs/deploy.md", ["signatures: checked", "good: 1 chains"]),
    ],
    ids=["README", "partners", "grants", "hl7", "audit", "deploy"],
)
def test_what_a_document_tells_to_type_works(sandbox: Sandbox, name: str, seen: list[str]) -> None:
    ran = typed(name, sandbox)
    assert ran.returncode == 0, ran.stderr
    assert [words for words in seen if words not in ran.stdout] == []


def pages_of_the_console() -> list[str]:
    """The paths of the admin side that can be asked for by themselves."""
    found = {resource.canonical for resource in Desk().admin().application().router.resources()}
    return sorted(path for path in found if "{" not in path)


@pytest.mark.parametrize("path", pages_of_the_console())
def test_every_path_of_the_admin_side_is_explained(path: str) -> None:
    section = read("docs/operations.md").partition("## Admin side")[2].partition("## Metrics")[0]
    assert path in {"/login", "/logout"} or f"`{path}`" in section or f"`GET {path}`" in section
