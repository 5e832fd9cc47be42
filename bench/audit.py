"""How fast a million audit records are verified, and decided again: python -m bench.audit [RECORDS].

The records are as the gateway writes them, in as many chains as four workers have. The commands run as an auditor would
run them, as processes of their own. Processor seconds are those of the command and of all that it starts.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.reload import grants_text
from bench.replay import GRANTS, record
from gateway.domain.chain import FIRST_PREV, checkpoint_message
from gateway.storage.journal_chain import ChainSettings, Signer
from gateway.storage.journal_files import segment_name
from gateway.storage.journal_records import placed

RECORDS: Final = 1_000_000
CHAINS: Final = 4
VERIFY_SECONDS: Final = 20.0
REPLAY_RATE: Final = 20_000
PROCESSORS: Final = 2
"""What the targets are for."""
KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(32))

_sorted: Final = msgspec.json.Encoder(order="sorted").encode
_as_written: Final = msgspec.json.encode


def contents(count: int, first: int) -> Iterator[dict[str, Any]]:
    """What a chain of so many records holds, its checkpoints left out."""
    yield {"event": "start", "chains": [], "torn": []}
    for n in range(first, first + count - 1):
        told = record(n)
        yield {name: value for name, value in told.items() if name not in ("v", "chain", "seq", "time", "prev", "hash")}


def write_chain(folder: Path, number: int, count: int) -> None:
    """Write a chain as a journal does, without waiting for the disk."""
    chain, settings, signer = f"20260601T0900{number:02d}Z-{number:08x}", ChainSettings(folder), Signer("bench", KEY)
    seq, prev, part, size, lines = 1, FIRST_PREV, 1, 0, list[bytes]()

    def add(content: dict[str, Any]) -> None:
        nonlocal seq, prev, size
        whole = placed(content, chain, seq, f"2026-06-01T09:{seq // 60_000 % 60:02d}:{seq // 1000 % 60:02d}.000000Z")
        whole["prev"] = prev
        prev = whole["hash"] = hashlib.sha256(_sorted(whole)).hexdigest()
        lines.append(_as_written(whole) + b"\n")
        size += len(lines[-1])
        seq += 1

    def flush() -> None:
        nonlocal part, size
        (folder / segment_name(chain, part)).write_bytes(b"".join(lines))
        lines.clear()
        part, size = part + 1, 0

    for content in contents(count - count // settings.checkpoint_records, number * count):
        add(content)
        if seq % settings.checkpoint_records == 0:
            signature = signer.sign(checkpoint_message(chain, seq, prev))
            add({"event": "checkpoint", "signature": signature, "kid": signer.kid})
        if size >= settings.segment_bytes:
            flush()
    flush()


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command took."""

    out: str
    seconds: float
    busy: float
    """Processor seconds."""
    megabytes: float
    """The most that one of its processes held."""


def run(*words: str) -> Ran:
    """Run a verb of the command line."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "gateway", *words], stdout=subprocess.PIPE)
    assert process.stdout is not None
    out = process.stdout.read().decode()
    # Of this child and its own children alone, not of those that wrote the records.
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{words[:2]} ended with status {process.returncode}: {out[-500:]}")
    return Ran(out, time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def prepare(folder: Path, count: int) -> tuple[Path, Path, Path]:
    """Write the records, the key and another grants file."""
    audit, keys, grants = folder / "audit", folder / "audit.jwks.json", folder / "grants.toml"
    audit.mkdir()
    with ProcessPoolExecutor(PROCESSORS) as pool:
        list(pool.map(write_chain, repeat(audit), range(CHAINS), repeat(count // CHAINS)))
    public = Signer("bench", KEY).key.public_key().public_bytes_raw()
    x = msgspec.json.encode(public).decode().strip('"').rstrip("=").replace("+", "-").replace("/", "_")
    keys.write_text(json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "bench", "x": x}]}))
    grants.write_text(grants_text(GRANTS))
    return audit, keys, grants


def main() -> None:
    """Print both measurements; exit with 1 where a target would be missed on two processors of its own."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    with tempfile.TemporaryDirectory() as place:
        # Before anything large is in this process: its memory would count as that of the child until that begins.
        audit, keys, grants = prepare(Path(place), count)
        size = sum(path.stat().st_size for path in audit.iterdir())
        print(
            f"{count} records, {size / 1e6:.0f} MB in {len(list(audit.iterdir()))} files, load {os.getloadavg()[0]:.1f}"
        )
        checked = run("audit", "verify", str(audit), "--keys", str(keys), "--json")
        assert json.loads(checked.out)["good"]
        again = run("grants", "replay", "--against", str(grants), str(audit), "--json")
        decided = json.loads(again.out)
    share = RECORDS / count
    print(
        f"audit verify: {checked.seconds:.1f} s, {checked.busy:.1f} s of processors, a process"
        f" {checked.megabytes:.0f} MiB at most (target {VERIFY_SECONDS:.0f} s for a million on {PROCESSORS} processors)"
    )
    rate, alone = decided["requests"] / again.seconds, decided["requests"] / (again.busy / PROCESSORS)
    print(
        f"grants replay: {decided['requests']} decisions in {again.seconds:.1f} s, {rate:.0f}/s;"
        f" {again.busy:.1f} s of processors, {alone:.0f}/s on {PROCESSORS} of its own (target {REPLAY_RATE}/s)"
    )
    sys.exit(checked.busy * share / PROCESSORS > VERIFY_SECONDS or alone < REPLAY_RATE)


if __name__ == "__main__":
    main()
