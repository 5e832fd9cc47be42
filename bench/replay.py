"""How fast recorded requests are decided again: python -m bench.replay [RECORDS]."""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from bench.reload import grants_text
from gateway.cli.replay import replay_files
from gateway.configuration.grants import GrantsReader
from gateway.domain.appointment import Change
from gateway.domain.rules import rules_for

TARGET = 20_000
GRANTS = 2_000
GATE = ("partner-active", "granted", "grant-begun", "grant-not-ended", "operation-granted", "appointment-exists")
RULES = (*GATE, *(rule.name for rule in rules_for(Change())))


def record(n: int) -> dict[str, object]:
    """An intent as the journal writes it, mostly permitted."""
    customer, late = n % (GRANTS // 10), n % 3 == 2
    return {
        "v": 1, "chain": "20260601T090000-bench", "seq": n + 1, "time": "2026-06-01T09:00:00.000000Z",
        "event": ("intent", "read", "refused")[n % 3], "request_id": f"00000000-0000-4000-8000-{n:012d}",
        "correlation_id": None, "partner": f"p{n % 10}", "customer": f"c{customer}", "grant": f"g{customer}",
        "grants_digest": "0" * 64, "operation": ("change", "read", "cancel")[n % 3], "appointment": f"a-{n}",
        "patient": "k1:" + 43 * "A", "decision": ("permit", "permit", "refuse")[n % 3],
        "code": "too-late" if late else None,
        "checks": [[rule, not (late and rule == "notice-kept")] for rule in RULES],
        "facts": {
            "owner": [f"c{customer}"], "status": "booked", "start": f"2026-0{6 if late else 7}-02T09:00:00+01:00",
            "labels": ["GENERAL_HEALTH"], "specialties": ["http://snomed.info/sct|394579002"],
            "fields": ["end", "start"], "new_start": "2026-07-02T09:00:00+01:00", "patient": "match",
        },
        "reason": "pat", "intent": None, "outcome": None, "final": None, "recovered": None, "task": f"t-{n}",
        "upstream": {"route": "box", "status": None, "version_before": "7", "version_after": None},
        "change": None, "shadow": None, "operator": None,
        "token": {"iss": "https://gateway.example", "jti": f"j-{n}", "kid": "k"}, "client": "127.0.0.1",
        "now": "2026-06-01T09:00:00.000000Z", "duration_ms": 7, "prev": "0" * 64, "hash": "1" * 64,
    }  # fmt: skip


def main() -> None:
    """Print decisions a second; exit with 1 when they would be too few on a processor of their own."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as folder:
        grants = Path(folder) / "grants.toml"
        grants.write_text(grants_text(GRANTS))
        policy = GrantsReader(grants, secrets=False, key_files=False).load().policy
        audit = Path(folder) / "bench.jsonl"
        with audit.open("w") as file:
            for n in range(count):
                file.write(json.dumps(record(n), separators=(",", ":")) + "\n")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, busy = time.perf_counter(), time.process_time()
        tally = replay_files([audit], policy, lambda _: None, processes=1)
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    rate = tally.requests / seconds
    told = {each.value: number for each, number in tally.found.items()}
    print(f"on a processor of its own: {tally.requests / busy:.0f}/s")
    print(f"{tally.requests} decisions in {seconds:.1f} s: {rate:.0f}/s (target {TARGET}); {told}; +{grown:.0f} MiB")
    sys.exit(tally.requests / busy < TARGET)


if __name__ == "__main__":
    main()
