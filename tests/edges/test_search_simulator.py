"""What the simulated PKB searches by, beyond what its own tests have: owner, specialty, order."""

import pytest

from gateway.simulator.search import BadSearch, search
from gateway.simulator.store import Store
from tests.makers import NOW

SNOMED = "http://snomed.info/sct"


def box() -> Store:
    held = Store()
    for name in ("a", "b"):
        patient = {"resourceType": "Patient", "managingOrganization": {"reference": f"Organization/{name}"}}
        held.put("Patient", f"p-{name}", {**patient, "id": f"p-{name}"}, NOW)
    held.put("Patient", "p-none", {"resourceType": "Patient", "id": "p-none"}, NOW)
    for id_, patient_id, code in (("3", "a", "1"), ("1", "b", "2"), ("2", "none", "1")):
        people = [{"actor": {"reference": f"Patient/p-{patient_id}"}}]
        specialty = [{"coding": [{"system": SNOMED, "code": code}]}]
        told = {"resourceType": "Appointment", "id": id_, "participant": people, "specialty": specialty}
        held.put("Appointment", id_, told, NOW)
    return held


def found(*wanted: tuple[str, str]) -> list[str]:
    bundle = search(box(), "Appointment", list(wanted), "http://pkb.example/fhir/Appointment").decode()
    return [each for each in "123" if f'"id":"{each}"' in bundle] if "_sort" not in dict(wanted) else order(bundle)


def order(bundle: str) -> list[str]:
    return sorted("123", key=lambda id_: bundle.index(f'"id":"{id_}"'))


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        pytest.param(("actor:Patient.organization", "Organization/a"), ["3"], id="one owner"),
        pytest.param(("actor:Patient.organization", "Organization/a,Organization/b"), ["1", "3"], id="several owners"),
        pytest.param(("actor:Patient.organization", "Organization/c"), [], id="another owner"),
        pytest.param(("specialty", f"{SNOMED}|1"), ["2", "3"], id="a specialty"),
        pytest.param(("specialty", f"{SNOMED}|1,{SNOMED}|2"), ["1", "2", "3"], id="several specialties"),
        pytest.param(("specialty", "urn:x|1"), [], id="a specialty of another system"),
        pytest.param(("_sort", "_id"), ["1", "2", "3"], id="in the order of ids"),
    ],
)
def test_the_box_filters_by_what_it_is_asked(wanted: tuple[str, str], ids: list[str]) -> None:
    assert found(wanted) == ids


def test_no_other_order_is_known() -> None:
    with pytest.raises(BadSearch, match="_sort"):
        found(("_sort", "date"))
