"""A relay between a gateway and its PKB: it counts and keeps every byte, and answers in PKB's place when told."""

import contextlib
import re
import socket
import threading
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


@dataclass
class Relay:
    """Listens on a port of its own, in threads of its own, for as long as the process lives or until `close`."""

    target: tuple[str, int]
    heard: bytearray = field(default_factory=bytearray)
    """Everything that gateways sent to PKB."""
    script: list[tuple[str, bytes]] = field(default_factory=list)
    """Answers of ours: (what the request line begins with, every byte of the answer); each is given once."""

    def __post_init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.target) as server:
            threading.Thread(target=_pour, args=(server, client), daemon=True).start()
            with contextlib.suppress(OSError):
                while data := client.recv(65_536):
                    self.heard += data
                    if (answer := self._scripted(data)) is not None:
                        _take_all(client, data, self.heard)
                        client.sendall(answer)
                        return
                    server.sendall(data)

    def _scripted(self, data: bytes) -> bytes | None:
        for place, (begin, answer) in enumerate(self.script):
            if data.startswith(begin.encode()):
                del self.script[place]
                return answer
        return None


def _take_all(client: socket.socket, data: bytes, heard: bytearray) -> None:
    head, _, body = data.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    missing = (int(found[1]) if found else 0) - len(body)
    while missing > 0 and (more := client.recv(65_536)):
        heard += more
        missing -= len(more)


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
