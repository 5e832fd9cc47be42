"""What the whole of England's outpatient appointments would need, reckoned from what one request was found to cost."""

import math
from dataclasses import dataclass

from bench.speed.findings import Findings

APPOINTMENTS = 130_000_000
"""A year."""
PEAK = 50
"""Times the mean."""
SECONDS = 365 * 24 * 3600
READS = 4.0
WRITES = 1.0
TOKENS = 0.1
"""Requests for one appointment: each is looked at four times and cancelled or changed once, and a token serves ten."""
BUSY = 0.6
"""The share of a processor that is planned for at the peak."""
RATE = 100.0
"""The rate at which bytes and syncs of each kind of request were counted."""

MIX = {"read": READS, "cancel": WRITES, "token": TOKENS}


@dataclass(frozen=True, slots=True)
class Sizing:
    """The answer."""

    mean: float
    """Requests a second."""
    peak: float
    cores_mean: float
    cores_peak: float
    workers: int
    """At the peak, each busy for the planned share of one processor."""
    memory: float
    """MiB, resident, of these workers together."""
    audit_day: float
    """GiB on an average day."""
    audit_year: float
    """GiB."""
    syncs_peak: float
    """A second, at the number of syncs per request found at the lower rate: an upper limit, since they are shared."""


def sizing(found: Findings) -> Sizing | None:
    """Reckon; None where a cost was not measured."""
    cpu = {kind: found.cpu("gateway", kind) for kind in MIX}
    left = {kind: found.record(kind, RATE) for kind in MIX}
    idle = max((each.idle for each in found.starts), default=None)
    if idle is None or any(cost is None for cost in cpu.values()) or any(each is None for each in left.values()):
        return None
    each_year = APPOINTMENTS * sum(MIX.values())
    seconds = sum(share * (cpu[kind] or 0.0) / 1e6 for kind, share in MIX.items())
    records = {kind: each for kind, each in left.items() if each is not None}
    audit = sum(share * records[kind].audit_bytes for kind, share in MIX.items())
    syncs = sum(share * records[kind].syncs for kind, share in MIX.items())
    per_second = APPOINTMENTS / SECONDS
    cores = per_second * seconds
    workers = max(1, math.ceil(cores * PEAK / BUSY))
    return Sizing(
        mean=each_year / SECONDS,
        peak=each_year / SECONDS * PEAK,
        cores_mean=cores,
        cores_peak=cores * PEAK,
        workers=workers,
        memory=workers * idle,
        audit_day=APPOINTMENTS * audit / 365 / 2**30,
        audit_year=APPOINTMENTS * audit / 2**30,
        syncs_peak=per_second * PEAK * syncs,
    )
