"""A gateway whose world is bent: `python -m tests.journeys.bent_gateway serve …`.

The folder in the environment variable BENT is looked into whenever the world is asked: `names` holds `hang` or `gone`
for the resolver, `clock` the seconds by which the time of day is wrong. `limits` is read once: what is otherwise
of `HttpLimits`. The gateway itself has no such switches.
"""

import json
import os
import socket
import time
from datetime import datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any

from gateway.app import assembly, grants
from gateway.cli.main import main
from gateway.partner.http_edge import HttpLimits
from gateway.pkb import http, names

WORLD = Path(os.environ["BENT"])
NAME = "localhost"


def said(of: str) -> str:
    try:
        return (WORLD / of).read_text(encoding="utf-8")
    except OSError:
        return ""


resolve = socket.getaddrinfo


def bent_getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
    if host == NAME:
        match said("names"):
            case "gone":
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            case "hang":
                time.sleep(1)
            case _:
                pass
    return resolve(host, *rest, **named)


class BentTime:
    """The time of day, wrong by as much as is said, as values of the very type that the gateway knows."""

    @staticmethod
    def now(tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + timedelta(seconds=float(said("clock") or 0))


def bend() -> None:
    socket.getaddrinfo = bent_getaddrinfo
    bent: dict[Any, dict[str, Any]] = {
        # No name is remembered, so that every connection asks; and nobody waits long for one.
        http: {"NAMES_KEPT_SECONDS": 0, "CONNECT_SECONDS": 0.3},
        names: {"LOOKUP_SECONDS": 0.3},
        # The one place that asks for the time of day.
        grants: {"datetime": BentTime},
        assembly: {"HttpLimits": partial(HttpLimits, **json.loads(said("limits") or "{}"))},
    }
    for module, values in bent.items():
        for name, value in values.items():
            assert hasattr(module, name), name
            setattr(module, name, value)


if __name__ == "__main__":
    bend()
    main()
