"""Reads large grants files for one gateway: python -m gateway.configuration.reading_child.

It is told what to read on its standard input and hands over on its standard output. It has no secret of the
environment, no socket and no key. It ends by itself when it takes too long, and when the gateway ends while it waits.
"""

import gc
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from gateway.configuration.grants import GrantsReader, grants_shape
from gateway.configuration.handover import (
    Fault,
    KeyFile,
    Order,
    Piece,
    pieces,
    receive_answer,
    receive_order,
    refusal,
    send,
)
from gateway.configuration.problems import ConfigurationRefused


def main() -> None:
    """Read until nobody asks any more."""
    # While it reads there is no garbage worth collecting.
    gc.disable()
    grants_shape()
    while True:
        try:
            order = receive_order(sys.stdin.buffer)
        except EOFError:
            return
        signal.alarm(order.patience)
        for piece in _found(order):
            send(sys.stdout.buffer, piece)
        signal.alarm(0)
        gc.collect()


def _found(order: Order) -> Iterator[Piece]:
    try:
        grants = reader_of(order, _ask).load()
    except ConfigurationRefused as refused:
        return refusal(refused.problems)
    except Exception as error:  # noqa: BLE001 - whoever waits is told what kind of fault it is
        return iter((Fault(type(error).__name__),))
    return pieces(grants)


def reader_of(order: Order, read_keys: Callable[[Path], None]) -> GrantsReader:
    """Give the reader of what was ordered; `read_keys` stands for the one that the gateway has."""
    environ = {name: "set" if full else "" for name, full in order.environ.items()}
    return GrantsReader(order.path, order.routes, order.issuers, read_keys, order.secrets, order.key_files, environ)


def _ask(path: Path) -> None:
    """Have a key file read by the gateway. Raises OSError and ValueError in its place."""
    send(sys.stdout.buffer, KeyFile(path))
    answer = receive_answer(sys.stdin.buffer)
    if answer.unreadable:
        raise OSError(0, answer.reason)
    if answer.wrong is not None:
        raise ValueError(answer.wrong)


if __name__ == "__main__":
    main()
