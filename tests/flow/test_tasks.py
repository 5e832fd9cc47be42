"""What a Task says of itself."""

from datetime import UTC, datetime

import pytest

from gateway.domain.grant import Operation
from gateway.domain.outcome import TaskStatus
from gateway.flow.tasks import Task

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


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
    task = Task("0197-1", "drdoctor", "airedale", "a-1", Operation.CANCEL, status, requested=NOW, updated=NOW)
    assert task.open is is_open


def test_the_table_has_every_status() -> None:
    assert len(TaskStatus) == 6
