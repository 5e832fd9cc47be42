"""Assembly: the only module that knows every edge. It opens them, joins them to the story, and closes them."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import web

from gateway import RELEASED, __version__
from gateway.admin.metrics import Metrics
from gateway.admin.ring import Ring
from gateway.admin.server import Readiness
from gateway.admin.sources import Sources
from gateway.app.audit import Audit, open_audit
from gateway.app.background import run_beside
from gateway.app.blocks import Blocks, follow_blocks
from gateway.app.certificate import Certificate, open_certificate
from gateway.app.console import admin_side, console_sources
from gateway.app.grants import Registry, utc_now, watch_grants
from gateway.app.keys import Keys, foreign_issuers, open_keys
from gateway.app.listening import open_port
from gateway.app.memory import settle
from gateway.app.noting import NotingLedger
from gateway.app.ports import SHUTDOWN, Handover, tell_supervisor
from gateway.app.pseudonyms import pseudonym_keys
from gateway.app.readings import gauges
from gateway.app.tracing import open_tracing, told_to_both, traced
from gateway.app.upstreams import open_upstreams
from gateway.app.writing import WriteSide, write_side
from gateway.configuration.reload import GrantsWatcher
from gateway.configuration.settings import Settings
from gateway.domain.codes import Code
from gateway.flow.gate import Gate
from gateway.flow.rates import RateLimits, Rates, SharedRates
from gateway.flow.search import Searches
from gateway.partner.access_tokens import AccessTokens, TokenPress
from gateway.partner.answers import Answers
from gateway.partner.callers import Callers, networks
from gateway.partner.cursors import Cursors
from gateway.partner.desk import Desk, EdgeLimits
from gateway.partner.documents import Documents
from gateway.partner.http_edge import HttpEdge, HttpLimits
from gateway.partner.protocol import partner_runner
from gateway.partner.routes import Api, Seen
from gateway.partner.token_endpoint import TokenEndpoint
from gateway.pkb.upstreams import Upstreams
from gateway.storage.blocks import Blocks as KeptBlocks
from gateway.storage.chain_tails import ChainFolder
from gateway.storage.journal import Journal
from gateway.storage.shared_rates import Buckets
from gateway.storage.store import Store, open_store

if TYPE_CHECKING:
    from gateway.admin.tracing import Tracing

UNSAID: Final = frozenset({Code.OVERLOADED, Code.MALFORMED_REQUEST, Code.INTERNAL})
"""Answers without a line of their own: two of which there may be floods, and one of which a `fault` tells."""

_log = structlog.get_logger("pkb_gateway")


def _random_digits() -> Iterator[str]:
    """Give 20 hexadecimal digits at a time: to ask the system for each would hand the interpreter to other threads."""
    while True:
        some = os.urandom(4_000).hex()
        yield from (some[start : start + 20] for start in range(0, len(some), 20))


_digits: Final = _random_digits()
"""Of this process; a worker is a program of its own, so no two of them go on with the same."""


def new_id() -> str:
    """Make a fresh UUID of version 7 (RFC 9562, 5.7): the time in milliseconds, then 74 random bits.

    What was made one after the other lies side by side in the store, and shares the pages that are written.
    """
    moment = f"{time.time_ns() // 1_000_000:012x}"
    digits = next(_digits)
    variant = "89ab"[int(digits[3], 16) & 3]
    return f"{moment[:8]}-{moment[8:]}-7{digits[:3]}-{variant}{digits[4:7]}-{digits[7:19]}"


@dataclass(slots=True)
class Gateway:
    """A running gateway."""

    api: Api
    watcher: GrantsWatcher
    journal: Journal
    store: Store
    write_side: WriteSide
    keys: Keys
    blocks: Blocks
    upstreams: Upstreams
    audit: Audit | None = None
    certificate: Certificate | None = None
    partner_port: int = 0
    admin_port: int = 0

    @property
    def degraded(self) -> tuple[str, ...]:
        """Name what asks for a look."""
        grants = ("grants",) if self.watcher.state.degraded else ()
        shown = self.certificate.degraded if self.certificate else ()
        copied = self.audit.degraded if self.audit else ()
        return (*grants, *self.keys.degraded, *shown, *copied)

    async def readiness(self) -> Readiness:
        """Say whether new requests are welcome."""
        checks = {
            "audit": self.journal.healthy and not self.write_side.open_writes.owed,
            "state": await self.store.is_usable(),
            # A gateway without good grants does not start, and a bad file later leaves the last good ones.
            "grants": True,
            "serving": not self.api.draining,
        }
        return Readiness(checks, self.degraded)

    def reload_now(self) -> None:
        """Look at the grants file and at every key that may have changed."""
        self.watcher.reload_now()
        self.keys.look_now()

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
        metrics = Metrics()
        # What is counted at the very end outlives this process too.
        stack.callback(metrics.settle)
        tracing = await open_tracing(os.environ, stack)
        audit = await open_audit(settings, metrics, stack)
        journal = audit.journal
        store = await open_store(settings.state.url.reveal(), journal.chain, settings.state.keep)
        stack.push_async_callback(store.close)
        watcher = await watch_grants(settings, journal, metrics)
        keys = await open_keys(settings, lambda: watcher.current.key_urls, utc_now, metrics.alarm, stack)
        # Read before the ports open, so that a restart lets nobody in.
        blocks = await follow_blocks(KeptBlocks(store.database).blocks, stack)
        registry = Registry(watcher, keys.urls, settings.public_url, blocks)
        ring = Ring(utc_now)
        heard = (metrics.exchanged, ring)
        upstreams = await open_upstreams(
            settings, registry, metrics.alarm, heard, lambda: metrics.shed("per-customer"), stack
        )
        gateway = _assemble(settings, registry, keys, journal, store, upstreams, metrics, tracing)
        gateway.audit = audit
        gateway.certificate = await open_certificate(settings.listen.tls, utc_now, metrics.alarm, stack)
        # What an earlier process left is taken up before anything new can touch its appointments.
        await gateway.write_side.begin(stack)
        run_beside(watcher.run(), stack)
        run_beside(audit.keep(settings.audit.keep, metrics.alarm), stack)
        # Once more when the ports are closed: a request whose body came late may have begun a write meanwhile.
        stack.push_async_callback(gateway.drain)
        sources = console_sources(settings, registry, upstreams, journal, store, ring)
        await _open_ports(settings, gateway, metrics, tracing, sources, stack)
        stack.push_async_callback(gateway.drain)
        yield gateway


def _assemble(
    settings: Settings,
    registry: Registry,
    keys: Keys,
    journal: Journal,
    store: Store,
    upstreams: Upstreams,
    metrics: Metrics,
    tracing: "Tracing | None",
) -> Gateway:
    limits = settings.limits
    stages = told_to_both(metrics.stage, tracing)
    # The old ones are read too: what is wrong with a key is told at the start, not when somebody asks for records.
    veil, *_ = pseudonym_keys(settings.audit)
    chains = ChainFolder(settings.audit.directory)
    ledger = NotingLedger(journal, metrics)
    side = write_side(settings, registry, upstreams, ledger, store, chains, veil, metrics, stages)
    answers = Answers(settings.codes_system, settings.public_url, limits.review_hint_after)
    press = TokenPress(settings.public_url, keys.ring, round(settings.tokens.lifetime.total_seconds()))
    issuers = {**foreign_issuers(settings, keys.urls), settings.public_url: press.issuer()}
    rates = _rates(store)
    desk = Desk(
        gate=Gate(registry.policy, utc_now, rates),
        writes=side.writes,
        looks=side.looks,
        searches=Searches(registry.policy, upstreams, ledger, veil, utc_now, stages),
        # Every node has this key and keeps it for long.
        cursors=Cursors.of(settings.audit.pseudonym_key.reveal().encode()),
        ledger=ledger,
        answers=answers,
        limits=EdgeLimits(
            limits.body, limits.deadline.total_seconds(), limits.in_flight, limits.not_found_step.total_seconds()
        ),
        policy=registry.policy,
        clock=utc_now,
        new_id=new_id,
        new_control_id=lambda: next(_digits),
    )

    async def wait(partner: str) -> int | None:
        # A reload may have taken the partner away while its assertion was looked at; its token is then worth nothing.
        known = registry.policy().partners.get(partner)
        if known is None:
            return None
        granted, quota = await rates.take(f"partner:{partner}", "partner", known.rate)
        return None if granted else quota.reset

    # Bound here, because whatever is asked of an unbound logger goes by way of a proxy.
    log = _log.bind()

    def observe(seen: Seen) -> None:
        metrics.observe(seen.route, seen.status, seen.code or "", seen.seconds)
        if tracing is None and seen.code in UNSAID:
            return
        told: dict[str, object] = seen._asdict()
        if tracing is not None:
            told["trace_id"] = tracing.tell(
                seen.route,
                seen.status,
                {
                    "partner": seen.partner,
                    "customer": seen.customer,
                    "operation": seen.operation,
                    "decision": seen.decision,
                    "code": seen.code,
                },
            )
        # Of what is turned away for want of room the metric counts every one; a line for each would cost more of it.
        if seen.code not in UNSAID:
            log.info("request", **told)

    api = Api(
        desk=desk,
        tokens=AccessTokens(issuers, registry.partner_of),
        token_endpoint=TokenEndpoint(f"{settings.public_url}/oauth2/token", press, registry.registered, store, wait),
        documents=Documents(answers, keys.ring, __version__, os.environ.get("PKB_GATEWAY_COMMIT", "unknown"), RELEASED),
        observe=observe,
        stages=stages,
        shed=metrics.shed,
    )
    return Gateway(api, registry.watcher, journal, store, side, keys, registry.blocks, upstreams)


def _rates(store: Store) -> RateLimits:
    """Count requests for all nodes where the store is made for several machines, else in this process."""
    own = Rates(time.monotonic)
    return SharedRates(Buckets(store.database), own) if store.database.name == "postgresql" else own


async def _open_ports(
    settings: Settings,
    gateway: Gateway,
    metrics: Metrics,
    tracing: "Tracing | None",
    sources: Sources,
    stack: AsyncExitStack,
) -> None:
    def on_fault(error: BaseException | None, request_id: str, peer: str) -> bytes:
        _log.error("fault", request_id=request_id, peer=peer, exc_info=error)
        return gateway.api.faulted(request_id, peer)

    callers = Callers(networks(settings.listen.trusted_proxies))
    served, limits = gateway.api, HttpLimits(shutdown=SHUTDOWN)
    edge = HttpEdge(served.malformed, on_fault, new_id, limits, callers)
    if tracing is None:  # a trace is of a request that is handled
        edge = replace(edge, is_full=served.is_full, turn_away=served.turn_away)
    given = Handover.read(os.environ) or Handover(0, (), ())
    listen, admin = settings.listen, settings.admin
    api = partner_runner(traced(served.handle, tracing), edge)
    gateway.partner_port = await open_port(api, listen.host, listen.port, given.partner, stack, gateway.certificate)

    metrics.read(gauges(gateway))
    run_beside(metrics.keep_current(), stack)
    side = admin_side(settings, gateway.readiness, metrics.text, sources)
    console = web.AppRunner(side.application(), access_log=None)
    gateway.admin_port = await open_port(console, admin.host, admin.port, given.admin, stack)


async def serve(settings: Settings, *, watch_input: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the grants file again. Raises what `running` raises.

    `watch_input` ends it too when standard input closes, as it does when the process that started it is gone.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_tell_fault)
    async with running(settings) as gateway:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(signal.SIGHUP, gateway.reload_now)
        if watch_input:
            loop.add_reader(sys.stdin.fileno(), _end_of_input, stopped)
        if Handover.read(os.environ) is None:
            _log.info("serving", partner_port=gateway.partner_port, admin_port=gateway.admin_port)
        else:
            _log.info("worker serving", chain=gateway.journal.head.chain)
            tell_supervisor()
        settle()
        await stopped.wait()
        _log.info("draining", open=gateway.api.in_flight)


def _tell_fault(_: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
    """Log what reached nobody. The event loop's own words may quote what a callback was given; ours end before."""
    what = re.split(r"[(<]", str(told.get("message")))[0].strip()
    _log.error("fault", what=what, exc_info=told.get("exception"))


def _end_of_input(stopped: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stopped.set()
