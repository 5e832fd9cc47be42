"""The upstream stub: python -m bench.speed.stub; prints its port. One thread, epoll, no library that could be slow.

It speaks HTTP/1.1 with Content-Length on kept and on closed connections, and answers every request to the box after
the delay that was set last. `/control/` is for the bench.
"""

import gc
import json
import re
import select
import socket
from collections import deque
from dataclasses import dataclass, field

from bench.speed.alarm import Alarm, now
from bench.speed.box import TOKEN, Answer, Box

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_IF_MATCH = re.compile(rb"\r\nif-match: *([^\r]*)", re.IGNORECASE)
_AUTHORISED = f" {TOKEN}\r\n".encode()
_HANG_UP = select.EPOLLHUP | select.EPOLLERR
JSON_HEADER = b"Content-Type: application/json\r\n"


@dataclass(slots=True)
class _Connection:
    wire: socket.socket
    came: bytes = b""
    to_send: bytearray = field(default_factory=bytearray)
    closes: bool = False


class Stub:
    """The server."""

    def __init__(self) -> None:
        self.box = Box()
        self.delay = 0.0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._alarm = Alarm()
        self._poll.register(self._alarm.fd, select.EPOLLIN)
        self._connections: dict[int, _Connection] = {}
        self._later: deque[tuple[float, _Connection, bytes]] = deque()

    def run(self) -> None:
        """Serve until killed."""
        listener, alarm = self._listener.fileno(), self._alarm.fd
        while True:
            for fd, what in self._poll.poll():
                if fd == listener:
                    self._accept()
                elif fd == alarm:
                    self._alarm.heard()
                elif (connection := self._connections.get(fd)) is not None:
                    self._serve(connection, what)
            if self._later:
                self._send_due()

    def _accept(self) -> None:
        while True:
            try:
                wire, _ = self._listener.accept()
            except BlockingIOError:
                return
            wire.setblocking(False)
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.box.counts["connection"] += 1
            self._connections[wire.fileno()] = _Connection(wire)
            self._poll.register(wire, select.EPOLLIN)

    def _serve(self, connection: _Connection, what: int) -> None:
        if what & select.EPOLLOUT:
            self._send(connection, b"")
        if not what & (select.EPOLLIN | _HANG_UP):
            return
        try:
            data = connection.wire.recv(262_144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        connection.came = connection.came + data if connection.came else data
        while connection.came and self._one(connection):
            pass

    def _one(self, connection: _Connection) -> bool:
        """Answer the first whole request of what came; false where there is none."""
        came = connection.came
        end = came.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = came[: end + 2]
        length = 0
        if not head.startswith(b"GET "):
            found = _LENGTH.search(head)
            length = int(found[1]) if found else 0
        whole = end + 4 + length
        if len(came) < whole:
            return False
        connection.came = came[whole:]
        method, target, _ = head.split(b" ", 2)
        connection.closes = connection.closes or _CLOSES.search(head) is not None
        control = target.startswith(b"/control/")
        answer = self._control(target) if control else self._answer(method, target, head, came[end + 4 : whole])
        out = answer.written(closes=connection.closes)
        if self.delay and not control:
            self._later.append((now() + self.delay, connection, out))
            if len(self._later) == 1:
                self._alarm.set(self._later[0][0])
        else:
            self._send(connection, out)
        return True

    def _answer(self, method: bytes, target: bytes, head: bytes, body: bytes) -> Answer:
        _, _, kind, *rest = target.decode("ascii").split("/")
        if kind == "token":
            return self.box.token()
        if _AUTHORISED not in head:
            return Answer(b"401 Unauthorized", b"", b"")
        match method, kind, rest:
            case b"GET", "Appointment", [id_]:
                return self.box.appointment(id_)
            case b"GET", "Patient", [id_]:
                return self.box.patient(id_)
            case b"PUT", "Appointment", [id_]:
                expected = _IF_MATCH.search(head)
                return self.box.put(id_, expected[1].strip() if expected else None, body)
            case _:
                return Answer(b"404 Not Found", b"", b"")

    def _control(self, target: bytes) -> Answer:
        match target.decode("ascii").split("/")[2:]:
            case ["counts"]:
                return Answer(b"200 OK", JSON_HEADER, json.dumps(self.box.counts).encode())
            case ["delay", milliseconds]:
                self.delay = float(milliseconds) / 1000
                return Answer(b"200 OK", b"", b"")
            case ["appointment", id_]:
                return self.box.appointment(id_)
            case _:
                return Answer(b"404 Not Found", b"", b"")

    def _send_due(self) -> None:
        # Answers in the order in which they are due: a delay that was shortened counts once the longer ones are out.
        moment = now()
        while self._later and self._later[0][0] <= moment:
            _, connection, out = self._later.popleft()
            if connection.wire.fileno() >= 0:
                self._send(connection, out)
        if self._later:
            self._alarm.set(self._later[0][0])

    def _send(self, connection: _Connection, out: bytes) -> None:
        to_send = connection.to_send
        to_send += out
        try:
            sent = connection.wire.send(to_send)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return
        if sent < len(to_send):
            del to_send[:sent]
            self._poll.modify(connection.wire, select.EPOLLIN | select.EPOLLOUT)
            return
        if not out:
            self._poll.modify(connection.wire, select.EPOLLIN)
        to_send.clear()
        if connection.closes:
            self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._connections.pop(connection.wire.fileno(), None)
        connection.wire.close()


def main() -> None:
    """Serve."""
    stub = Stub()
    print(stub.port, flush=True)
    gc.freeze()
    gc.disable()
    stub.run()


if __name__ == "__main__":
    main()
