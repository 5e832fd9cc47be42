"""The supervisor, with workers that only pretend: who is replaced when, who hears which signal, how it ends."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app.ports import VARIABLE, Handover, adopt, bind
from gateway.app.supervisor import pause_after

SUPERVISOR = """
import asyncio, sys
from gateway.app import supervisor
from gateway.cli.log import set_up_log
set_up_log("json")
supervisor.PATIENCE = float(sys.argv[1])
plan = supervisor.Plan(tuple(sys.argv[3:]), int(sys.argv[2]), ("127.0.0.1", 0), ("127.0.0.1", 0))
sys.exit(asyncio.run(supervisor.supervise(plan, watch_input=True)))
"""

SERVE = (
    # A worker that only listens to signals would outlive the supervisor that a test kills.
    "import os, signal, sys, time; signal.alarm(90); "
    "number = os.environ['PKB_GATEWAY_WORKER'][0]; os.write(0, b'serving\\n'); "
)
AT_THE_END_OF_INPUT = "os.read(0, 1)"
TERMINATED = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); signal.pause()"


class Supervised:
    """A supervisor process over workers that run this text of Python."""

    def __init__(self, folder: Path, worker: str, workers: int = 2, patience: float = 30.0) -> None:
        self.log = folder / "log"
        command = [sys.executable, "-c", SUPERVISOR, str(patience), str(workers), sys.executable, "-S", "-c", worker]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=out, env={"TMPDIR": str(folder)}
            )

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [each for each in (json.loads(line) for line in lines if line.startswith("{")) if each["event"] == name]

    def wait(self, name: str, count: int = 1, seconds: float = 20) -> list[dict[str, Any]]:
        """Wait until something was said so often."""
        until = time.monotonic() + seconds
        while len(found := self.events(name)) < count:
            assert time.monotonic() < until, self.log.read_text(encoding="utf-8")
            time.sleep(0.01)
        return found

    def ended(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Supervised]]:
    """What a test puts here ends with it."""
    running: list[Supervised] = []
    yield running
    for each in running:
        each.process.kill()
        each.process.wait()
        assert each.process.stdin is not None
        each.process.stdin.close()


def test_the_first_that_dies_is_replaced_at_once_and_the_pause_grows_to_five_seconds() -> None:
    assert [pause_after(young) for young in range(9)] == [0, 0, 0.5, 1, 2, 4, 5, 5, 5]


def test_a_handover_survives_the_environment() -> None:
    given = Handover(12, (5, 6), (7,))
    assert Handover.read({VARIABLE: str(given)}) == given


def test_a_process_without_a_supervisor_was_given_nothing() -> None:
    assert Handover.read({}) is None


@pytest.mark.parametrize("text", ["", "1", "1 2", "one 2 3", "1 2 3 4", "1 x 3"])
def test_a_handover_that_no_supervisor_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not by a supervisor"):
        Handover.read({VARIABLE: text})


async def test_a_bound_port_is_taken_and_refuses_callers_until_somebody_listens() -> None:
    (bound,) = await bind("127.0.0.1", 0)
    with bound:
        address = bound.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 1)
        bound.listen()
        socket.create_connection(address, 1).close()
        with pytest.raises(OSError, match="address already in use"):
            await bind(*address)


async def test_an_adopted_socket_goes_no_further() -> None:
    (bound,) = await bind("127.0.0.1", 0)
    bound.set_inheritable(True)
    (adopted,) = adopt([bound.detach()])
    with adopted:
        assert not adopted.get_inheritable()
        assert adopted.family is socket.AF_INET


def test_a_worker_that_dies_young_again_and_again_is_given_more_and_more_time(
    started: list[Supervised], tmp_path: Path
) -> None:
    started.append(Supervised(tmp_path, SERVE + "sys.exit(3) if number == '2' else os.read(0, 1)"))
    ended = started[0].wait("worker ended", 3)
    assert [(each["worker"], each["status"], each["pause"]) for each in ended] == [
        (2, 3, 0.0),
        (2, 3, 0.5),
        (2, 3, 1.0),
    ]
    started[0].process.terminate()
    assert started[0].ended() == 0


def test_when_the_first_worker_cannot_start_no_other_is_tried(started: list[Supervised], tmp_path: Path) -> None:
    started.append(Supervised(tmp_path, "import sys; print('no such key', file=sys.stderr); sys.exit(1)", workers=8))
    assert started[0].ended() == 1
    assert started[0].log.read_text(encoding="utf-8") == "no such key\n"


def test_a_command_that_is_not_there_ends_it_too() -> None:
    program = SUPERVISOR.replace("tuple(sys.argv[3:])", "('/nowhere/python',)")
    ran = subprocess.run(
        [sys.executable, "-c", program, "1", "2"],
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ran.returncode == 1
    assert json.loads(ran.stderr)["event"] == "worker not started"


def test_serving_is_said_when_the_last_one_serves(started: list[Supervised], tmp_path: Path) -> None:
    slow = SERVE.replace("os.write", "number == '3' and time.sleep(0.6); os.write") + AT_THE_END_OF_INPUT
    begun = time.monotonic()
    started.append(Supervised(tmp_path, slow, workers=3))
    (said,) = started[0].wait("serving")
    assert time.monotonic() - begun >= 0.6
    assert said["partner_port"] != said["admin_port"]
    assert said["partner_port"] > 0


def test_a_worker_that_is_starting_is_spared_the_hangup_signal(started: list[Supervised], tmp_path: Path) -> None:
    # Until it says that it serves, the signal would end it: nobody has told it what to do about it.
    listens = "signal.signal(signal.SIGHUP, lambda *_: open(f'{folder}/heard{number}', 'w')); os.write"
    late = "number == '2' and (open(f'{folder}/begun', 'w'), time.sleep(1)); " + listens
    worker = SERVE.replace("os.write", f"folder = {str(tmp_path)!r}; {late}") + "[signal.pause() for _ in range(9)]"
    started.append(Supervised(tmp_path, worker))
    until = time.monotonic() + 20
    while not (tmp_path / "begun").exists() and time.monotonic() < until:
        time.sleep(0.01)
    started[0].process.send_signal(signal.SIGHUP)
    started[0].wait("serving")
    assert (tmp_path / "heard1").exists()
    assert not (tmp_path / "heard2").exists()
    assert started[0].events("worker ended") == []
    started[0].process.send_signal(signal.SIGHUP)
    while not (tmp_path / "heard2").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert (tmp_path / "heard2").exists()


def test_a_worker_that_does_not_end_is_killed_and_the_status_says_so(started: list[Supervised], tmp_path: Path) -> None:
    deaf = SERVE.replace("os.write", "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write") + "time.sleep(60)"
    started.append(Supervised(tmp_path, deaf, patience=0.3))
    started[0].wait("serving")
    started[0].process.terminate()
    assert started[0].ended() == 1
    assert [each["workers"] for each in started[0].events("workers killed")] == [[1, 2]]


def test_it_ends_with_its_own_input_and_leaves_no_files(started: list[Supervised], tmp_path: Path) -> None:
    started.append(Supervised(tmp_path, SERVE + TERMINATED))
    started[0].wait("serving")
    assert [path.stat().st_mode & 0o777 for path in tmp_path.glob("pkb-gateway-*")] == [0o700]
    assert started[0].process.stdin is not None
    started[0].process.stdin.close()
    assert started[0].ended() == 0
    assert list(tmp_path.glob("pkb-gateway-*")) == []
