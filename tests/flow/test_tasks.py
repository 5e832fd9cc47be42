"""What a Task says of itself."""

from dataclasses import replace

import pytest

from gateway.domain.grant import Operation
from gateway.domain.outcome import TaskStatus
from gateway.flow.tasks import Task, outline
from tests.makers import NOW


def a_task(status: TaskStatus) -> Task:
    return Task("0197-1", "drdoctor", "airedale", "a-1", Operation.CANCEL, status, requested=NOW, updated=NOW)


@pytest.mark.parametrize(
    ("status", "is_open"),
    [
        (TaskStatus.REQUESTED, True),
        (TaskStatus.IN_PROGRESS, True),
        (TaskStatus.ACCEPTED, True),
        (TaskStatus.COMPLETED, False),
        (TaskStatus.REJECTED, False),
        (TaskStatus.FAILED, False),
    ],
)
def test_it_is_open_until_it_has_an_end(status: TaskStatus, is_open: bool) -> None:
    assert a_task(status).open is is_open


def test_the_table_has_every_status() -> None:
    assert len(TaskStatus) == 6


def test_people_are_told_which_write_it_is_and_nothing_of_what_it_carried() -> None:
    task = replace(a_task(TaskStatus.FAILED), outcome="unknown", trace={"record": "not for people"})
    assert outline(task) == {
        "id": "0197-1",
        "partner": "drdoctor",
        "customer": "airedale",
        "appointment": "a-1",
        "operation": "cancel",
        "status": "failed",
        "outcome": "unknown",
    }
