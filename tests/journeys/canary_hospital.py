"""What PKB may say, each word of it a canary: appointments, patients, errors, acknowledgements."""

import asyncio

from tests.journeys import hospital
from tests.journeys.canary_words import Day
from tests.journeys.partner import NHS_NUMBER, comment, in_days, instant, location, reason
from tests.journeys.processes import Json


async def pkbs_words(day: Day) -> None:
    """What PKB says: appointments and patients, good and bad, and its errors."""
    client, cage = day.client, day.cage
    person = await hidden_patient(day, "airedale", await client.fresh())
    first, second, third = [await client.fresh(**await described(day, person)) for _ in range(3)]
    day.keep("a read", await client.read(first), 200)
    await day.ask("$actions", "GET", f"/airedale/fhir/Appointment/{first}/$actions", status=200)
    day.keep("a change", await client.change(first, instant("start", in_days(70)), instant("end", in_days(71))), 200)
    day.keep("a refusal", await client.change(first, instant("end", in_days(40))), 422)
    day.keep("a cancel", await client.cancel(first), 200)
    for what, members in (
        ("status", {"status": cage.text("PKB's status")}),
        ("start", {"start": cage.text("PKB's start")}),
        ("kind", {"resourceType": cage.text("PKB's resourceType")}),
        ("patient", {"participant": [{"actor": {"reference": cage.text("PKB's reference")}, "status": "accepted"}]}),
        ("meta", {"meta": cage.text("PKB's meta")}),
        ("participant", {"participant": cage.text("PKB's participant")}),
        ("specialty", {"specialty": [{"coding": cage.text("PKB's coding")}]}),
    ):
        made = await client.fresh(**members)
        for reply in await asyncio.gather(client.read(made), client.cancel(made)):
            assert reply.status in {404, 502}, (what, reply.status)
            day.keep(f"a bad {what}", reply, reply.status)
    await client.put(third, {"resourceType": "Appointment", "id": cage.text("PKB's other id")})
    day.keep("another document", await client.read(third), 502)
    for on, status, ends in (
        ("read", 400, 502), ("read", 403, 502), ("read", 404, 404), ("read", 500, 503), ("read", 301, 502),
        ("write", 400, 502), ("write", 403, 502), ("write", 404, 404), ("write", 409, 412), ("write", 500, 504),
    ):  # fmt: skip
        made = await client.fresh()
        await client.fault("status", status, on=on, text=cage.text(f"PKB's {status} to a {on}"))
        day.keep(f"PKB's {status} to a {on}", await client.cancel(made), ends)
        await client.clear()
    for on, ends in (("read", 502), ("write", 504)):
        made = await client.fresh()
        await client.fault("garbage", on=on, text=cage.text(f"PKB's garbage to a {on}"))
        day.keep(f"PKB's garbage to a {on}", await client.cancel(made), ends)
        await client.clear()
    await client.fault("drop-before", on="write", count=1)
    lost = await client.change(second, comment(cage.text("comment that was lost")))
    day.keep("a lost change", lost, 504)
    day.keep("its Task", await client.task(lost.task), 200)


async def described(day: Day, person: str) -> Json:
    """Members of an appointment with a canary in each that is free text, about a patient."""
    like = await day.client.copy(day.client.demo("changeable")["id"])
    told = {
        "description": "x",
        "comment": "x",
        "patientInstruction": "x",
        "text": {"status": "generated", "div": "x"},
        "extension": [{"url": "https://pkb.example/note", "valueString": "x"}],
        "identifier": [{"system": "https://airedale.example/pas/appointment-id", "value": "x"}],
        "reasonCode": [{"text": "x", "coding": [{"system": "http://snomed.info/sct", "code": "1", "display": "x"}]}],
    }
    others = [each for each in like["participant"] if "Patient/" not in str(each)]
    others.append({"actor": {"display": "x"}, "status": "accepted"})
    whose = {"actor": {"reference": person, "display": day.cage.text("patient.display")}, "status": "accepted"}
    return {**day.cage.resource("PKB", told), "participant": [whose, *day.cage.resource("participant", others)]}


async def hidden_patient(day: Day, customer: str, appointment: str) -> str:
    """Give the patient of an appointment a canary in every member; and give its reference."""
    copy = await day.client.copy(appointment, customer)
    reference = next(
        each["actor"]["reference"] for each in copy["participant"] if "Patient/" in str(each["actor"].get("reference"))
    )
    told = {
        "resourceType": "Patient",
        "id": reference.partition("/")[2],
        "identifier": [{"system": NHS_NUMBER, "value": day.cage.number("PKB's NHS number")}],
        "birthDate": "1889-11-23",
        "managingOrganization": {"reference": "Organization/airedale"},
        **day.cage.resource(
            "Patient",
            {
                "name": [{"use": "official", "family": "x", "text": "x"}],
                "address": [{"line": "x", "city": "x", "postalCode": "x", "text": "x"}],
                "telecom": [{"system": "phone", "value": "x"}],
                "contact": [{"name": {"family": "x"}}],
            },
        ),
    }
    day.cage.known("PKB's birthDate", "1889-11-23")
    path = f"/patients/{customer}/{told['id']}"
    await day.client._control("PUT", path, json=told)
    return str(reference)


async def messages(day: Day) -> None:
    """What is said over HL7, by the partner and by PKB."""
    client, cage = day.client, day.cage
    hl7 = {"customer": hospital.CUSTOMER}
    booked = await hospital.booked(client)
    url = {"name": "managementUrl", "valueUrl": f"https://{cage.text('managementUrl by HL7')}.example/"}
    given = (comment(cage.text("comment by HL7")), location(cage.text("location by HL7")), url)
    reply = await client.change(booked.id, *given, *booked.who, **hl7)
    assert reply.status in {200, 202}
    day.keep("a message", reply, reply.status)
    for ack, ends in (("AR", 502), ("AE", 504), ("wrong-id", 504), ("AA-held", 202)):
        other = await hospital.booked(client)
        await client.fault("ack", ack, target="hl7", text=cage.text(f"text of {ack}"))
        reply = await client.change(other.id, comment(cage.text(f"comment of {ack}")), *other.who, **hl7)
        await client.clear()
        assert reply.status in {ends, 200}, (ack, reply.status)
        day.keep(f"a message answered {ack}", reply, reply.status)
        if "Content-Location" in reply.headers:
            day.keep("its Task", await client.task(reply.task, **hl7), 200)
    broken: tuple[tuple[str, int | str], ...] = (
        ("status", 500), ("status", 200), ("status", 401), ("garbage", "not-applied"),
    )  # fmt: skip
    for kind, value in broken:
        other = await hospital.booked(client)
        await client.fault(kind, value, target="hl7", text=cage.text(f"{kind} {value} by SOAP"))
        reply = await client.cancel(other.id, reason(), *other.who, **hl7)
        await client.clear()
        assert reply.status >= 500, (kind, value, reply.status)
        day.keep(f"a message with {kind} {value}", reply, reply.status)
    await client.fault("status", 500, target="aggregated", text=cage.text("PKB's 500 to a read of Aggregated"))
    day.keep("a read", await client.read(booked.id, **hl7), 503)
    await client.clear()
    for each in client.place.told["appointments"]:
        cage.known(f"number of {each['id']}", each["patient_identifier"].split("|")[1])


async def token_server(day: Day) -> None:
    """What PKB's token server says, to a gateway that has no token yet."""
    client = day.client
    for kind, value in (("status", 400), ("status", 500), ("garbage", "not-applied")):
        await client.fault(kind, value, target="token", text=day.cage.text(f"token server's {kind} {value}"))
        reply = await client.read(client.demo("changeable")["id"])
        day.keep(f"a token server's {kind} {value}", reply, reply.status)
        assert reply.status in {502, 503}
        await client.clear()
