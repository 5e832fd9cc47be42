"""A console with made-up sources in the place of audit, store and PKB, and somebody who asks it."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin.access import Access
from gateway.admin.feed import Filter
from gateway.admin.ring import Ring
from gateway.admin.server import Admin, Readiness
from gateway.admin.sessions import Operators, Sessions
from gateway.admin.sources import Answered, Asked, Blocked, GrantsFile, Lookup, Missing, Sources, Undone
from gateway.domain.decision import Check, Permit
from gateway.domain.grant import Operation, Policy
from gateway.domain.outcome import TaskStatus
from gateway.flow.store import Filed, Phase
from gateway.flow.tasks import Task
from tests.makers import NOW, grant, policy

PARTNER, CUSTOMER = "swiftbook", "airedale"
TOKEN = "an operator's token"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
OTHER = "another operator's token"
OPERATORS = {DIGEST: "Jo Bloggs", hashlib.sha256(OTHER.encode()).hexdigest(): "Sam Doe"}
HOSTS = frozenset({"127.0.0.1", "localhost", "::1", "ops.example"})
SECRET = b"a secret that all nodes share"
BROWSER = {"Accept": "text/html"}
GOOD = Readiness({"audit": True, "state": True})

Record = dict[str, Any]


def record(**fields: Any) -> Record:
    return {
        "chain": "20260101T000000Z-00000000",
        "seq": 1,
        "time": "2026-01-01T09:00:00.000000Z",
        "event": "refused",
        "request_id": "11111111-1111-4111-8111-111111111111",
        "partner": PARTNER,
        "customer": CUSTOMER,
        "operation": "cancel",
        "appointment": "a-1",
        "decision": "refuse",
        "code": "too-late",
        "checks": [["granted", True], ["notice-kept", False], ["reason-allowed", False]],
        **fields,
    }


@dataclass
class News:
    records: Sequence[Record] = ()
    passed_over: int = 0


@dataclass
class FakeAudit:
    """`kept` is what is on record; `coming` what comes with the next looks."""

    kept: list[Record] = field(default_factory=list)
    coming: list[News] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    begun: int = 0
    looks: int = 0
    missing: str = ""
    stopped_after: str | None = None

    async def find(self, id_: str, after: str) -> Lookup:
        self.asked.append((id_, after))
        if self.missing:
            raise Missing(self.missing)
        found = tuple(each for each in self.kept if id_ in {each.get("request_id"), each.get("task")})
        return Lookup(found, 1024, "2026-01-01T09:00:00.000000Z", self.stopped_after, 0)

    async def recent(self, wanted: Filter, count: int) -> Sequence[Mapping[str, Any]]:
        if self.missing:
            raise Missing(self.missing)
        return [each for each in self.kept if wanted(each)][-count:]

    def source(self) -> "FakeAudit":
        return self

    def begin(self) -> None:
        self.begun += 1

    def news(self) -> News:
        self.looks += 1
        return self.coming.pop(0) if self.coming else News()


@dataclass
class FakeDeeds:
    """What was done, by whom."""

    done: list[tuple[str, ...]] = field(default_factory=list)
    undone: str = ""

    async def resolve(self, task: str, outcome: Literal["applied", "rejected"], by: str) -> None:
        self._do("resolve", task, outcome, by)

    async def block(self, partner: str, customer: str | None, by: str) -> bool:
        self._do("block", partner, customer or "", by)
        return True

    async def unblock(self, partner: str, customer: str | None, by: str) -> bool:
        self._do("unblock", partner, customer or "", by)
        return True

    async def explain(self, asked: Asked, by: str) -> Answered:
        self._do("explain", asked.partner, asked.patient, asked.birth_date, by)
        return Answered(Permit(grant(), (Check("granted", passed=True),)), NOW, "d" * 64, None, patient_wanted=False)

    def _do(self, *what: str) -> None:
        if self.undone:
            raise Undone(self.undone)
        self.done.append(what)


UNKNOWN = Filed(
    Task(
        "22222222-2222-4222-8222-222222222222",
        PARTNER,
        CUSTOMER,
        "a-1",
        Operation.CANCEL,
        TaskStatus.IN_PROGRESS,
        NOW - timedelta(hours=26),
        NOW,
        "outcome-unknown",
        "unknown",
    ),
    Phase.OPEN,
    "20260101T000000Z-00000000",
)


@dataclass
class Desk:
    """Everything a console is made of, to be changed by a test."""

    audit: FakeAudit = field(default_factory=FakeAudit)
    deeds: FakeDeeds = field(default_factory=FakeDeeds)
    policy: Policy = field(default_factory=policy)
    writes: list[Filed] = field(default_factory=list)
    blocked: list[Blocked] = field(default_factory=list)
    file: GrantsFile = field(default_factory=lambda: GrantsFile("/etc/grants.toml", "d" * 64, NOW))
    readiness: Readiness = GOOD
    breakers: dict[str, str] = field(default_factory=lambda: {"airedale-box": "closed"})
    operators: Mapping[str, str] = field(default_factory=lambda: dict(OPERATORS))
    loopback: bool = True
    store_missing: str = ""
    clock: datetime = NOW

    def __post_init__(self) -> None:
        self.ring = Ring(lambda: self.clock)

    @property
    def sessions(self) -> Sessions:
        return Sessions.of(SECRET, Operators(self.operators), lambda: self.clock)

    def admin(self) -> Admin:
        async def ready() -> Readiness:
            return self.readiness

        return Admin(ready, lambda: b"metrics", Access(HOSTS, self.loopback, self.sessions), self.sources())

    def sources(self) -> Sources:
        async def writes() -> Sequence[Filed]:
            if self.store_missing:
                raise Missing(self.store_missing)
            return self.writes

        async def blocked() -> Sequence[Blocked]:
            if self.store_missing:
                raise Missing(self.store_missing)
            return self.blocked

        return Sources(
            clock=lambda: self.clock,
            policy=lambda: self.policy,
            grants_file=lambda: self.file,
            audit=self.audit,
            open_writes=writes,
            blocks=blocked,
            breakers=lambda: self.breakers,
            ring=self.ring,
            deeds=self.deeds,
            speaker="",
            version="0",
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Asker"]:
        async with TestClient(TestServer(self.admin().application())) as client:
            yield Asker(client)


@dataclass
class Asker:
    """Somebody with a browser at the admin port."""

    client: TestClient[Any, Any]

    @property
    def origin(self) -> str:
        return str(self.client.make_url("/")).rstrip("/")

    async def get(self, path: str, **headers: str) -> "Got":
        given = {**BROWSER, **_dashed(headers)}
        async with self.client.get(path, headers=given, allow_redirects=False) as response:
            return await Got.of(response)

    async def post(self, path: str, form: Mapping[str, str], **headers: str) -> "Got":
        given = {**BROWSER, "Origin": self.origin, **_dashed(headers)}
        sent = {name: value for name, value in given.items() if value}
        async with self.client.post(path, data=dict(form), headers=sent, allow_redirects=False) as response:
            return await Got.of(response)

    async def log_in(self, token: str = TOKEN) -> str:
        """Give the header of the session."""
        got = await self.post("/login", {"token": token, "next": "/"})
        assert got.status == 303, got.text
        return got.headers["Set-Cookie"].partition(";")[0]


@dataclass
class Got:
    """An answer."""

    status: int
    text: str
    headers: Mapping[str, str]

    @classmethod
    async def of(cls, response: ClientResponse) -> "Got":
        return cls(response.status, await response.text(), dict(response.headers))


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def called(each: Policy, name: str) -> Policy:
    """A policy whose partners and customers all bear this name."""
    partners = {id_: replace(one, name=name) for id_, one in each.partners.items()}
    customers = {id_: replace(one, name=name) for id_, one in each.customers.items()}
    return replace(each, partners=partners, customers=customers)
