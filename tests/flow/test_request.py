"""A request as the story sees it."""

from dataclasses import replace

import pytest

from gateway.domain.grant import Customer, Operation
from gateway.domain.outcome import TaskStatus
from gateway.flow.request import same_route
from gateway.flow.tasks import Task
from tests.makers import CUSTOMERS, HL7, NOW, customer, policy


@pytest.mark.parametrize(
    ("known", "same"),
    [
        pytest.param(CUSTOMERS, True, id="as before"),
        pytest.param((replace(customer(), name="Renamed"),), True, id="renamed"),
        pytest.param((customer(route=HL7),), False, id="on another route"),
        pytest.param(
            (customer(route=replace(customer().route, ownership=HL7.ownership)),), False, id="owned otherwise"
        ),
        pytest.param((customer("wharfedale"),), False, id="gone"),
    ],
)
def test_facts_of_one_route_prove_nothing_on_another(known: tuple[Customer, ...], *, same: bool) -> None:
    assert same_route(customer(), policy(customers=known)) is same


@pytest.mark.parametrize("status", list(TaskStatus), ids=str)
def test_a_task_is_open_until_its_end_is_known(status: TaskStatus) -> None:
    task = Task("t-1", "swiftbook", "airedale", "a-1", Operation.CANCEL, status, NOW, NOW)

    assert task.open is (status in {TaskStatus.REQUESTED, TaskStatus.IN_PROGRESS, TaskStatus.ACCEPTED})
