"""The test build: a loaded gateway that forks itself, each time with one guard taken out, or none.

Nothing of this is in the product: it is wrapped from outside before it starts.
"""

import json
import os
import signal
import sys

from gateway.cli.main import main
from tests.adversarial.guards import FAILING, GUARDS


def play(config: str, log: str, guard: str) -> None:
    """Be the gateway."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(out, standard)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if guard.startswith("breaks: "):
        FAILING[guard.removeprefix("breaks: ")]()
    elif guard:
        GUARDS[guard].remove()
    sys.argv = ["pkb-gateway", "serve", "--config", config]
    main()


def nursery() -> None:
    """Fork a gateway for every line read; tells the number of each."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        told = json.loads(line)
        born = os.fork()
        if born == 0:
            try:
                play(told["config"], told["log"], told["guard"])
            finally:
                os._exit(0)
        sys.stdout.write(f"{born}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    nursery()
