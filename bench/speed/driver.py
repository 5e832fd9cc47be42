"""The load driver, a process of its own: python -m bench.speed.driver; a plan a line in, what came of it a line out.

A closed loop keeps so many connections busy until so many requests are answered. An open loop sends at moments drawn
beforehand, whether or not earlier requests were answered, and counts latency from the moment at which a request was
due: what waits because the server was slow counts as slow (no coordinated omission).
"""

import gc
import json
import random
import re
import select
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.speed.alarm import Alarm, now
from bench.speed.plan import PLACE, Plan, Result

HOST = "127.0.0.1"
PATIENCE = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_WITHOUT_BODY = {"204", "304"}


class Stuck(Exception):
    """Nothing came for so long that nothing will."""


@dataclass(slots=True)
class _Connection:
    wire: socket.socket
    due: float = 0.0
    late: float = 0.0
    number: int = 0
    step: int = 0
    came: bytes = b""
    busy: bool = False


class Driver:
    """Runs one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._steps = [_one_of(plan.steps)] if plan.each else [_filled(each) for each in plan.steps]
        self._poll = select.epoll()
        self._alarm = Alarm()
        self._poll.register(self._alarm.fd, select.EPOLLIN)
        self._all: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self._sent = 0
        self._late: list[float] = []
        self._took: list[float] = []
        self._answers: Counter[str] = Counter()

    def run(self) -> Result:
        """Send all and wait for every answer."""
        begun = now()
        due = deque(self._moments(begun))
        if not due:
            for _ in range(min(self._plan.connections, self._plan.count)):
                self._ask(self._connect(), now())
        else:
            # Connections are made before they are needed: a handshake is not the server's work on a request.
            self._idle.extend(self._connect() for _ in range(self._plan.connections))
            self._alarm.set(due[0])
        while len(self._took) < self._plan.count:
            happened = self._poll.poll(PATIENCE)
            if not happened:
                raise Stuck(f"{self._plan.name}: {len(self._took)} of {self._plan.count} answered, then nothing came")
            for fd, _ in happened:
                if fd == self._alarm.fd:
                    self._alarm.heard()
                    self._send_due(due)
                elif (connection := self._all.get(fd)) is not None:
                    self._receive(connection)
        seconds = now() - begun
        for connection in self._all.values():
            connection.wire.close()
        self._alarm.close()
        self._poll.close()
        return Result(seconds, dict(self._answers), self._took, self._late)

    def _moments(self, begun: float) -> Iterator[float]:
        if not self._plan.rate:
            return
        drawn = random.Random(self._plan.seed)
        due = begun + 0.05
        for _ in range(self._plan.count):
            due += drawn.expovariate(self._plan.rate)
            yield due

    def _send_due(self, due: deque[float]) -> None:
        moment = now()
        while due and due[0] <= moment:
            # The one that has waited longest: servers close what is idle for long.
            connection = self._idle.popleft() if self._idle else self._connect()
            connection.late = moment - due[0]
            self._ask(connection, due.popleft())
        if due:
            self._alarm.set(due[0])

    def _connect(self) -> _Connection:
        port = self._plan.beside if self._plan.beside and len(self._all) % 2 else self._plan.port
        wire = socket.create_connection((HOST, port), PATIENCE)
        wire.setblocking(False)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll.register(wire, select.EPOLLIN)
        connection = _Connection(wire)
        self._all[wire.fileno()] = connection
        return connection

    def _ask(self, connection: _Connection, due: float) -> None:
        connection.due, connection.number, connection.step, connection.busy = due, self._sent, 0, True
        self._sent += 1
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        request = self._steps[connection.step](connection.number)
        if connection.wire.send(request) != len(request):
            raise Stuck("a request did not fit into the socket's buffer")

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.wire.recv(262_144)
        except ConnectionResetError:
            data = b""
        if not data and not connection.busy:
            self._idle.remove(connection)
            self._forget(connection)
            return
        came = connection.came + data if connection.came else data
        end = came.find(b"\r\n\r\n")
        status = came[9:12].decode("ascii")
        if not data:
            self._reconnected(connection, "closed")
            return
        if end < 0:
            connection.came = came
            return
        head = came[: end + 2]
        found = _LENGTH.search(head)
        if found is None and status not in _WITHOUT_BODY:
            raise Stuck(f"{self._plan.name}: an answer {status} without Content-Length")
        if len(came) < end + 4 + (int(found[1]) if found else 0):
            connection.came = came
            return
        connection.came = b""
        if connection.step + 1 < len(self._steps):
            connection.step += 1
            self._send(connection)
        elif _CLOSES.search(head):
            self._reconnected(connection, status)
        else:
            self._answered(connection, status)

    def _reconnected(self, connection: _Connection, status: str) -> None:
        self._forget(connection)
        fresh = self._connect()
        fresh.due, fresh.late = connection.due, connection.late
        self._answered(fresh, status)

    def _forget(self, connection: _Connection) -> None:
        del self._all[connection.wire.fileno()]
        connection.wire.close()

    def _answered(self, connection: _Connection, status: str) -> None:
        moment = now()
        self._took.append(moment - connection.due)
        self._late.append(connection.late)
        connection.busy = False
        self._answers[status] += 1
        if self._plan.rate:
            self._idle.append(connection)
        elif self._sent < self._plan.count:
            self._ask(connection, moment)


def _filled(template: str) -> Callable[[int], bytes]:
    """Give what writes a request: the number of the request stands wherever the template says so."""
    parts = [part.encode() for part in template.split(PLACE)]
    return lambda number: (b"%d" % number).join(parts)


def _one_of(requests: Sequence[str]) -> Callable[[int], bytes]:
    whole = [each.encode() for each in requests]
    return lambda number: whole[number]


def main() -> None:
    """Run what is told, one plan after the other, until standard input ends."""
    gc.freeze()
    gc.disable()
    for line in sys.stdin:
        result = Driver(Plan(**json.loads(line))).run()
        sys.stdout.write(f"{json.dumps(result.told())}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
