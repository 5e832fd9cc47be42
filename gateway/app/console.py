"""What the console shows and does, joined to the rest of the gateway."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, TypeVar

from gateway import __version__
from gateway.admin.access import Access
from gateway.admin.feed import Filter, Record
from gateway.admin.ring import Ring
from gateway.admin.server import Admin, Readiness
from gateway.admin.sessions import Operators, Sessions
from gateway.admin.sources import Answered, Asked, Blocked, GrantsFile, Lookup, Missing, Sources, Undone
from gateway.app import blocks
from gateway.app.asking import AskedInWords, NotUnderstood, Words
from gateway.app.blocks import NotDone, Wish
from gateway.app.explaining import Explained, Explaining
from gateway.app.grants import Registry, utc_now
from gateway.app.keys import read_audit_key
from gateway.app.ports import Handover
from gateway.app.pseudonyms import pseudonym_keys
from gateway.app.visiting import Visit
from gateway.configuration import words as spelling
from gateway.configuration.addresses import is_loopback
from gateway.configuration.reload import GrantsWatcher
from gateway.configuration.settings import Settings
from gateway.domain.appointment import Read
from gateway.domain.decision import Permit
from gateway.domain.grant import Operation, Policy
from gateway.domain.rules import Claimant
from gateway.flow.ports import JournalUnavailable, StateUnavailable, UpstreamFault
from gateway.flow.store import Filed
from gateway.pkb.upstreams import Upstreams
from gateway.storage import lookup
from gateway.storage.blocks import Blocks
from gateway.storage.growth import Growth
from gateway.storage.journal import Journal
from gateway.storage.resolution import NotResolved, Resolution
from gateway.storage.store import Store

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
ANY_TEXT: Final = "Any text"
"""Stands for the text of a field that a change is to touch: no rule asks what is in it."""
ANY_URL: Final = "https://partner.example/appointment"

Found = TypeVar("Found")


def console_sources(
    settings: Settings, registry: Registry, upstreams: Upstreams, journal: Journal, store: Store, ring: Ring
) -> Sources:
    """Join what the console shows and does to a gateway that is being assembled."""
    audit = settings.audit
    veil, *_ = pseudonym_keys(audit)
    signer = read_audit_key(audit.signing_key.reveal()) if audit.signing_key else None
    visit = Visit(settings.state.url.reveal(), settings.state.keep, audit.directory, audit.reserve, signer)
    explaining = Explaining(registry.policy, upstreams, journal, veil, utc_now)
    worker, kept = Handover.read(os.environ), Kept(store)
    return Sources(
        clock=utc_now,
        policy=registry.policy,
        grants_file=lambda: grants_file(settings.grants, registry.watcher),
        audit=AuditFolder(audit.directory),
        open_writes=kept.open_writes,
        blocks=kept.blocks,
        breakers=lambda: {route: state.value for route, state in upstreams.states.items()},
        ring=ring,
        deeds=PersonsDeeds(visit, explaining, registry.policy, utc_now, settings.limits.deadline.total_seconds()),
        speaker="" if worker is None else f"worker {worker.worker} of {settings.listen.workers}",
        version=__version__,
    )


def admin_side(
    settings: Settings, readiness: Callable[[], Awaitable[Readiness]], metrics: Callable[[], bytes], sources: Sources
) -> Admin:
    """Put the admin side behind its door."""
    admin = settings.admin
    # A name of this machine's own is never one that a foreign page was served under.
    hosts = frozenset({*LOOPBACK, admin.host, *(host.lower() for host in admin.hosts)})
    operators = Operators({operator.token_sha256: operator.name for operator in admin.operators})
    # Every worker and node has this key, so that a session counts for all of them.
    sessions = Sessions.of(settings.audit.pseudonym_key.reveal().encode(), operators, utc_now)
    return Admin(readiness, metrics, Access(hosts, is_loopback(admin.host), sessions), sources)


def grants_file(path: Path, watcher: GrantsWatcher) -> GrantsFile:
    """Tell how the grants file stands."""
    state = watcher.state
    return GrantsFile(
        str(path),
        state.digest,
        state.loaded_at,
        tuple(map(str, state.refused)),
        state.refused_at,
        tuple(map(str, state.failing)),
    )


@dataclass(frozen=True, slots=True)
class AuditFolder:
    """The audit folder of this machine, for the console; see `gateway.admin.sources.Audit`."""

    directory: Path

    async def find(self, id_: str, after: str) -> Lookup:
        """See the port."""
        found = await _looked(lambda: lookup.find(self.directory, id_, after))
        return Lookup(found.records, found.looked_at, found.back_to, found.stopped_after, found.damaged, found.cut)

    async def recent(self, wanted: Filter, count: int) -> Sequence[Record]:
        """See the port."""
        # Of a line that cannot be wanted nothing is read: the audit spells each value in one way only.
        marks = [
            [f'"{name}":{json.dumps(value, ensure_ascii=False)}'.encode("utf-8", "replace") for value in values]
            for name, values in wanted.fields.items()
        ]
        return await _looked(lambda: lookup.recent(self.directory, wanted, count, marks))

    def source(self) -> Growth:
        """See the port."""
        return Growth(self.directory)


async def _looked(look: Callable[[], Found]) -> Found:
    try:
        return await asyncio.to_thread(look)
    except OSError as error:
        raise Missing(f"The audit folder cannot be read: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Kept:
    """What the state store holds, for the console."""

    store: Store

    async def open_writes(self) -> Sequence[Filed]:
        """Give the writes that have not ended. Raises Missing."""
        try:
            return await self.store.open_writes()
        except StateUnavailable as error:
            raise Missing(f"The state store does not answer: {error}") from error

    async def blocks(self) -> Sequence[Blocked]:
        """Give who is blocked. Raises Missing."""
        try:
            return [Blocked(each.partner, each.customer, each.by, each.at) for each in await self._blocks.listing()]
        except StateUnavailable as error:
            raise Missing(f"The state store does not answer: {error}") from error

    @property
    def _blocks(self) -> Blocks:
        return Blocks(self.store.database)


@dataclass(frozen=True, slots=True)
class PersonsDeeds:
    """What a named person does in the console: by the same code as on the command line, and on record in the same way.

    See `gateway.admin.sources.Deeds`.
    """

    visit: Visit
    explaining: Explaining
    policy: Callable[[], Policy]
    clock: Callable[[], datetime]
    seconds: float
    """How long PKB has to answer a person."""

    async def resolve(self, task: str, outcome: Literal["applied", "rejected"], by: str) -> None:
        """See the port."""
        try:
            await self.visit.resolve(Resolution(task, outcome, by, self.clock()))
        except (NotResolved, JournalUnavailable, StateUnavailable, OSError) as error:
            raise Undone(str(error)) from error

    async def block(self, partner: str, customer: str | None, by: str) -> bool:
        """See the port."""
        wish = self._wish(partner, customer, by)
        if partner not in self.policy().partners or (customer and customer not in self.policy().customers):
            raise Undone("The grants file in force knows no such partner or customer; nothing was changed.")
        try:
            async with self.visit.store() as store:
                return await blocks.put(wish, Blocks(store.database), self.visit.journal)
        except (NotDone, StateUnavailable, OSError) as error:
            raise Undone(str(error)) from error

    async def unblock(self, partner: str, customer: str | None, by: str) -> bool:
        """See the port."""
        wish = self._wish(partner, customer, by)
        try:
            async with self.visit.store() as store:
                return await blocks.lift(wish, Blocks(store.database), self.visit.journal)
        except (NotDone, StateUnavailable, OSError) as error:
            raise Undone(str(error)) from error

    async def explain(self, asked: Asked, by: str) -> Answered:
        """See the port."""
        try:
            question = _in_words(asked).question(self.policy())
            explained = await self.explaining.live(question, asked.appointment, by, self.seconds)
        except NotUnderstood as error:
            raise Undone(str(error)) from error
        except UpstreamFault as fault:
            raise Undone(f"PKB could not be read ({fault.code}): {fault.reason}") from fault
        except JournalUnavailable as error:
            raise Undone(f"It cannot be put on record, so it is not shown: {error}") from error
        return _answered(explained)

    def _wish(self, partner: str, customer: str | None, by: str) -> Wish:
        for name in (partner, customer):
            try:
                spelling.identifier(partner if name is None else name)
            except ValueError as error:
                raise Undone(str(error)) from error
        return Wish(partner, customer, by, self.clock())


def _in_words(asked: Asked) -> AskedInWords:
    """Read a form. Raises NotUnderstood."""
    if asked.operation not in set(Operation):
        raise NotUnderstood("choose an operation")
    for name, given in (("partner", asked.partner), ("customer", asked.customer)):
        try:
            spelling.identifier(given)
        except ValueError as error:
            raise NotUnderstood(f"{name}: {error}") from error
    if not _is_id(asked.appointment):
        raise NotUnderstood("appointment: an id of letters, digits, hyphens and dots is needed, at most 64")
    said = Words(
        asked.reason or None,
        asked.start or None,
        asked.end or None,
        ANY_TEXT if "comment" in asked.fields else None,
        ANY_TEXT if "location" in asked.fields else None,
        ANY_URL if "managementUrl" in asked.fields else None,
        asked.patient or None,
        asked.birth_date or None,
    )
    who = Claimant(asked.partner, asked.customer)
    return AskedInWords(who, Operation(asked.operation), said, asked.at or None, asked.version or None)


def _is_id(text: str) -> bool:
    return 0 < len(text) <= 64 and text.isascii() and all(each.isalnum() or each in "-." for each in text)


def _answered(explained: Explained) -> Answered:
    decision, command = explained.trial.decision, explained.question.command
    grant = decision.grant
    wanted = isinstance(decision, Permit) and grant is not None and grant.patient_required
    return Answered(
        decision,
        explained.now,
        explained.policy.digest,
        explained.trial.unasked,
        wanted and not isinstance(command, Read) and not command.claim.complete,
    )
