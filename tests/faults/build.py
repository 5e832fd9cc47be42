"""The test build: the gateway as shipped, started with something about to fail in it, or with a guard taken out.

Told by the environment: FAULT_STEP, FAULT_KIND, GUARD_OUT.
Everything is wrapped from outside; the product itself has no such switch.
"""

import asyncio
import errno
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gateway.app import assembly
from gateway.cli.main import main
from gateway.flow import caretaker, open_writes
from gateway.flow.ports import StateUnavailable, Written
from gateway.flow.replays import Replays
from gateway.flow.store import KeyIsNew
from gateway.flow.write import Writes
from gateway.partner.visit import Visit
from gateway.pkb.http import HttpClient, HttpFault, Reuse
from gateway.pkb.upstreams import Upstreams
from gateway.storage.journal import Journal
from gateway.storage.journal_chain import Platform
from gateway.storage.store import Store, open_store

LEASE: Final = 1.2
ROUND: Final = 0.3
OUTAGE: Final = 1.5
"""Seconds that a silent store or a full disk lasts."""

WIRE: Final = 0.2
"""Seconds after the sending of a write began: PKB has it by then and takes longer to answer."""

Wrapped = Callable[..., Awaitable[Any]]
_until = {"store": 0.0, "disk": 0.0}
_struck: list[str] = []


def put(owner: object, name: str, value: object) -> None:
    """Replace a part of the shipped build."""
    setattr(owner, name, value)


def hurry(lease: float) -> None:
    """Shorten the times in which nothing happens."""
    put(caretaker, "LEASE_SECONDS", lease)  # a constant of the shipped build
    put(caretaker, "ROUND_SECONDS", ROUND)  # a constant of the shipped build
    put(open_writes, "LONGEST_PAUSE", 1.0)  # a constant of the shipped build
    put(open_writes, "PAY_PAUSE", 0.3)  # a constant of the shipped build
    put(assembly, "open_store", functools.partial(open_store, lease=lease))  # its lease


def strike(kind: str) -> None:
    """Let the fault happen, once in the life of this process."""
    if _struck:
        return
    _struck.append(kind)
    match kind:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stall":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "store" | "disk":
            _until[kind] = time.monotonic() + OUTAGE
        case "database":
            # Whoever started us sees this file and crashes the database.
            Path(os.environ["FAULT_SIGNAL"]).touch()
            time.sleep(0.3)


def at(owner: type, method: str, when: str, kind: str, fits: Callable[..., bool] = lambda *_: True) -> None:
    """Strike before or after a method of a class, where its arguments fit."""
    original: Wrapped = getattr(owner, method)

    async def wrapped(self: Any, *args: Any, **named: Any) -> Any:
        mine = fits(*args)
        if mine and when == "before":
            strike(kind)
        answer = await original(self, *args, **named)
        if mine and when == "after":
            strike(kind)
        return answer

    setattr(owner, method, wrapped)


def _is_write(named: Mapping[str, Any]) -> bool:
    """A write or a request for a token: whatever may not go over just any connection."""
    return named.get("reuse", Reuse.ANY) is not Reuse.ANY


def on_the_wire(kind: str) -> None:
    """Strike while PKB has a write and has not answered it."""
    original: Wrapped = HttpClient.send

    async def wrapped(self: Any, *args: Any, **named: Any) -> Any:
        if _is_write(named):
            asyncio.get_running_loop().call_later(WIRE, strike, kind)
        return await original(self, *args, **named)

    put(HttpClient, "send", wrapped)  # the shipped one, and a clock beside it


def _is(event: str, *, final: bool | None = None) -> Callable[..., bool]:
    return lambda record, *_: record["event"] == event and (final is None or record.get("final") is final)


STEPS: Final[dict[str, Callable[[str], None]]] = {
    "key claimed": lambda kind: at(Store, "claim_key", "after", kind),
    "turn looked for": lambda kind: at(Store, "look", "after", kind),
    "PKB read": lambda kind: at(Upstreams, "read", "after", kind),
    "about to hold": lambda kind: at(Store, "hold", "before", kind),
    "held": lambda kind: at(Store, "hold", "after", kind),
    "about to intend": lambda kind: at(Journal, "write", "before", kind, _is("intent")),
    "intended": lambda kind: at(Journal, "write", "after", kind, _is("intent")),
    "permitted": lambda kind: at(Store, "send", "after", kind),
    "on the wire": on_the_wire,
    "answered": lambda kind: at(Upstreams, "write", "after", kind),
    "about to end": lambda kind: at(Store, "end", "before", kind),
    "ended": lambda kind: at(Store, "end", "after", kind),
    "end recorded": lambda kind: at(Journal, "write", "after", kind, _is("outcome", final=True)),
    "about to answer": lambda kind: at(Visit, "_told", "before", kind),
    "end confirmed": lambda kind: at(Store, "recorded", "after", kind),
    "doubt recorded": lambda kind: at(Journal, "write", "after", kind, _is("outcome", final=False)),
    "doubt filed": lambda kind: at(Store, "open", "after", kind),
}
"""The steps of a write in their order; the last two are those of one whose outcome is not known at once."""


def outages() -> None:
    """Make store and disk fail while their outage lasts."""
    for method in (
        "claim_key", "free_key", "look", "hold", "send", "open", "end", "recorded", "drop", "find", "renew", "peers",
        "adopt", "owing", "inherit", "restore",
    ):  # fmt: skip
        setattr(Store, method, _silenced(getattr(Store, method)))
    made = Platform.__init__

    def refusing(self: Any, *args: Any, **named: Any) -> None:
        made(self, *args, **named)
        put = self.put

        def full(fd: int, data: bytes) -> int:
            if time.monotonic() < _until["disk"]:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(put(fd, data))

        object.__setattr__(self, "put", full)

    put(Platform, "__init__", refusing)  # the shipped one on a disk that fills up


def _silenced(original: Wrapped) -> Wrapped:
    async def silenced(self: Any, *args: Any, **named: Any) -> Any:
        if time.monotonic() < _until["store"]:
            raise StateUnavailable("the store is silent")
        return await original(self, *args, **named)

    return silenced


# Guards, each taken out by a switch, to show that the checker sees what they are for.


def without_final_record() -> None:
    original: Wrapped = Journal.write

    async def forgetful(self: Any, record: Any, **named: Any) -> Any:
        return 1 if _is("outcome", final=True)(record) else await original(self, record, **named)

    put(Journal, "write", forgetful)  # drops every end


def with_resend() -> None:
    original: Wrapped = HttpClient.send

    async def insisting(self: Any, *args: Any, **named: Any) -> Any:
        try:
            return await original(self, *args, **named)
        except HttpFault:
            if not _is_write(named):
                raise
            return await original(self, *args, **named)

    put(HttpClient, "send", insisting)  # sends a write again


def without_claim() -> None:
    async def anybody(*_: Any) -> Any:
        return KeyIsNew()

    async def free(_self: Any, keys: Any) -> Any:
        return [replace(turn, holder=None) for turn in await look(_self, keys)]

    async def held(_self: Any, task: Any, turns: Any, chain: str) -> bool:
        await hold(_self, task, {("nowhere", task.id): 0}, chain)
        return True

    look: Wrapped = Store.look
    hold: Wrapped = Store.hold
    put(Store, "claim_key", anybody)  # no key is ever taken
    put(Store, "look", free)  # no appointment ever is
    put(Store, "hold", held)  # and none is ever held


def without_fence() -> None:
    async def permitted(*_: Any) -> bool:
        return True

    put(Store, "send", permitted)  # whoever asks may send
    put(caretaker.Caretaker, "pass_for_now", lambda _: lambda: True)  # for ever


def without_second_decision() -> None:
    original = Writes._judge
    judged: dict[str, Any] = {}

    def once(self: Any, order: Any, sighting: Any) -> Any:
        return judged.setdefault(order.task, original(self, order, sighting))

    put(Writes, "_judge", once)  # what was decided stays decided


def without_rights_on_replay() -> None:
    async def shown(self: Any, caller: Any, customer: Any, task: Any) -> Any:
        return await self.upstream.read(customer, task.appointment, caller.deadline, fresh=True), {}

    put(Replays, "_look", shown)  # shows whatever PKB has


def without_read_back() -> None:
    original: Wrapped = Upstreams.write

    async def believing(self: Any, customer: Any, command: Any, sighting: Any, *args: Any, **named: Any) -> Any:
        await original(self, customer, command, sighting, *args, **named)
        return Written(sighting, 200)

    put(Upstreams, "write", believing)  # takes every answer for yes


GUARDS: Final[dict[str, Callable[[], None]]] = {
    "final record": without_final_record,
    "no resend": with_resend,
    "claims": without_claim,
    "fence": without_fence,
    "second decision": without_second_decision,
    "rights on replay": without_rights_on_replay,
    "read-back": without_read_back,
}


def play(environment: Mapping[str, str]) -> None:
    """Be the gateway of the test build."""
    hurry(float(environment.get("FAULT_LEASE", LEASE)))
    outages()
    if guard := environment.get("GUARD_OUT"):
        GUARDS[guard]()
    if step := environment.get("FAULT_STEP"):
        STEPS[step](environment["FAULT_KIND"])
    main()


def nursery() -> None:
    """Fork a gateway for every line read, from a process that has loaded everything; tells the number of each."""
    # Whoever dies is nobody's zombie: its place in /proc is gone at once.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        told = json.loads(line)
        born = os.fork()
        if born == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            log = os.open(told["log"], os.O_WRONLY | os.O_CREAT, 0o600)
            for standard in (1, 2):
                os.dup2(log, standard)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.environ |= told["environment"]
            sys.argv = ["pkb-gateway", "serve", "--config", told["config"]]
            play(os.environ)
            os._exit(0)
        sys.stdout.write(f"{born}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    nursery()
