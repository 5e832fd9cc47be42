"""The story of a write, joined to store, audit stream and PKB."""

import contextlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from gateway.admin.metrics import Metrics
from gateway.app.background import run_beside
from gateway.app.grants import Registry, utc_now
from gateway.configuration.settings import Settings
from gateway.flow import records
from gateway.flow.arrears import Arrears
from gateway.flow.caretaker import Caretaker
from gateway.flow.chains import Chains
from gateway.flow.look import Looks
from gateway.flow.open_writes import OpenWrites
from gateway.flow.places import Places
from gateway.flow.ports import Journal, StateUnavailable, Upstream
from gateway.flow.replays import Replays
from gateway.flow.store import Store
from gateway.flow.watching import StageObserver
from gateway.flow.write import Writes

_log = structlog.get_logger("pkb_gateway")


@dataclass(frozen=True, slots=True)
class WriteSide:
    """All that carries writes out and looks after them."""

    writes: Writes
    looks: Looks
    open_writes: OpenWrites
    caretaker: Caretaker
    arrears: Arrears

    async def begin(self, stack: AsyncExitStack) -> None:
        """Take up what was left open, and look after it until the stack is closed."""
        stack.push_async_callback(self._close)
        await self.caretaker.begin()
        run_beside(self.caretaker.run(), stack)

    async def _close(self) -> None:
        """Stop following what is open; whoever starts next goes on with it."""
        await self.open_writes.close()
        await self.arrears.close()
        with contextlib.suppress(StateUnavailable):
            await self.caretaker.tell_ends()


def write_side(
    settings: Settings,
    registry: Registry,
    upstream: Upstream,
    journal: Journal,
    store: Store,
    chains: Chains,
    veil: records.Veil,
    metrics: Metrics,
    stages: StageObserver,
) -> WriteSide:
    """Join the parts."""
    limits, policy = settings.limits, registry.policy

    def surprise(event: str, record: records.Record) -> None:
        _log.error("surprise at PKB", alarm=event, task=record["task"], appointment=record["appointment"])
        metrics.alarm(event)

    def notice(event: str, told: Mapping[str, object]) -> None:
        _log.warning(event, **told)

    arrears = Arrears()
    open_writes = OpenWrites(
        upstream,
        journal,
        store,
        arrears,
        lambda: policy().customers,
        utc_now,
        settles_after=limits.write_settles_after,
        unresolved_after=limits.unresolved_after.unknown,
        accepted_after=limits.unresolved_after.accepted,
        alarm=surprise,
        veil=veil,
    )
    caretaker = Caretaker(store, journal, chains, open_writes, notice)
    replays = Replays(policy, upstream, journal, open_writes, veil, utc_now)
    places = Places(store)
    writes = Writes(
        policy,
        upstream,
        journal,
        store,
        arrears,
        veil,
        utc_now,
        open_writes,
        replays,
        places,
        caretaker.pass_for_now,
        current=registry.current,
        stages=stages,
    )
    looks = Looks(policy, upstream, journal, store, veil, utc_now, stages)
    return WriteSide(writes, looks, open_writes, caretaker, arrears)
