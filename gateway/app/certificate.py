"""The certificate of the partner port while it changes: its files are followed, and a bad one changes nothing."""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from gateway.app.background import run_beside
from gateway.configuration.secret import read_again
from gateway.configuration.settings import TlsSettings
from gateway.partner.tls import Identity, TlsProblem, context, replace

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the files. What two looks in a row have found counts."""
SOON: Final = timedelta(days=14)
"""Before the end of a certificate: by then whatever renews it should have."""

_log = structlog.get_logger("pkb_gateway")


@dataclass(slots=True)
class Certificate:
    """What the partner port shows. `count` is told every surprise."""

    settings: TlsSettings
    context: ssl.SSLContext
    clock: Callable[[], datetime]
    count: Callable[[str], None]
    shown: Identity
    problem: str | None = None
    """Why what is in the files now is not in use."""
    _seen: Identity | str | None = None

    @property
    def ends(self) -> datetime:
        """Until when what partners see is good."""
        return self.shown.ends()

    @property
    def degraded(self) -> tuple[str, ...]:
        """`certificate`, where the files are no use or the certificate ends soon."""
        ends_soon = self.shown.ends() - self.clock() < SOON
        return ("certificate",) if self.problem is not None or ends_soon else ()

    async def run(self) -> None:
        """Follow the files until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                self.look(await asyncio.to_thread(self._read))
            except Exception:  # noqa: BLE001 - a task's error would be lost, and following must outlive it
                _log.exception("certificate not read")

    def _read(self) -> Identity | str:
        try:
            return read_identity(self.settings)
        except ValueError as problem:
            return str(problem)

    def look(self, found: Identity | str) -> None:
        """Take what a look found, once the look before has found the same."""
        settled, self._seen = found == self._seen, found
        if not settled:
            return
        problem = found if isinstance(found, str) else self._show(found)
        if problem is not None and problem != self.problem:
            _log.error("certificate refused", problem=problem, in_use_until=self.shown.ends().isoformat())
            self.count("certificate-refused")
        self.problem = problem

    def _show(self, found: Identity) -> str | None:
        if found == self.shown:
            return None
        try:
            replace(self.context, found)
        except TlsProblem as problem:
            return str(problem)
        self.shown = found
        _log.info("certificate loaded", until=found.ends().isoformat())
        return None


def read_identity(settings: TlsSettings) -> Identity:
    """Read both files. Raises ValueError."""
    return Identity(read_again(settings.certificate).encode() + b"\n", read_again(settings.key).encode() + b"\n")


async def open_certificate(
    settings: TlsSettings | None, clock: Callable[[], datetime], count: Callable[[str], None], stack: AsyncExitStack
) -> Certificate | None:
    """Read the certificate and begin to follow its files. Raises ValueError for one that cannot be used."""
    if settings is None:
        return None
    shown = read_identity(settings)
    client_ca = None if settings.client_ca is None else settings.client_ca.reveal().encode()
    try:
        made = context(shown, client_ca)
    except TlsProblem as problem:
        raise ValueError(f"listen.tls: {problem}") from problem
    certificate = Certificate(settings, made, clock, count, shown)
    run_beside(certificate.run(), stack)
    return certificate
