"""Assembly: the only module that knows every edge. It opens them, joins them to the story, and closes them."""

import asyncio
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import RELEASED, __version__
from gateway.admin.metrics import Gauges, Metrics
from gateway.admin.server import Admin, Readiness
from gateway.configuration.addresses import is_loopback
from gateway.configuration.grants import Grants, GrantsReader
from gateway.configuration.problems import Problem
from gateway.configuration.reload import GrantsWatcher
from gateway.configuration.settings import CustomerFhirRoute, Settings
from gateway.domain.grant import Policy
from gateway.domain.pseudonym import Pseudonyms
from gateway.flow.gate import Gate
from gateway.flow.look import Looks
from gateway.flow.open_writes import OpenWrites
from gateway.flow.rates import Rates
from gateway.flow.write import Writes
from gateway.partner.access_tokens import AccessTokens, TokenPress
from gateway.partner.answers import Answers
from gateway.partner.assertions import Registered
from gateway.partner.desk import Desk, EdgeLimits
from gateway.partner.documents import Documents
from gateway.partner.keys import (
    KeySet,
    KeySetProblem,
    SigningKeyProblem,
    VerifyingKey,
    load_key_set,
    read_signing_keys,
)
from gateway.partner.protocol import HttpEdge, HttpLimits, partner_runner
from gateway.partner.routes import Api, Seen
from gateway.partner.token_endpoint import TokenEndpoint
from gateway.pkb.credentials import TokenSettings, TokenStyle
from gateway.pkb.customer_fhir import BoxSettings, CustomerFhir
from gateway.pkb.http import HttpClient
from gateway.pkb.upstreams import RouteUpstream, Upstreams
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings, Signer
from gateway.storage.state import State
from gateway.storage.task_book import TaskBook

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
SHUTDOWN: Final = 60.0
"""Seconds that requests under way have to end in after SIGTERM."""

_log = structlog.get_logger("pkb_gateway")


def utc_now() -> datetime:
    """Tell the time of day in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """Make a fresh UUID."""
    return str(uuid.uuid4())


def read_keys(path: Path) -> KeySet:
    """Read a partner's JWKS file for the grants reader. Raises ValueError."""
    try:
        return load_key_set(path)
    except KeySetProblem as problem:
        raise ValueError(str(problem)) from problem


def grants_reader(settings: Settings) -> GrantsReader:
    """Give the reader of the grants file in the surroundings of these settings."""
    return GrantsReader(
        settings.grants,
        routes=settings.policy_routes(),
        issuers=frozenset(settings.tokens.issuers),
        read_keys=read_keys,
    )


def read_audit_key(pem: str) -> Signer:
    """Read the Ed25519 key that signs checkpoints. Raises ValueError."""
    try:
        key = read_signing_keys(pem).first
    except SigningKeyProblem as problem:
        raise ValueError(f"audit.signing_key: {problem}") from problem
    if not isinstance(key.private, Ed25519PrivateKey):
        raise ValueError("audit.signing_key: an Ed25519 key is needed")  # noqa: TRY004 - a wrong file, not a bug
    return Signer(key.kid, key.private)


@dataclass(frozen=True, slots=True)
class Registry:
    """What the grants in force say of a partner's proof of itself."""

    watcher: GrantsWatcher

    def policy(self) -> Policy:
        """Give the policy in force at this moment."""
        return self.watcher.current.policy

    def registered(self, partner: str) -> Registered | None:
        """Find a partner that proves itself by signed assertions, and its keys."""
        grants = self.watcher.current
        registration = grants.registrations.get(partner)
        if registration is None or not registration.key_files:
            return None
        keys: dict[str, VerifyingKey] = {}
        for path in registration.key_files:
            keys |= grants.keys[path].keys
        return Registered(partner, grants.policy.partners[partner].suspended, KeySet(keys))

    def partner_of(self, issuer: str, claim: str) -> str | None:
        """Name the partner that a token of ours speaks for."""
        del issuer
        return claim if claim in self.watcher.current.policy.partners else None


@dataclass(frozen=True, slots=True)
class GrantsNews:
    """Tells log, audit stream and metrics what became of the grants file."""

    journal: Journal
    metrics: Metrics
    in_force: Callable[[], str]
    """The digest of the grants in force."""

    async def loaded(self, grants: Grants, previous: str) -> None:
        """Tell that a file is in force."""
        _log.info("grants loaded", digest=grants.digest, previous=previous)
        self.metrics.reloaded("loaded")
        self.journal.note({"event": "grants-loaded", "grants_digest": grants.digest})

    async def refused(self, problems: tuple[Problem, ...]) -> None:
        """Tell that a file is not taken and the last good one stays."""
        for problem in problems:
            _log.error("grants refused", problem=str(problem))
        self.metrics.reloaded("refused")
        self.journal.note({"event": "grants-refused", "grants_digest": self.in_force(), "code": "grants-refused"})

    async def keys(self, grants: Grants) -> None:
        """Tell that a partner's key file changed under the same grants."""
        _log.info("partner keys loaded", digest=grants.digest)


@dataclass(slots=True)
class Gateway:
    """A running gateway."""

    api: Api
    watcher: GrantsWatcher
    journal: Journal
    state: State
    tasks: TaskBook
    open_writes: OpenWrites
    partner_port: int = 0
    admin_port: int = 0

    async def readiness(self) -> Readiness:
        """Say whether new requests are welcome."""
        checks = {
            "audit": self.journal.healthy and not self.open_writes.owed,
            "state": await self.state.is_usable(),
            # A gateway without good grants does not start, and a bad file later leaves the last good ones.
            "grants": True,
            "serving": not self.api.draining,
        }
        degraded = ("grants",) if self.watcher.state.degraded else ()
        return Readiness(checks, degraded)

    async def drain(self) -> None:
        """Take nothing new, and wait for what was begun."""
        self.api.draining = True
        await self.api.desk.writes.drain()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Gateway]:
    """Open every edge, serve, and close in the opposite order.

    Raises ConfigurationRefused, JournalUnavailable, StateUnavailable, OSError for a port that is taken, and
    ValueError for a key that is no use.
    """
    async with AsyncExitStack() as stack:
        journal = await _open_journal(settings, stack)
        state = await State.open(settings.state.url.reveal())
        stack.push_async_callback(state.close)
        metrics = Metrics()
        watcher = await _watch_grants(settings, journal, metrics)
        upstreams = await _open_upstreams(settings, metrics, stack)
        gateway = _assemble(settings, Registry(watcher), journal, state, upstreams, metrics)
        stack.push_async_callback(gateway.tasks.close)
        stack.push_async_callback(gateway.open_writes.close)
        watching = asyncio.create_task(watcher.run())
        stack.push_async_callback(_cancelled, watching)
        await _open_ports(settings, gateway, metrics, stack)
        stack.push_async_callback(gateway.drain)
        yield gateway


async def _watch_grants(settings: Settings, journal: Journal, metrics: Metrics) -> GrantsWatcher:
    reader = grants_reader(settings)
    first = await asyncio.to_thread(reader.load)
    news = GrantsNews(journal, metrics, lambda: watcher.current.digest)
    watcher = GrantsWatcher(
        settings.grants,
        reader.load,
        first,
        now=utc_now,
        on_loaded=news.loaded,
        on_refused=news.refused,
        on_keys=news.keys,
    )
    await news.loaded(first, "")
    return watcher


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _open_journal(settings: Settings, stack: AsyncExitStack) -> Journal:
    audit = settings.audit
    signer = read_audit_key(audit.signing_key.reveal()) if audit.signing_key else None
    journal = await Journal.open(
        JournalSettings(
            ChainSettings(audit.directory),
            reserve=audit.reserve,
            process=audit.unauthenticated.process,
            client=audit.unauthenticated.client,
        ),
        clock=utc_now,
        signer=signer,
        listener=_to_stdout if audit.stdout else None,
    )
    stack.push_async_callback(journal.close)
    return journal


def _to_stdout(lines: tuple[bytes, ...]) -> None:
    sys.stdout.buffer.writelines(lines)
    sys.stdout.buffer.flush()


async def _open_upstreams(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Upstreams:
    http = await stack.enter_async_context(HttpClient(f"pkb-gateway/{__version__}"))

    def alarm(event: str, /, **facts: object) -> None:
        _log.error("upstream alarm", alarm=event, **facts)
        metrics.alarm(event)

    routes: dict[str, RouteUpstream] = {}
    for name, route in settings.routes.items():
        if not isinstance(route, CustomerFhirRoute) or route.fhir_version != "R4":
            raise ValueError(f"routes.{name}: only customer-fhir routes in R4 can be served")
        token = TokenSettings(
            route.token.url,
            route.token.client_id.reveal(),
            route.token.client_secret.reveal(),
            TokenStyle(route.token.style),
        )
        routes[name] = CustomerFhir(name, BoxSettings(route.base_url, token), http, random.random, alarm)
    upstreams = Upstreams(routes, settings.limits.per_customer)
    stack.push_async_callback(upstreams.close)
    return upstreams


def _assemble(
    settings: Settings, registry: Registry, journal: Journal, state: State, upstreams: Upstreams, metrics: Metrics
) -> Gateway:
    limits = settings.limits
    veil = Pseudonyms(settings.audit.pseudonym_key_id, settings.audit.pseudonym_key.reveal().encode())
    tasks = TaskBook(state, settings.state.keep, lambda task: _log.error("task not kept", task=task.id))
    open_writes = OpenWrites(
        upstreams,
        journal,
        tasks,
        utc_now,
        settles_after=limits.write_settles_after,
        unresolved_after=limits.unresolved_after.unknown,
    )
    answers = Answers(settings.codes_system, settings.public_url)
    keys = read_signing_keys(settings.tokens.signing_key.reveal())
    press = TokenPress(settings.public_url, keys, round(settings.tokens.lifetime.total_seconds()))
    rates = Rates(time.monotonic)
    desk = Desk(
        gate=Gate(registry.policy, utc_now, rates),
        writes=Writes(registry.policy, upstreams, journal, tasks, veil, utc_now, open_writes),
        looks=Looks(registry.policy, upstreams, journal, tasks, veil, utc_now),
        ledger=journal,
        answers=answers,
        limits=EdgeLimits(
            limits.body, limits.deadline.total_seconds(), limits.in_flight, limits.not_found_step.total_seconds()
        ),
        policy=registry.policy,
        clock=utc_now,
        new_id=new_id,
    )

    def wait(partner: str) -> int | None:
        granted, quota = rates.take(f"partner:{partner}", "partner", registry.policy().partners[partner].rate)
        return None if granted else quota.reset

    def observe(seen: Seen) -> None:
        metrics.observe(seen.route, seen.status, seen.code or "", seen.seconds)
        _log.info("request", **asdict(seen))

    api = Api(
        desk=desk,
        tokens=AccessTokens({settings.public_url: press.issuer()}, registry.partner_of),
        token_endpoint=TokenEndpoint(f"{settings.public_url}/oauth2/token", press, registry.registered, state, wait),
        documents=Documents(answers, keys, __version__, os.environ.get("PKB_GATEWAY_COMMIT", "unknown"), RELEASED),
        observe=observe,
    )
    return Gateway(api, registry.watcher, journal, state, tasks, open_writes)


async def _open_ports(settings: Settings, gateway: Gateway, metrics: Metrics, stack: AsyncExitStack) -> None:
    app = web.Application(client_max_size=settings.limits.body)
    app.router.add_route("*", "/{path:.*}", gateway.api.handle)

    def on_fault(error: BaseException | None, request_id: str, peer: str) -> bytes:
        _log.error("fault", request_id=request_id, peer=peer, exc_info=error)
        return gateway.api.faulted(request_id, peer)

    edge = HttpEdge(gateway.api.malformed, on_fault, new_id, HttpLimits(shutdown=SHUTDOWN))
    gateway.partner_port = await _listen(partner_runner(app, edge), settings.listen.host, settings.listen.port, stack)

    admin = settings.admin
    gauges = Gauges(
        open_writes=gateway.open_writes.__len__,
        in_flight=lambda: gateway.api.in_flight,
        audit_healthy=lambda: float(gateway.journal.healthy),
        grants_degraded=lambda: float(gateway.watcher.state.degraded),
        grants_loaded=gateway.watcher.state.loaded_at.timestamp,
    )
    metrics.read(gauges)
    operators = {operator.token_sha256: operator.name for operator in admin.operators}
    loopback = is_loopback(admin.host)
    # A name of this machine's own is never one that a foreign page was served under.
    hosts = frozenset({*LOOPBACK, admin.host, *(host.lower() for host in admin.hosts)})
    side = Admin(gateway.readiness, metrics.text, hosts, loopback, operators)
    runner = web.AppRunner(side.application(), access_log=None)
    gateway.admin_port = await _listen(runner, admin.host, admin.port, stack)


async def _listen(runner: web.AppRunner, host: str, port: int, stack: AsyncExitStack) -> int:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, host, port)
    await site.start()
    bound: int = runner.addresses[0][1]
    return bound


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the grants file again. Raises what `running` raises."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with running(settings) as gateway:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(signal.SIGHUP, gateway.watcher.reload_now)
        _log.info("serving", partner_port=gateway.partner_port, admin_port=gateway.admin_port)
        await stopped.wait()
        _log.info("draining", open=gateway.api.in_flight)
