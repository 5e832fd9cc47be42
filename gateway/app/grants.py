"""The grants file, joined to the partners' keys, the audit stream and the metrics."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from gateway.admin.metrics import Metrics
from gateway.app.blocks import Blocks
from gateway.app.bringing import CaseReader
from gateway.configuration.cases import CASES
from gateway.configuration.grants import Grants, GrantsReader
from gateway.configuration.problems import Problem
from gateway.configuration.reading_aside import AsideReader
from gateway.configuration.reload import GrantsWatcher
from gateway.configuration.settings import Settings
from gateway.domain.grant import Policy
from gateway.flow.ports import StateUnavailable
from gateway.partner.assertions import Registered
from gateway.partner.keys import JoinedKeys, KeySet, KeySetProblem, KeySource, load_key_set
from gateway.partner.remote_keys import KeyUrls
from gateway.pkb.hl7_route import Login
from gateway.storage.journal import Journal

TRIES: Final = 50
FRESH: Final = 0.9
"""Seconds: no intent is made under grants or blocks that were looked at longer ago."""

_log = structlog.get_logger("pkb_gateway")


def utc_now() -> datetime:
    """Tell the time of day in UTC."""
    return datetime.now(UTC)


def read_keys(path: Path) -> KeySet:
    """Read a partner's JWKS file for the grants reader. Raises ValueError."""
    try:
        return load_key_set(path)
    except KeySetProblem as problem:
        raise ValueError(str(problem)) from problem


def grants_reader(settings: Settings, path: Path | None = None) -> GrantsReader:
    """Give the reader of the grants file of these settings, or of another one in its place."""
    return GrantsReader(
        settings.grants if path is None else path,
        routes=settings.policy_routes(),
        issuers=frozenset(settings.tokens.issuers),
        read_keys=read_keys,
        cases=settings.grants.parent / CASES,
        read_case=CaseReader(settings),
    )


def read_policy(settings: Settings) -> Policy:
    """Read what the grants file grants, without secrets, key files and cases. Raises ConfigurationRefused."""
    return replace(grants_reader(settings), secrets=False, key_files=False, cases=None).load().policy


@dataclass(frozen=True, slots=True)
class Registry:
    """What the grants in force say of a partner's proof of itself."""

    watcher: GrantsWatcher
    urls: KeyUrls
    public_url: str
    blocks: Blocks

    def policy(self) -> Policy:
        """Give the policy in force at this moment, with the blocks on it."""
        return self.blocks.on(self.watcher.current.policy)

    async def current(self) -> None:
        """Wait until grants file and blocks have been looked at within the last second.

        They always have, but in a process that was stopped and wakes: then its timers are due, and soon will have.
        Raises StateUnavailable where a second was not enough for that.
        """
        clock = asyncio.get_running_loop().time
        for _ in range(TRIES):
            if min(self.watcher.looked_at, self.blocks.looked_at) >= clock() - FRESH:
                return
            await asyncio.sleep(FRESH / TRIES)
        raise StateUnavailable("grants and blocks in force are older than they may be")

    def registered(self, partner: str) -> Registered | None:
        """Find a partner that proves itself by signed assertions, and its keys."""
        grants = self.watcher.current
        registration = grants.registrations.get(partner)
        if registration is None or not (registration.key_files or registration.key_urls):
            return None
        files: tuple[KeySource, ...] = tuple(grants.keys[path] for path in registration.key_files)
        keys = JoinedKeys((*files, *(self.urls.at(url) for url in registration.key_urls)))
        policy = self.blocks.on(grants.policy)
        return Registered(partner, policy.partners[partner].suspended or policy.blocked(partner), keys)

    def hl7_login(self, partner: str) -> Login | None:
        """Find what PKB's HL7 endpoint knows a partner by."""
        registration = self.watcher.current.registrations.get(partner)
        if registration is None or registration.hl7 is None:
            return None
        return Login(registration.hl7.username.reveal(), registration.hl7.password.reveal())

    def partner_of(self, issuer: str, claim: str) -> str | None:
        """Name the partner that a token speaks for: ours name it by its id, others by what it is called there."""
        grants = self.watcher.current
        if issuer != self.public_url:
            return grants.clients.get((issuer, claim))
        return claim if claim in grants.policy.partners else None


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
        for problem in grants.failing:
            _log.error("case failed", problem=str(problem))
            self.metrics.alarm("case-failed")
        self.metrics.reloaded("loaded")
        code = "case-failed" if grants.failing else None
        self.journal.note({"event": "grants-loaded", "grants_digest": grants.digest, "code": code})

    async def refused(self, problems: tuple[Problem, ...]) -> None:
        """Tell that a file is not taken and the last good one stays."""
        for problem in problems:
            _log.error("grants refused", problem=str(problem))
        self.metrics.reloaded("refused")
        self.journal.note({"event": "grants-refused", "grants_digest": self.in_force(), "code": "grants-refused"})

    async def keys(self, grants: Grants) -> None:
        """Tell that a partner's key file changed under the same grants."""
        _log.info("partner keys loaded", digest=grants.digest)


async def watch_grants(settings: Settings, journal: Journal, metrics: Metrics) -> GrantsWatcher:
    """Load the grants file and make ready to follow it. Raises ConfigurationRefused."""
    reader = AsideReader(grants_reader(settings))
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
        abandon=reader.abandon,
    )
    await news.loaded(first, "")
    return watcher
