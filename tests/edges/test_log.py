"""The log must never be the reason why something else does not happen."""

import errno
import io

import pytest

from gateway.cli.log import Lenient


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical", "exception", "msg"])
def test_a_log_on_a_full_disk_loses_lines_and_nothing_else(level: str) -> None:
    with pytest.raises(OSError, match="No space left"):
        Full().write("x")
    getattr(Lenient(Full()), level)("x")


def test_a_log_with_room_has_the_line() -> None:
    file = io.StringIO()
    Lenient(file).info("a line")
    assert file.getvalue() == "a line\n"
