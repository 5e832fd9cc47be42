"""What has to happen before there is something to see in the console."""

from tests.journeys.partner import Client, Reply, birth_date, parameters, patient, reason


async def write_without_answer(client: Client, number: int = 0) -> tuple[Reply, str]:
    """Cancel over HL7 while PKB says neither yes nor no; gives the answer and the Task, which stays open."""
    appointments = client.place.told["appointments"]
    each = [one for one in appointments if (one["customer"], one["scenario"]) == ("bradford", "changeable")][number]
    who = (patient(each["patient_identifier"].partition("|")[2]), birth_date(each["birth_date"]))
    await client.fault(target="hl7", kind="ack", value="AE", count=1)
    reply = await client.cancel(each["id"], customer="bradford", body=parameters(*who, reason()))
    assert (reply.status, reply.code) == (504, "outcome-unknown")
    return reply, reply.headers["Content-Location"].rpartition("/")[2]
