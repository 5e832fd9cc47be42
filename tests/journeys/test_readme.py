"""curl walks what README.md and docs/partners.md promise, and what the sandbox prints, against the real process."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.partner import Client, parameters, reason, until
from tests.journeys.processes import Json, Place

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None, reason="WHAT THE DOCUMENTS PROMISE WAS NOT TRIED: NO CURL"
)

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "docs/partners.md")
BLOCK = re.compile(r"^(<!-- tested -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TRIED_ELSEWHERE = {
    "make run": "test_tour.py walks the tour that it starts",
    "pkb-gateway serve": "every journey starts a gateway with it",
    "docker build": "needs Docker",
    "docker run": "needs Docker",
}


@dataclass(frozen=True)
class Block:
    tested: bool
    language: str
    text: str


def blocks(name: str) -> list[Block]:
    found = BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))
    return [Block(bool(tested), language, text) for tested, language, text in found]


def commands(text: str) -> list[str]:
    """The commands of a block, each in one line, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.split("  #", maxsplit=1)[0].strip() for line in lines if line.strip()]


def left() -> list[str]:
    """The commands that nobody runs as they stand in the documents."""
    shown = [block for name in DOCUMENTS for block in blocks(name) if block.language == "sh" and not block.tested]
    every = [command for block in shown for command in commands(block.text)]
    return [each for each in every if not each.startswith(tuple(TRIED_ELSEWHERE))]


def typed(script: str, folder: Path = ROOT, environment: Mapping[str, str] | None = None) -> str:
    """What a shell prints that stops at the first command which fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", script]
    settings = {**os.environ, "PATH": path, **(environment or {})}
    ran = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, f"{script}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@dataclass(frozen=True)
class Heard:
    """What curl -i showed."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


def heard(printed: str) -> Heard:
    head, _, text = printed.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.splitlines()
    pairs = (line.partition(": ") for line in lines)
    return Heard(int(first.split(" ")[1]), {name.lower(): value for name, _, value in pairs}, text)


def curl(
    place: Place, *words: str, body: Json | list[Json] | None = None, media: str = "application/fhir+json"
) -> Heard:
    sent = ["-H", f"Content-Type: {media}", "--data-binary", json.dumps(body)] if body is not None else []
    token = ["-H", f"Authorization: Bearer {place.told['partners']['swiftbook']['access_token']}"]
    return heard(typed(shlex.join(["curl", "-si", *token, *sent, *words])))


def test_what_the_documents_tell_to_type_is_marked_as_tested_or_tried_here() -> None:
    assert {" ".join(shlex.split(each)[:2]) for each in left()} == {
        "pkb-gateway block",
        "pkb-gateway unblock",
        "pkb-gateway check",
    }


async def test_the_commands_that_need_other_paths_work_with_those_of_the_sandbox(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "config").symlink_to(client.place.directory)
    known = client.demo("changeable")["id"]
    for command in left():
        printed = typed(command.replace("/etc/pkb-gateway", "config"), tmp_path)
        assert " check " not in command or "no mistakes" in printed
    barred = await until(lambda: client.read(known), lambda reply: reply.status != 200)
    assert barred.code == "no-grant"
    # What the README lifts last is the block everywhere; the one at a customer is lifted by itself.
    typed('pkb-gateway unblock swiftbook --customer airedale --by "Jo Bloggs"', tmp_path)
    await until(lambda: client.read(known), lambda reply: reply.status == 200)


async def test_what_the_sandbox_prints_can_be_typed(client: Client) -> None:
    async def said() -> str:
        return (client.place.directory / "sandbox.out").read_text(encoding="utf-8")

    welcome = await until(said, lambda text: "Stop with Ctrl-C." in text)
    script = welcome.partition("in another terminal:")[2].partition("# who may do what")[0]
    named = client.demo("changeable")["id"]
    before = await client.copy(named)
    printed = typed(script)
    # The others make their appointments after the likeness of this one.
    await client.put(named, before)
    assert named in script
    assert '"status":"cancelled"' in printed.replace(": ", ":")
    assert '"method": "PUT"' in printed
    assert "signatures: checked" in printed


async def test_the_answers_that_the_readme_shows_are_those_that_come(client: Client) -> None:
    shown = [heard(block.text) for block in blocks("README.md") if block.text.startswith("HTTP/1.1")]
    (asked,) = (block for block in blocks("README.md") if "$cancel" in block.text)
    made = await client.fresh()
    script = asked.text.replace("airedale-changeable-24", made)
    settings = {"TOKEN": client.place.token("swiftbook")}
    settings["APPOINTMENTS"] = f"{client.place.gateway_url}/airedale/fhir/Appointment"
    came = [heard(typed(script, environment=settings)) for _ in shown]
    assert [each.status for each in came] == [200, 409]
    for showing, coming in zip(shown, came, strict=True):
        assert (showing.status, showing.body) == (coming.status, coming.body)
        assert list(showing.headers) == [name for name in coming.headers if name in showing.headers]


def requests() -> Sequence[str]:
    """The left column of the table of requests."""
    table = (
        (ROOT / "README.md").read_text(encoding="utf-8").partition("## What a partner can ask")[2].partition("\n\n`")[0]
    )
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    found = [re.findall(r"`([A-Z]+) (/[^`]*|…)`", row) for row in rows]
    # A further method in a row is asked at the path of the first.
    return [f"{method} {row[0][1] if path == '…' else path}" for row in found for method, path in row]


@pytest.mark.parametrize("request_line", requests())
async def test_every_request_of_the_readme_is_answered(client: Client, request_line: str) -> None:
    method, _, path = request_line.partition(" ")
    made = await client.fresh()
    like = client.demo("changeable", 2)
    url = client.place.gateway_url + path.replace("{customer}", "airedale").replace("?…", "")
    search = ["--data-urlencode", f"patient.identifier={like['patient_identifier']}"]
    match method, path.rpartition("/")[2]:
        case "POST", "token":
            got = heard(typed(shlex.join(["curl", "-si", "-d", "grant_type=password", url])))
            assert (got.status, got.body["error"]) == (400, "unsupported_grant_type")
        case "GET", "Appointment?…":
            got = curl(client.place, "-G", *search, url)
            assert [each["resource"]["id"] for each in got.body["entry"]] == [like["id"]]
        case "POST", "_search":
            got = curl(client.place, *search, url)
            assert [each["resource"]["id"] for each in got.body["entry"]] == [like["id"]]
        case "POST", "$cancel":
            got = curl(client.place, url.replace("{id}", made), body=parameters(reason()))
            assert (got.status, got.body["status"]) == (200, "cancelled")
        case "POST", "$change":
            told = parameters({"name": "comment", "valueString": "Ask for Jo."})
            got = curl(client.place, url.replace("{id}", made), body=told)
            assert (got.status, got.body["comment"]) == (200, "Ask for Jo.")
        case "GET", "{id}" if "/Task/" in path:
            changed = await client.cancel(made)
            (outcome,) = await client.audit_of(changed.request_id, "outcome")
            got = curl(client.place, url.replace("{id}", outcome["task"]))
            assert (got.status, got.body["status"]) == (200, "completed")
        case "PUT", _:
            copy = {**await client.copy(made), "comment": "Ask for Sam."}
            version = copy["meta"]["versionId"]
            got = curl(
                client.place, "-X", "PUT", "-H", f'If-Match: W/"{version}"', url.replace("{id}", made), body=copy
            )
            assert (got.status, got.body["comment"]) == (200, "Ask for Sam.")
        case "PATCH", _:
            version = (await client.copy(made))["meta"]["versionId"]
            patch: list[Json] = [{"op": "replace", "path": "/comment", "value": "Ask for Kit."}]
            words = ("-X", "PATCH", "-H", f'If-Match: W/"{version}"', url.replace("{id}", made))
            got = curl(client.place, *words, body=patch, media="application/json-patch+json")
            assert (got.status, got.body["comment"]) == (200, "Ask for Kit.")
        case _:
            assert method == "GET"
            got = heard(typed(shlex.join(["curl", "-si", *_token(client, path), url.replace("{id}", made)])))
            assert (got.status, got.text != "") == (200, True)


def _token(client: Client, path: str) -> Sequence[str]:
    """What is about the gateway needs none."""
    asks = "/Appointment" in path
    return ["-H", f"Authorization: Bearer {client.place.token('swiftbook')}"] if asks else []
