"""A timer that wakes an epoll loop to the microsecond; epoll's own waits are whole milliseconds. Linux only."""

import ctypes
import os
import time
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_NONBLOCK: Final = os.O_NONBLOCK
_ABSOLUTE: Final = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """A timerfd. Its descriptor becomes readable at the moment that was set last, a time of `time.monotonic`."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "no timerfd")

    def set(self, moment: float) -> None:
        """Ring at this moment, at once where it is past, and never at an earlier one that was set."""
        seconds, rest = divmod(max(moment, 1e-9), 1.0)
        timer = _Timer(_Timespec(0, 0), _Timespec(int(seconds), int(rest * 1e9) or 1))
        if self._libc.timerfd_settime(self.fd, _ABSOLUTE, ctypes.byref(timer), None) < 0:
            raise OSError(ctypes.get_errno(), "the timer was not set")

    def heard(self) -> None:
        """Silence it."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


def now() -> float:
    """The clock that alarms are set by."""
    return time.monotonic()
