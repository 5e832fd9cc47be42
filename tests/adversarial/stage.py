"""The stage: a sandbox's PKB, gateways forked from one that is loaded, and what each attack left behind."""

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.partner.keys import read_signing_keys
from gateway.selftest.judging import MARK, complaints
from gateway.selftest.sending import Heard, send, wire
from gateway.selftest.sending import Place as Aim
from gateway.selftest.vectors import Vector, filled
from gateway.selftest.words import es256, sign, words
from tests.adversarial.relay import Relay
from tests.journeys.processes import EVERYTHING, START_SECONDS, Json, Place, free_port

SETTINGS = """
[limits]
not_found_step = "0s"
deadline = "4s"
"""
GOOD = Vector(name="a good read", family="", expect=("200",), headers=("Accept: application/fhir+json",))


@dataclass
class Nursery:
    """Gateways are forked from here, each with a guard of its own taken out, or none."""

    process: subprocess.Popen[bytes]

    def fork(self, config: Path, log: Path, guard: str) -> int:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None, "it listens"
        assert stdout is not None, "it answers"
        log.touch(0o600)
        stdin.write(json.dumps({"config": str(config), "log": str(log), "guard": guard}).encode() + b"\n")
        stdin.flush()
        return int(stdout.readline())


@contextlib.contextmanager
def nursery(*, python_parser: bool) -> Iterator[Nursery]:
    environment = {**os.environ, **({"AIOHTTP_NO_EXTENSIONS": "1"} if python_parser else {})}
    command = [sys.executable, "-m", "tests.adversarial.build"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        try:
            yield Nursery(process)
        finally:
            assert process.stdin is not None, "it listens"
            process.stdin.close()


@dataclass
class Target:
    """One gateway under attack."""

    place: Place
    relay: Relay
    log: Path
    pid: int
    words: Mapping[str, str]
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    _files: dict[Path, IO[bytes]] = field(default_factory=dict)
    _half: dict[Path, bytes] = field(default_factory=dict)

    @property
    def aim(self) -> Aim:
        url = urlsplit(self.place.gateway_url)
        moment = int(time.time())
        now = {
            "now": str(moment),
            "soon": str(moment + 300),
            "jti": secrets.token_hex(8),
            "claims": self._claims(moment),
        }
        return Aim(url.hostname or "", url.port or 0, {**self.words, **now}, self._sign)

    def _claims(self, moment: int) -> str:
        told = json.loads(self.words["claims"])
        return json.dumps({**told, "iat": moment, "exp": moment + 300, "jti": secrets.token_hex(8)})

    def _sign(self, who: str, signed: bytes, given: Mapping[str, str]) -> bytes:
        return es256(self.key, signed) if who == "gateway" else sign(who, signed, given)

    def records(self) -> list[bytes]:
        """The lines that were added to the audit stream since the last look."""
        found: list[bytes] = []
        for path in sorted(self.place.audit.glob("*.jsonl")):
            source = self._files.get(path) or self._files.setdefault(path, path.open("rb"))
            *whole, self._half[path] = (self._half.get(path, b"") + source.read()).split(b"\n")
            found += whole
        return found

    async def settled(self) -> list[bytes]:
        """The lines that came, once there is a refusal among them."""
        found: list[bytes] = []
        for _ in range(300):
            found += self.records()
            if any(b'"refuse"' in line for line in found):
                break
            await asyncio.sleep(0.01)
        return found

    def logged(self) -> bytes:
        """What was added to the log since the last look."""
        source = self._files.get(self.log) or self._files.setdefault(self.log, self.log.open("rb"))
        return source.read()

    def end(self) -> None:
        for each in self._files.values():
            each.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


async def attack(target: Target, vector: Vector) -> tuple[Heard, list[str]]:
    """Send a vector to a gateway; gives what came back and everything that is wrong with it."""
    wrong: list[str] = []
    target.records(), target.logged()
    before, writes = len(target.relay.heard), _writes(target.relay.heard)
    aim = target.aim
    target.relay.script[:] = [
        (filled(each.begin, aim.words), filled(each.raw, aim.words).encode()) for each in vector.pkb
    ]
    heard = await send(vector, aim)
    if target.relay.script:
        wrong.append("PKB was not asked as often as it was to be")
        target.relay.script.clear()
    wrong += complaints(vector, heard)
    records = await _settled(target, vector.records)
    sent = bytes(target.relay.heard[before:])
    if vector.reaches == "nothing" and sent:
        wrong.append(f"{len(sent)} bytes reached PKB")
    if vector.reaches != "writes" and _writes(target.relay.heard) != writes:
        wrong.append("PKB was written to")
    if any(filled(each, aim.words).encode() in sent for each in (MARK, *vector.never)):
        wrong.append("what was sent reached PKB")
    wrong += _about_records(vector, records, heard)
    if MARK.encode() in target.logged():
        wrong.append("the log repeats what was sent")
    if not vector.slow and MARK.encode() not in wire(GOOD, aim.words, aim.sign):
        good = await send(GOOD, target.aim)
        wrong += [f"the next good request: {each}" for each in complaints(GOOD, good)]
    return heard, wrong


def _writes(heard: bytearray) -> int:
    return len(re.findall(rb"(?:^|[\r\n}>])(?:PUT|PATCH|DELETE|POST) /(?!\S*token)", heard))


async def _settled(target: Target, expected: int) -> list[Json]:
    """The records that came, once as many are there as are to be, and a moment more."""
    found: list[bytes] = []
    until = time.monotonic() + 2
    while time.monotonic() < until:
        found += target.records()
        if len(found) >= expected:
            break
        await asyncio.sleep(0.01)
    found += target.records()
    return [json.loads(line) for line in found if b'"checkpoint"' not in line]


def _about_records(vector: Vector, records: list[Json], heard: Heard) -> list[str]:
    wrong = []
    if len(records) != vector.records:
        wrong.append(f"{len(records)} audit records: {[each.get('code') or each['event'] for each in records]}")
    if {each.get("client") for each in records} - {"127.0.0.1"}:
        wrong.append(f"the records say that {[each.get('client') for each in records]} called")
    if MARK in json.dumps(records):
        wrong.append("the audit repeats what was sent")
    if heard.answers and heard.answers[0].status >= 400 and records:
        code, told = heard.answers[0].code, records[-1].get("code")
        # The caller must not learn which of its reasons a not-found has; the audit says it.
        if told != code and (code, told) != ("not-found", "patient-mismatch"):
            wrong.append(f"the record says {told}, the answer {code}")
        if records[0]["request_id"] != heard.answers[0].header("X-Request-Id"):
            wrong.append("the record is of another request")
    return wrong


@contextlib.contextmanager
def target(
    sandbox: Place, forked_from: Nursery, name: str, guard: str = "", settings: str = SETTINGS, listen: str = ""
) -> Iterator[Target]:
    """A gateway of its own, in front of the sandbox's PKB."""
    pkb = urlsplit(sandbox.told["pkb_url"])
    relay = Relay((pkb.hostname or "", pkb.port or 0))
    port, admin_port = free_port(), free_port()
    config = sandbox.directory / f"{name}.toml"
    config.write_text(_settings(sandbox, name, (port, admin_port), relay.port, settings, listen), encoding="utf-8")
    log = config.with_suffix(".log")
    pid = forked_from.fork(config, log, guard)
    url = f"http://127.0.0.1:{port}"
    place = Place(sandbox.told, url, f"http://127.0.0.1:{admin_port}", sandbox.directory / name, pid)
    key = load_pem_private_key((sandbox.directory / "keys" / "tokens.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "the sandbox signs with ES256"
    found = Target(place, relay, log, pid, _words(place, f"127.0.0.1:{port}"), key)
    try:
        _wait_until_it_serves(found, port)
        yield found
    finally:
        found.end()
        relay.close()


def _wait_until_it_serves(found: Target, port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(found.log.read_text(encoding="utf-8")[-3000:])


def _settings(sandbox: Place, name: str, ports: tuple[int, int], relay: int, more: str, listen: str) -> str:
    text = Path(sandbox.told["config_file"]).read_text(encoding="utf-8")
    pkb = urlsplit(sandbox.told["pkb_url"]).netloc
    for pattern, new in (
        (r"public_url = .*", f'public_url = "http://127.0.0.1:{ports[0]}"'),
        (r"(listen = .*port = )\d+", rf"\g<1>{ports[0]}{listen and ', '}{listen}"),
        (r"(admin = .*port = )\d+", rf"\g<1>{ports[1]}"),
        (r'directory = "audit"', f'directory = "{name}"'),
        (r"sqlite:///state.db", f"sqlite:///{name}.db"),
    ):
        text, count = re.subn(pattern, new, text)
        assert count == 1, pattern
    assert pkb in text, "the sandbox's PKB is at one address"
    return f"{text.replace(pkb, f'127.0.0.1:{relay}')}\n{more}\n"


def _copy(place: Place, appointment: str) -> str:
    """PKB's copy of an appointment, as text."""
    with urllib.request.urlopen(f"{place.told['pkb_control_url']}/appointments/airedale/{appointment}") as answer:
        return str(answer.read().decode())


def _claim(place: Place, appointment: str) -> str:
    """The parameters that say whose appointment it is."""
    told = next(each for each in place.told["appointments"] if each["id"] == appointment)
    system, _, value = told["patient_identifier"].partition("|")
    patient = {"name": "patient", "valueIdentifier": {"system": system, "value": value}}
    return ",".join(json.dumps(each) for each in (patient, {"name": "birthDate", "valueDate": told["birth_date"]}))


def _words(place: Place, host: str) -> Mapping[str, str]:
    pem = (place.directory / "keys" / "tokens.pem").read_text(encoding="ascii")
    key: Any = read_signing_keys(pem).public_jwks()["keys"]
    token = place.token("swiftbook")
    told = dict(words(host, place.gateway_url, key[0], token, datetime.now(UTC)))
    claims = {**json.loads(told["claims"]), "sub": "swiftbook"}
    scenarios = {f"{each['customer']}-{each['scenario']}": each["id"] for each in reversed(place.told["appointments"])}
    settings = tomllib.loads(Path(place.told["config_file"]).read_text(encoding="utf-8"))
    copy = _copy(place, scenarios["airedale-changeable"])
    return {
        **told,
        "customer": "airedale",
        "base": "/airedale/fhir",
        "id": scenarios["airedale-changeable"],
        "path": f"/airedale/fhir/Appointment/{scenarios['airedale-changeable']}",
        "bradford": f"/bradford/fhir/Appointment/{scenarios['bradford-changeable']}",
        "foreign": scenarios["airedale-other-customer"],
        "hidden": scenarios["airedale-label-outside"],
        "cancelled": scenarios["airedale-cancelled"],
        "late": scenarios["airedale-inside-notice"],
        "partner": "swiftbook",
        "claims": json.dumps(claims),
        "claim": _claim(place, scenarios["bradford-changeable"]),
        "box": urlsplit(settings["routes"]["airedale-box"]["base_url"]).path,
        "copy": copy,
        "copy-length": str(len(copy.encode())),
        "access": token,
        "read-only": "Bearer " + place.token("swiftbook", "system/Appointment.r"),
        "viewonly": "Bearer " + place.token("viewonly"),
        "cardiolink": "Bearer " + place.token("cardiolink"),
        "suspended": "Bearer " + place.token("suspended"),
        "newcomer": "Bearer " + place.token("newcomer"),
        "formerly": "Bearer " + place.token("formerly"),
        "expired": "Bearer " + place.token("swiftbook", EVERYTHING, 4000),
        "reasons": "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason",
        "reason": '{"name":"reason","valueCodeableConcept":{"coding":[{"system":'
        '"http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason","code":"pat"}]}}',
    }
