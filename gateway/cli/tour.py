"""The walk-through of a sandbox: every scenario once, with PKB's writes counted after each request."""

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.table import Table

from gateway.domain.appointment import CANCEL_REASON_SYSTEM, NHS_NUMBER_SYSTEM
from gateway.storage.verification import read_keys, verify

Answer = tuple[int, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Step:
    """One request and what must come of it; `writes` is how many messages PKB must see."""

    title: str
    partner: str
    method: str
    path: str
    status: int
    code: str = ""
    writes: int = 0
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a step."""

    step: Step
    status: int
    code: str
    writes: int

    @property
    def fine(self) -> bool:
        """Whether it is what must come of it."""
        step = self.step
        return (self.status, self.code, self.writes) == (step.status, step.code, step.writes)


def reason(code: str = "pat") -> Mapping[str, Any]:
    """Give the `reason` parameter."""
    return {"name": "reason", "valueCodeableConcept": {"coding": [{"system": CANCEL_REASON_SYSTEM, "code": code}]}}


def parameters(*given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a Parameters resource."""
    return {"resourceType": "Parameters", "parameter": list(given)}


@dataclass(slots=True)
class _Demo:
    """The demo appointments, each handed out once."""

    appointments: list[Mapping[str, Any]]
    used: set[str] = field(default_factory=set)

    def take(self, scenario: str, customer: str = "airedale") -> Mapping[str, Any]:
        for each in self.appointments:
            if each["scenario"] == scenario and each["customer"] == customer and each["id"] not in self.used:
                self.used.add(each["id"])
                return each
        raise LookupError(f"no {scenario} appointment is left at {customer}")


def steps(told: Mapping[str, Any]) -> list[Step]:
    """List the requests of the tour for the demo data of a sandbox."""
    demo = _Demo(told["appointments"])
    here = [*_reading(demo), *_cancelling(demo), *_changing(demo), *_refused(demo), *_edge(demo, told)]
    return [*here, *_by_message(demo), *_in_stu3(demo)]


def _path(appointment: Mapping[str, Any], operation: str = "", customer: str = "") -> str:
    suffix = f"/{operation}" if operation else ""
    return f"/{customer or appointment['customer']}/fhir/Appointment/{appointment['id']}{suffix}"


def _cancel(title: str, appointment: Mapping[str, Any], status: int, code: str = "", **rest: Any) -> Step:
    rest = {"partner": "swiftbook", "body": parameters(reason()), **rest}
    customer = rest.pop("customer", "")
    path = _path(appointment, "$cancel", customer)
    return Step(title, method="POST", path=path, status=status, code=code, **rest)


def _change(title: str, appointment: Mapping[str, Any], status: int, code: str = "", **rest: Any) -> Step:
    return Step(title, "swiftbook", "POST", _path(appointment, "$change"), status, code, **rest)


def _reading(demo: _Demo) -> list[Step]:
    seen, hidden = demo.take("changeable"), demo.take("label-outside")
    team = demo.take("team-owned")
    return [
        Step("read an appointment", "swiftbook", "GET", _path(seen), 200),
        Step("ask what may be done with it", "swiftbook", "GET", _path(seen, "$actions"), 200),
        Step("a partner that may only read, reads", "viewonly", "GET", _path(seen), 200),
        Step(
            "a team's partner reads at the team's path",
            "cardiolink",
            "GET",
            _path(team, "", "airedale-cardiology"),
            200,
        ),
        Step("a label outside the grant does not exist", "swiftbook", "GET", _path(hidden), 404, "not-found"),
        Step("nor does an unknown id", "swiftbook", "GET", "/airedale/fhir/Appointment/none", 404, "not-found"),
    ]


def _cancelling(demo: _Demo) -> list[Step]:
    twice, checked, mixed_up = demo.take("changeable"), demo.take("changeable"), demo.take("changeable")
    return [
        _cancel("cancel it", twice, 200, writes=1),
        _cancel("cancel it again", twice, 409, "already-cancelled"),
        _cancel("with the patient checked", checked, 200, writes=1, body=parameters(reason(), *_patient(checked))),
        _cancel("with another patient", mixed_up, 404, "not-found", body=parameters(reason(), *_patient(checked))),
        _cancel("a team's appointment, by the organisation's grant", demo.take("team-owned"), 200, writes=1),
        _cancel(
            "a team's appointment, by the team's grant",
            demo.take("team-owned"),
            200,
            writes=1,
            partner="cardiolink",
            customer="airedale-cardiology",
        ),
        _cancel("for a version that is gone", mixed_up, 412, "version-conflict", headers={"If-Match": 'W/"0"'}),
        _cancel("without a reason", mixed_up, 400, "missing-parameter", body=parameters()),
        _cancel(
            "for a reason FHIR does not know", mixed_up, 422, "reason-not-allowed", body=parameters(reason("mood"))
        ),
    ]


def _patient(appointment: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    number = appointment["patient_identifier"].split("|")[1]
    return (
        {"name": "patient", "valueIdentifier": {"system": NHS_NUMBER_SYSTEM, "value": number}},
        {"name": "birthDate", "valueDate": appointment["birth_date"]},
    )


def _changing(demo: _Demo) -> list[Step]:
    moved, other = demo.take("changeable"), demo.take("changeable")
    start = datetime.fromisoformat(moved["start"]) + timedelta(days=7)
    times = (
        {"name": "start", "valueInstant": start.isoformat()},
        {"name": "end", "valueInstant": (start + timedelta(minutes=30)).isoformat()},
    )
    past = {"name": "start", "valueInstant": "2020-01-01T10:00:00Z"}
    url = {"name": "managementUrl", "valueUrl": "https://swiftbook.example/manage/1"}
    comment = {"name": "comment", "valueString": "Please bring your glasses."}
    return [
        _change("move it by a week", moved, 200, writes=1, body=parameters(*times)),
        _change("move it to where it is", moved, 422, "nothing-to-change", body=parameters(*times)),
        _change("change its comment", other, 200, writes=1, body=parameters(comment)),
        _change("move it into the past", other, 422, "new-time-in-the-past", body=parameters(past)),
        _change("a field that this route lacks", other, 422, "not-supported-on-route", body=parameters(url)),
    ]


def _refused(demo: _Demo) -> list[Step]:
    free = demo.take("changeable")
    outside = demo.take("specialty-outside", "airedale-cardiology")
    return [
        _cancel("another organisation's appointment", demo.take("other-customer"), 404, "not-found"),
        _cancel("cancelled before", demo.take("cancelled"), 409, "already-cancelled"),
        _cancel("over", demo.take("past"), 422, "in-the-past"),
        _cancel("inside the notice period", demo.take("inside-notice"), 422, "too-late"),
        _cancel("fulfilled", demo.take("fulfilled"), 409, "not-changeable"),
        _cancel("patient did not attend", demo.take("noshow"), 409, "not-changeable"),
        _cancel("outside the team's specialty", outside, 404, "not-found", partner="cardiolink"),
        _cancel("may only read", free, 403, "operation-not-granted", partner="viewonly"),
        _cancel("grant has ended", free, 403, "grant-expired", partner="formerly"),
        _cancel("suspended partner", free, 403, "partner-suspended", partner="suspended"),
        _cancel("no grant at all", free, 403, "no-grant", partner="newcomer"),
        _cancel("a customer that granted nothing", free, 403, "no-grant", customer="wharfedale"),
    ]


def _by_message(demo: _Demo) -> list[Step]:
    """Bradford is reached by HL7: writes are messages, reads come from PKB's aggregated FHIR."""
    seen, cancelled, moved = (demo.take("changeable", "bradford") for _ in range(3))
    paged, other = demo.take("changeable", "bradford"), demo.take("changeable", "bradford")
    start = datetime.fromisoformat(moved["start"]) + timedelta(days=7)
    times = (
        {"name": "start", "valueInstant": start.isoformat()},
        {"name": "end", "valueInstant": (start + timedelta(minutes=30)).isoformat()},
    )
    url = {"name": "managementUrl", "valueUrl": "https://swiftbook.example/manage/1"}
    odd = {"name": "start", "valueInstant": start.replace(second=30).isoformat()}
    past, gone = demo.take("past", "bradford"), demo.take("cancelled", "bradford")
    return [
        Step("read, by way of HL7's hospital", "swiftbook", "GET", _path(seen), 200),
        _cancel("cancel by S15, the patient not named", seen, 400, "missing-parameter"),
        _cancel("cancel by S15", cancelled, 200, writes=1, body=parameters(reason(), *_patient(cancelled))),
        _cancel(
            "cancel it again", cancelled, 409, "already-cancelled", body=parameters(reason(), *_patient(cancelled))
        ),
        _change("move by S13", moved, 200, writes=1, body=parameters(*times, *_patient(moved))),
        _change("give it a page, which no read shows", paged, 202, writes=1, body=parameters(url, *_patient(paged))),
        _change(
            "seconds, which HL7 cannot tell",
            other,
            422,
            "not-supported-on-route",
            body=parameters(odd, *_patient(other)),
        ),
        _change("revive what is cancelled", gone, 409, "already-cancelled", body=parameters(url, *_patient(gone))),
        _cancel("over", past, 422, "in-the-past", body=parameters(reason(), *_patient(past))),
    ]


def _in_stu3(demo: _Demo) -> list[Step]:
    """Leeds keeps STU3; partners see R4 all the same."""
    cancelled, changed = demo.take("changeable", "leeds"), demo.take("changeable", "leeds")
    comment = {"name": "comment", "valueString": "Please bring your glasses."}
    return [
        Step("read an STU3 appointment", "swiftbook", "GET", _path(cancelled), 200),
        _cancel("cancel it", cancelled, 200, writes=1),
        _change("change another's comment", changed, 200, writes=1, body=parameters(comment)),
        _cancel("fulfilled", demo.take("fulfilled", "leeds"), 409, "not-changeable"),
    ]


def _edge(demo: _Demo, told: Mapping[str, Any]) -> list[Step]:
    free = demo.take("changeable")
    forged = _forged(told["partners"]["swiftbook"]["access_token"])
    return [
        Step("no token", "", "GET", _path(free), 401, "token-missing"),
        Step("a token changed on the way", forged, "GET", _path(free), 401, "token-invalid"),
        Step("a path that is not in the table", "swiftbook", "GET", "/airedale/fhir/Patient/1", 404, "not-found"),
        Step("a method that is not in the table", "swiftbook", "DELETE", _path(free), 405, "method-not-allowed"),
    ]


def _forged(token: str) -> str:
    head, claims, signature = token.split(".")
    read = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    read["sub"] = "cardiolink"
    changed = base64.urlsafe_b64encode(json.dumps(read).encode()).rstrip(b"=").decode()
    return f"{head}.{changed}.{signature}"


PACE: Final = aiohttp.ClientTimeout(total=20)


async def walk(console: Console, told: Mapping[str, Any]) -> int:
    """Walk through a running sandbox, print a table, verify the audit chain; gives how much was not as it must be."""
    results = []
    async with aiohttp.ClientSession(timeout=PACE) as session:
        for step in steps(told):
            before = await _count_writes(session, told)
            status, body = await _request(session, told, step)
            results.append(Result(step, status, _code(body), await _count_writes(session, told) - before))
    differences = sum(not result.fine for result in results)
    console.print(_table(results))
    permitted = sum(result.step.writes for result in results)
    sound = await asyncio.to_thread(_verify, told)
    console.print(
        f"{len(results)} requests, {permitted} writes permitted, {sum(r.writes for r in results)} seen by PKB."
    )
    console.print("The audit chain verifies." if sound else "[red]The audit chain does not verify.[/red]")
    if differences:
        console.print(f"[red]{differences} answers differ from what they must be.[/red]")
    return differences + (not sound)


async def _request(session: aiohttp.ClientSession, told: Mapping[str, Any], step: Step) -> Answer:
    partner = told["partners"].get(step.partner)
    token = partner["access_token"] if partner else step.partner
    headers = {**step.headers, **({"Authorization": f"Bearer {token}"} if token else {})}
    data = None
    if step.body is not None:
        data = json.dumps(step.body).encode()
        headers["Content-Type"] = "application/fhir+json"
    url = told["gateway_url"] + step.path
    async with session.request(step.method, url, data=data, headers=headers) as response:
        body = await response.read()
        return response.status, json.loads(body) if body else {}


async def _count_writes(session: aiohttp.ClientSession, told: Mapping[str, Any]) -> int:
    async with session.get(f"{told['pkb_control_url']}/writes") as response:
        return len(await response.json())


def _code(body: Mapping[str, Any]) -> str:
    if body.get("resourceType") != "OperationOutcome":
        return ""
    coding = body["issue"][0].get("details", {}).get("coding", [{}])
    return str(coding[0].get("code", ""))


def _verify(told: Mapping[str, Any]) -> bool:
    keys = Path(told["config_file"]).parent / "keys" / "audit.jwks.json"
    report = verify([Path(told["audit_directory"])], keys=read_keys(keys), pause=time.sleep)
    return bool(report.chains) and not report.bad


def _table(results: list[Result]) -> Table:
    table = Table(title="A tour of the sandbox", title_justify="left")
    for column in ("", "partner", "request", "answer", "PKB writes"):
        table.add_column(column)
    for number, result in enumerate(results, 1):
        step = result.step
        answer = f"{result.status} {result.code}".strip()
        if not result.fine:
            answer = f"[red]{answer} (must be {step.status} {step.code}, {step.writes} writes)[/red]"
        partner = step.partner if len(step.partner) < 20 else "(forged)"
        table.add_row(str(number), partner, step.title, answer, str(result.writes))
    return table
