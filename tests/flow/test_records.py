"""What the audit stream is told, and what it is never told."""

import asyncio
import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from gateway.domain.appointment import CANCEL_REASON_SYSTEM, Appointment, Cancel, Change, Patient, PatientClaim, Read
from gateway.domain.codes import Code
from gateway.domain.grant import Coding, Operation
from gateway.domain.outcome import Accepted, Applied, Outcome, Rejected, Unknown
from gateway.domain.pseudonym import Pseudonyms
from gateway.flow import records
from gateway.flow.ports import Turned
from tests.flow.fakes import SILENCE, Bench, caller, spin
from tests.makers import BORN, DAY, NHS_NUMBER, NOW, appointment, cancel, customer, instant, move, policy

VEIL = Pseudonyms("k1", b"sixteen bytes of key")
CANARIES = ("canary", NHS_NUMBER, "9990000026", BORN.isoformat(), "Patient/p-1")
CLAIM = PatientClaim(NHS_NUMBER, BORN)
TALKATIVE = appointment(comment="canary of the hospital", locations=("canary ward",))
SAYING_MUCH: list[Any] = [
    pytest.param(cancel(reason_text="canary why", comment="canary what", claim=CLAIM), id="a cancel"),
    pytest.param(Cancel((Coding(CANCEL_REASON_SYSTEM, "canary"),)), id="a reason that is text"),
    pytest.param(Cancel((Coding("urn:canary", "canary"),), "canary"), id="a reason of another system"),
    pytest.param(Cancel((Coding(CANCEL_REASON_SYSTEM, NHS_NUMBER),)), id="a reason that is an NHS number"),
    pytest.param(Change(comment="canary", location="canary", claim=CLAIM), id="a change of texts"),
    pytest.param(Change(management_url="https://canary.example/"), id="a change of the page"),
    pytest.param(move(NOW + 40 * DAY, claim=PatientClaim("9990000026", BORN)), id="the wrong patient"),
]


@pytest.mark.parametrize("command", SAYING_MUCH)
@pytest.mark.parametrize("end", ["written", "doubt", "turned", "down", "busy", "owed"])
async def test_no_record_and_no_task_holds_free_text_or_who_the_patient_is(
    bench: Bench, command: Cancel | Change, end: str
) -> None:
    bench.hospital.copies["a-1"] = TALKATIVE
    match end:
        case "doubt":
            bench.doubt(applies=False)
        case "turned":
            bench.hospital.answer, bench.hospital.applies = Turned(Code.UPSTREAM_REFUSED, 422), False
        case "down":
            bench.hospital.down = SILENCE
        case "owed":
            bench.paper.full_for = frozenset({"outcome"})
        case "busy":
            bench.writes.places.patience = 0.0
            bench.hospital.hold = asyncio.Event()
            first = asyncio.create_task(bench.run())
            await spin()
            await bench.run(command=command, task="t-2")
            bench.hospital.hold.set()
            await first
    await bench.run(command=command, task="t-3")
    bench.paper.full_for = frozenset()
    await bench.later(seconds=30)
    await bench.looks.show(caller(), customer(), "a-1")

    assert len(bench.paper.written) >= 1
    told = json.dumps([*bench.paper.written, *(asdict(task) for task in bench.shelf.kept)], default=str)
    assert [canary for canary in CANARIES if canary in told] == []


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        pytest.param(cancel(), "pat", id="a code FHIR knows"),
        pytest.param(Cancel((Coding(CANCEL_REASON_SYSTEM, "made-up"),)), None, id="one it does not know"),
        pytest.param(Cancel((Coding("urn:local", "pat"),)), None, id="of another system"),
        pytest.param(Cancel(()), None, id="none"),
        pytest.param(move(NOW + 40 * DAY), None, id="a change"),
        pytest.param(Read(), None, id="a read"),
    ],
)
def test_a_reason_is_recorded_only_as_a_code_that_fhir_knows(command: Any, reason: str | None) -> None:
    assert records.reason(command) == reason


async def test_a_refused_write_keeps_the_reason_it_gave(bench: Bench) -> None:
    bench.hospital.copies["a-1"] = appointment(start=NOW + DAY)

    await bench.run()

    assert (bench.paper.written[0]["code"], bench.paper.written[0]["reason"]) == ("too-late", "pat")


async def _change(bench: Bench, command: Any, before: Appointment) -> Any:
    bench.hospital.copies["a-1"] = before
    await bench.run(command=command)
    return bench.paper.of("intent")[0]["change"]


async def test_a_cancel_is_told_by_the_status_before_and_after(bench: Bench) -> None:
    assert await _change(bench, cancel(), TALKATIVE) == {"status": {"before": "booked", "after": "cancelled"}}


async def test_texts_are_told_by_their_length_and_a_keyed_hash(bench: Bench) -> None:
    change = await _change(bench, cancel(comment="canary"), TALKATIVE)

    assert change["comment"] == {"before": VEIL.text("canary of the hospital"), "after": VEIL.text("canary")}


async def test_a_change_is_told_field_by_field(bench: Bench) -> None:
    start, end = NOW + 40 * DAY, NOW + 41 * DAY
    command = Change(instant(start), instant(end), "Ring the bell", "Side door")

    assert await _change(bench, command, appointment()) == {
        "start": {"before": "2026-07-01T09:00:00+00:00", "after": start.isoformat()},
        "end": {"before": "2026-07-01T09:30:00+00:00", "after": end.isoformat()},
        "comment": {"before": None, "after": VEIL.text("Ring the bell")},
        "location": {"before": None, "after": VEIL.text("Side door")},
    }


async def test_a_field_left_alone_is_not_told(bench: Bench) -> None:
    change = await _change(bench, Change(location="Side door"), replace(TALKATIVE, end=None))

    assert change == {"location": {"before": VEIL.text("canary ward"), "after": VEIL.text("Side door")}}


def test_a_management_page_has_no_before() -> None:
    change = records._changes(Change(end=instant(NOW), management_url="https://x.example"), appointment(end=None), VEIL)

    assert change == {
        "end": {"before": None, "after": NOW.isoformat()},
        "managementUrl": {"before": None, "after": VEIL.text("https://x.example")},
    }


@pytest.mark.parametrize(
    ("seen", "named"),
    [
        pytest.param(appointment(), VEIL.patient(NHS_NUMBER, "", ""), id="by NHS number"),
        pytest.param(
            appointment(patient=Patient("Patient/p-2")),
            VEIL.patient(None, "airedale-box", "Patient/p-2"),
            id="by the reference on its route",
        ),
        pytest.param(appointment(patient=None), None, id="no patient"),
        pytest.param(None, None, id="no appointment"),
    ],
)
def test_a_patient_is_named_under_the_veil(seen: Appointment | None, named: str | None) -> None:
    assert records.patient_of(seen, customer(), VEIL) == named


@pytest.mark.parametrize(
    ("outcome", "word", "code", "final"),
    [
        pytest.param(Applied("8"), "applied", None, True, id="applied"),
        pytest.param(Accepted(), "accepted", None, False, id="accepted"),
        pytest.param(Accepted(final=True), "accepted", None, True, id="accepted for good"),
        pytest.param(Rejected(Code.VERSION_CONFLICT), "rejected", "version-conflict", True, id="rejected"),
        pytest.param(Unknown(), "unknown", "outcome-unknown", False, id="unknown"),
    ],
)
@pytest.mark.parametrize("closed", [False, True], ids=["looked after", "closed"])
def test_final_is_a_boolean_that_says_whether_more_will_come(
    outcome: Outcome, word: str, code: str | None, *, final: bool, closed: bool
) -> None:
    told = records.ended(outcome, 7, "t-1", records.Upstream("box"), recovered=False, closed=closed)

    assert (told["event"], told["outcome"], told["code"], told["intent"]) == ("outcome", word, code, 7)
    assert told["final"] is (final or closed)
    assert told["recovered"] is False


def test_a_moment_is_told_in_utc_to_the_microsecond() -> None:
    at = datetime(2026, 6, 1, 10, 0, 0, 5, tzinfo=timezone(timedelta(hours=1)))

    assert records.moment(at) == "2026-06-01T09:00:00.000005Z"
    assert records.moment(datetime(2026, 6, 1, 9, tzinfo=UTC)) == "2026-06-01T09:00:00.000000Z"


@pytest.mark.parametrize(("operation", "told"), [(Operation.CANCEL, "cancel"), (None, None)], ids=["one", "none"])
async def test_every_record_of_a_request_says_who_asked_for_what(operation: Operation | None, told: str | None) -> None:
    assert records.about(caller(correlation_id=None), policy(digest="d3"), operation, None) == {
        "request_id": "r-1",
        "correlation_id": None,
        "partner": "swiftbook",
        "customer": "airedale",
        "grants_digest": "d3",
        "operation": told,
        "appointment": None,
        "token": {"iss": "https://gateway.example", "jti": "j-1", "kid": "key-1"},
        "client": "192.0.2.7",
    }


async def test_the_facts_are_told_as_the_decision_saw_them(bench: Bench) -> None:
    bench.hospital.copies["a-1"] = appointment(
        start=None, specialties=frozenset({Coding("http://snomed.info/sct", "1")})
    )
    await bench.run(command=move(NOW + 40 * DAY))

    assert bench.paper.written[0]["facts"] == {
        "owner": ["airedale"],
        "status": "booked",
        "start": None,
        "labels": ["GENERAL_HEALTH"],
        "specialties": ["http://snomed.info/sct|1"],
        "fields": ["end", "start"],
        "new_start": (NOW + 40 * DAY).isoformat(),
        "patient": "absent",
    }


async def test_every_record_says_how_long_the_request_took_so_far_in_milliseconds(bench: Bench) -> None:
    began = asyncio.get_running_loop().time() - 2.5
    await bench.run(received=began)
    bench.hospital.copies["a-1"] = appointment(start=NOW + DAY)
    await bench.run(received=began)
    await bench.looks.show(caller(received=began), customer(), "a-1")

    timed = [record for record in bench.paper.written if record["event"] != "intent"]
    assert [record["event"] for record in timed] == ["outcome", "refused", "read"]
    assert all(2500 <= record["duration_ms"] < 4000 for record in timed)
