"""The audit stream of a gateway: its journal, the second place for checkpoints, and how long files are kept."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from gateway.admin.metrics import Metrics
from gateway.app.grants import utc_now
from gateway.app.keys import read_audit_key
from gateway.configuration.settings import Settings
from gateway.flow.ports import JournalUnavailable
from gateway.storage.checkpoint_copy import CheckpointCopy
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings
from gateway.storage.removal import AuditRetention

DISK_SHARE: Final = 0.8
"""The part of a request's deadline that a record may wait for the disk."""
CLEAN_EVERY: Final = 3600.0
"""Seconds between two looks for files that are too old."""

_log = structlog.get_logger("pkb_gateway")


@dataclass(frozen=True, slots=True)
class Audit:
    """The journal of this process and what goes with it."""

    journal: Journal
    directory: Path
    signed: bool
    copy: CheckpointCopy | None

    @property
    def degraded(self) -> tuple[str, ...]:
        """Name what asks for a look."""
        return ("checkpoints",) if self.copy is not None and self.copy.trouble is not None else ()

    async def keep(self, keep: timedelta, alarm: Callable[[str], None]) -> None:
        """Remove files that are older than `keep`, now and every hour; never ends by itself."""
        retention = AuditRetention(self.directory, keep, self.journal, utc_now, signed=self.signed)
        while True:
            try:
                removed = await retention.clean()
            except (JournalUnavailable, OSError) as error:
                _log.error("audit files not removed", problem=str(error))
                alarm("audit-not-removed")
            else:
                if removed:
                    _log.info("audit files removed", files=removed)
            await asyncio.sleep(CLEAN_EVERY)


async def open_audit(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> Audit:
    """Start a chain; its start record is durable on return. Raises JournalUnavailable and ValueError."""
    audit = settings.audit
    signer = read_audit_key(audit.signing_key.reveal()) if audit.signing_key else None
    copy = None if audit.checkpoints is None else CheckpointCopy(audit.checkpoints, _copy_trouble(metrics.alarm))
    if copy is not None:
        # Closed after the journal, whose last record is a checkpoint.
        stack.push_async_callback(copy.close)

    def listen(lines: tuple[bytes, ...]) -> None:
        if copy is not None:
            copy.listen(lines)
        if audit.stdout:
            _to_stdout(lines)

    journal = await Journal.open(
        JournalSettings(
            ChainSettings(audit.directory),
            reserve=audit.reserve,
            process=audit.unauthenticated.process,
            client=audit.unauthenticated.client,
            # Who waits for a slow disk is answered before the deadline.
            wait=DISK_SHARE * settings.limits.deadline.total_seconds(),
        ),
        clock=utc_now,
        signer=signer,
        alarm=_tell_trouble,
        listener=listen if copy is not None or audit.stdout else None,
        watch=metrics.committed,
    )
    stack.push_async_callback(journal.close)
    return Audit(journal, audit.directory, signer is not None, copy)


def _tell_trouble(trouble: str | None) -> None:
    if trouble is None:
        _log.info("audit works again")
    else:
        _log.error("audit trouble", why=trouble)


def _copy_trouble(alarm: Callable[[str], None]) -> Callable[[str | None], None]:
    def tell(trouble: str | None) -> None:
        if trouble is None:
            _log.info("checkpoints are copied again")
        else:
            _log.error("checkpoints not copied", why=trouble)
            alarm("checkpoints-not-copied")

    return tell


def _to_stdout(lines: tuple[bytes, ...]) -> None:
    sys.stdout.buffer.writelines(lines)
    sys.stdout.buffer.flush()
