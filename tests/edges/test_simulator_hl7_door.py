"""The HL7 connection: envelopes, credentials, aliases, what is checked first, and every fault, over real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree as ET

import aiohttp
import pytest

from gateway.simulator import DemoAppointment
from tests.edges.simulator_hl7 import ENVELOPE, Hospital, header, open_hospital, person, placer_of


@pytest.fixture
async def hospital() -> AsyncIterator[Hospital]:
    async with open_hospital() as hospital:
        yield hospital


def cancel(booked: DemoAppointment, **changed: str) -> tuple[str, str, str]:
    return header("S15", **changed), person(booked), f"SCH|{placer_of(booked)}"


async def status(hospital: Hospital, booked: DemoAppointment) -> str:
    return str((await hospital.pkb_copy(booked))["status"])


# Envelope


@pytest.mark.parametrize(
    ("end", "wrapped"),
    [
        pytest.param("\n", "<![CDATA[{}]]>", id="LF in CDATA"),
        pytest.param("\r\n", "<![CDATA[{}]]>", id="CR LF in CDATA"),
        pytest.param("\r", "{}", id="CR, which XML turns into LF"),
        pytest.param("&#13;", "{}", id="CR by reference"),
        pytest.param("&#xD;&#10;", "{}", id="CR LF by reference"),
    ],
)
async def test_segments_end_by_whatever_xml_leaves_of_a_line_end(hospital: Hospital, end: str, wrapped: str) -> None:
    booked = hospital.first()
    parts = cancel(booked) if "CDATA" in wrapped else [part.replace("&", "&amp;") for part in cancel(booked)]
    body = ENVELOPE.format(wrapped.format(end.join(parts))).encode()
    ack = await hospital.post(b"\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?>" + body)
    assert (ack.code, await status(hospital, booked)) == ("AA", "cancelled")


async def test_the_answer_is_soap_with_an_acknowledgement_whose_segments_end_by_cr(hospital: Hospital) -> None:
    ack = await hospital.send(*cancel(hospital.first()))
    root = ET.fromstring(ack.body)
    (call,) = root.findall("{http://schemas.xmlsoap.org/soap/envelope/}Body/*")
    assert call.tag == "{http://wsssl.hl7api.patientsknowbest.com/}acceptMessageResponse"
    text = call.findtext("return")
    assert text is not None
    now = "20260302101520+0000"
    head = f"MSH|^~\\&|HL7API|PKB|GW|bradford{{bradford}}|{now}||ACK^R01|PKB-{now}|P|2.4"
    assert text == f"{head}\rMSA|AA|c-0001\r"
    assert ack.body.count("&#13;") == 2


BOMB = '<!DOCTYPE x [<!ENTITY a "b">]>' + ENVELOPE.format("&a;")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(b"", "not XML", id="empty"),
        pytest.param(b"\xff\xfe<", "UTF-8", id="not UTF-8"),
        pytest.param(b"MSH|^~\\&|", "not XML", id="bare HL7"),
        pytest.param(b"<a/>", "SOAP 1.1", id="other XML"),
        pytest.param(ENVELOPE.format("x").replace("acceptMessage", "other").encode(), "acceptMessage", id="other call"),
        pytest.param(ENVELOPE.format("x</arg0><arg0>y").encode(), "one arg0", id="two arguments"),
        pytest.param(ENVELOPE.format("<b/>").encode(), "one arg0", id="an element as argument"),
        pytest.param(BOMB.encode(), "document types", id="entities"),
        pytest.param(ENVELOPE.format("").encode(), "header", id="no message"),
        pytest.param(ENVELOPE.format("PID|1").encode(), "header", id="no header"),
        pytest.param(ENVELOPE.format("MSH|#~\\&amp;|").encode(), "delimiters", id="other delimiters"),
        pytest.param(ENVELOPE.format("MSH|^~\\&amp;|GW\nno segment").encode(), "no segment", id="a torn line"),
    ],
)
async def test_junk_gets_a_soap_fault(hospital: Hospital, body: bytes, why: str) -> None:
    ack = await hospital.post(body)
    assert (ack.status, ack.code) == (500, "")
    fault = ET.fromstring(ack.body).find("{*}Body/{*}Fault")
    assert fault is not None
    assert fault.findtext("faultcode") == "soap:Client"
    assert why in str(fault.findtext("faultstring"))
    assert [(write.applied, write.answer, write.ack) for write in hospital.pkb.writes] == [(False, 500, None)]


async def test_the_content_type_is_that_of_soap_1_1(hospital: Hospital) -> None:
    body = ENVELOPE.format("x").encode()
    assert "text/xml" in (await hospital.post(body, kind="application/soap+xml")).body


# Who may send, and as whom


@pytest.mark.parametrize(
    "authorization", [None, "Bearer abc", "Basic ?", "Basic eDp5", "Basic cGFydG5lcl9zd2lmdGJvb2s6d3Jvbmc="]
)
async def test_without_good_credentials_nothing_is_taken(hospital: Hospital, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    body = ENVELOPE.format("\n".join(cancel(hospital.first())).replace("&", "&amp;")).encode()
    assert (await hospital.post(body, None, **headers)).status == 401
    assert await status(hospital, hospital.first()) == "booked"
    assert [(write.applied, write.answer) for write in hospital.pkb.writes] == [(False, 401)]


@pytest.mark.parametrize(
    "alias", ["bradford", "bradford{leeds}", "leeds{leeds}", "{bradford}", "", "bradford{bradford"]
)
async def test_an_alias_must_be_sent_twice_and_be_the_partners(hospital: Hospital, alias: str) -> None:
    ack = await hospital.send(*cancel(hospital.first(), alias=alias))
    assert (ack.code, await status(hospital, hospital.first())) == ("AR", "booked")
    assert "MSH-4" in ack.text


async def test_a_partner_without_aliases_may_act_for_nobody(hospital: Hospital) -> None:
    ack = await hospital.send(*cancel(hospital.first()), partner="cardiolink")
    assert (ack.code, await status(hospital, hospital.first())) == ("AR", "booked")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        pytest.param({"mode": "T"}, "MSH-11", id="not production"),
        pytest.param({"mode": ""}, "MSH-11", id="no mode"),
        pytest.param({"at": ""}, "MSH-7", id="no time"),
        pytest.param({"id": ""}, "MSH-10", id="no control id"),
    ],
)
async def test_a_header_that_fails_a_check_is_rejected(hospital: Hospital, changed: dict[str, str], why: str) -> None:
    ack = await hospital.send(*cancel(hospital.first(), **changed))
    assert (ack.code, ack.about, await status(hospital, hospital.first())) == (
        "AR",
        changed.get("id", "c-0001"),
        "booked",
    )
    assert why in ack.text


@pytest.mark.parametrize("trigger", ["S17", "S16", "S99", ""])
async def test_other_triggers_are_not_supported(hospital: Hospital, trigger: str) -> None:
    ack = await hospital.siu(trigger, hospital.first())
    assert (ack.code, "MSH-9" in ack.text) == ("AR", True)


@pytest.mark.parametrize("segment", ["PID|||1", "SCH|x", f"{header('S15')}"], ids=["PID", "SCH", "MSH"])
async def test_a_segment_that_must_be_single_is_not_repeated(hospital: Hospital, segment: str) -> None:
    ack = await hospital.send(*cancel(hospital.first()), segment)
    assert (ack.code, "repeated" in ack.text) == ("AR", True)


async def test_the_placer_id_is_required(hospital: Hospital) -> None:
    ack = await hospital.siu("S15", hospital.first(), placer="")
    assert ack.text.startswith("Parsing or validation error: SCH-1.1 (placer ID) must be provided.")


@pytest.mark.parametrize("trigger", ["S12", "S13", "S15"])
async def test_a_patient_that_the_hospital_does_not_know_is_rejected_and_nothing_made(
    hospital: Hospital, trigger: str
) -> None:
    ack = await hospital.siu(trigger, hospital.first(), placer="PHANTOM-1", number="9990000000")
    assert (ack.code, await hospital.by_placer("PHANTOM-1")) == ("AR", [])
    assert await hospital.control("GET", "/hl7-review") == (200, [])


async def test_identifiers_of_other_kinds_say_nothing_about_the_patient(hospital: Hospital) -> None:
    booked = hospital.first()
    number = booked.patient_identifier.rpartition("|")[2]
    head, _, rest = cancel(booked)
    born = booked.birth_date.replace("-", "")
    for kind in ("TRUST^NH", "NHS^PN", "NHS", "^"):
        assert (await hospital.send(head, f"PID|||{number}^^^{kind}||T^A||{born}", rest)).code == "AR"
    assert (await hospital.send(head, f"PID||{number}^^^NHS^NH|||T^A||{born}", rest)).code == "AA"


async def test_the_patient_is_not_compared_with_the_appointments(hospital: Hospital) -> None:
    booked, other = hospital.all("changeable")[:2]
    assert (await hospital.siu("S15", other, placer=placer_of(booked))).code == "AA"
    assert await status(hospital, booked) == "cancelled"


# Faults and writes


@pytest.mark.parametrize(
    ("kind", "value", "answer", "after", "code"),
    [
        pytest.param("status", 503, 503, "booked", "", id="status"),
        pytest.param("garbage", None, 200, "booked", "", id="garbage"),
        pytest.param("garbage", "applied", 200, "cancelled", "", id="garbage, applied"),
        pytest.param("ack", "AR", 200, "booked", "AR", id="AR"),
        pytest.param("ack", "AE", 200, "booked", "AE", id="AE"),
        pytest.param("ack", "AA-held", 200, "booked", "AA", id="AA, held"),
        pytest.param("ack", "wrong-id", 200, "cancelled", "AA", id="wrong id"),
        pytest.param("delay", 30, 200, "cancelled", "AA", id="delay"),
    ],
)
async def test_a_fault_is_played_once(
    hospital: Hospital, kind: str, value: Any, answer: int, after: str, code: str
) -> None:
    booked = hospital.first()
    await hospital.order(target="hl7", kind=kind, value=value, customer="bradford")
    started = time.monotonic()
    ack = await hospital.send(*cancel(booked))
    assert (ack.status, ack.code, await status(hospital, booked)) == (answer, code, after)
    assert kind != "delay" or time.monotonic() - started >= 0.03
    if code:
        assert ack.about == ("not-c-0001" if value == "wrong-id" else "c-0001")
    (write,) = hospital.pkb.writes
    assert (write.applied, write.answer) == (after == "cancelled", answer)
    assert (await hospital.control("GET", "/faults"))[1] == []
    assert (await hospital.send(*cancel(booked))).about == "c-0001"


@pytest.mark.parametrize(("kind", "value"), [("ack", "AR"), ("ack", "AE"), ("ack", "wrong-id"), ("status", 500)])
async def test_an_ordered_answer_says_what_it_was_told_to_say(hospital: Hospital, kind: str, value: Any) -> None:
    await hospital.order(target="hl7", kind=kind, value=value, text="Mrs Jones was here")
    assert "Mrs Jones was here" in (await hospital.send(*cancel(hospital.first()))).body


@pytest.mark.parametrize(("kind", "after"), [("drop-before", "booked"), ("drop-after", "cancelled")])
async def test_a_drop_sends_no_byte(hospital: Hospital, kind: str, after: str) -> None:
    await hospital.order(target="hl7", kind=kind)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await hospital.send(*cancel(hospital.first()))
    assert await status(hospital, hospital.first()) == after
    assert [(write.applied, write.answer) for write in hospital.pkb.writes] == [(after == "cancelled", None)]


async def test_faults_of_other_customers_and_of_reads_leave_messages_alone(hospital: Hospital) -> None:
    await hospital.order(target="hl7", kind="ack", value="AE", customer="leeds")
    await hospital.order(target="hl7", kind="ack", value="AE", on="read")
    await hospital.order(target="aggregated", kind="status", value=500)
    assert (await hospital.send(*cancel(hospital.first()))).code == "AA"
    assert len((await hospital.control("GET", "/faults"))[1]) == 3


async def test_a_delayed_message_is_applied_though_its_sender_hung_up(hospital: Hospital) -> None:
    await hospital.order(target="hl7", kind="delay", value=60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await hospital.send(*cancel(hospital.first()))
    await asyncio.sleep(0.1)
    assert await status(hospital, hospital.first()) == "cancelled"


async def test_messages_are_listed_as_sent_and_as_read(hospital: Hospital) -> None:
    await hospital.send(*cancel(hospital.first()))
    await hospital.send(*cancel(hospital.first(), alias="nobody{nobody}"))
    await hospital.post(b"junk")
    _, writes = await hospital.control("GET", "/writes")
    assert [(w["n"], w["target"], w["customer"], w["applied"], w["answer"], w["ack"]) for w in writes] == [
        (1, "hl7", "bradford", True, 200, "AA"),
        (2, "hl7", "", False, 200, "AR"),
        (3, "hl7", "", False, 500, None),
    ]
    first = writes[0]
    assert (first["method"], first["path"]) == ("POST", "/services/hl7")
    assert first["headers"]["authorization"].startswith("Basic ")
    assert first["body"].startswith("<soapenv:Envelope")
    assert "&#13;" in first["body"]
    assert first["message"] == "".join(f"{segment}\r" for segment in cancel(hospital.first()))
    assert writes[2]["message"] is None


async def test_a_reset_brings_back_the_hospital(hospital: Hospital) -> None:
    before = await hospital.pkb_copy(hospital.first())
    await hospital.send(*cancel(hospital.first()))
    await hospital.control("POST", "/reset")
    assert await hospital.pkb_copy(hospital.first()) == before
    assert hospital.pkb.writes == []
