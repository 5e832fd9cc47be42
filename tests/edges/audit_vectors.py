"""Write docs/vectors/audit: small audit folders, some good and each of the others bad in one way.

python -m tests.edges.audit_vectors
"""

import asyncio
import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.domain.chain import seal
from gateway.storage.journal_chain import Signer
from gateway.storage.journal_records import placed
from gateway.storage.removal import AuditRetention
from tests.edges.journal_bench import Bench

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "vectors" / "audit"
SIGNER: Final = Signer("vectors-1", Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
BEGUN: Final = datetime(2026, 1, 31, 23, 59, 58, tzinfo=UTC)
FIRST: Final = "20260131T235958Z-00000001"
SECOND: Final = "20260201T000001Z-00000002"
ONE, TWO, THREE = f"{FIRST}.000001.jsonl", f"{FIRST}.000002.jsonl", f"{SECOND}.000001.jsonl"
QUIET: Final = 60.0
"""The journal does nothing by itself."""


async def good(folder: Path) -> None:
    """One run over midnight, and a second one that names it."""
    bench = Bench(folder)
    bench.clock.now = BEGUN
    async with bench.journal(signer=SIGNER, patience=QUIET) as journal:
        await journal.write({"event": "read", "partner": "swiftbook", "customer": "airedale", "appointment": "a-1"})
        await journal.write({"event": "refused", "partner": "swiftbook", "code": "too-late", "decision": "refuse"})
        bench.clock.advance(seconds=2.0)
        await journal.write({"event": "read", "partner": "swiftbook", "customer": "airedale", "appointment": "a-2"})
    bench.clock.advance(seconds=1.0)
    async with bench.journal(signer=SIGNER, patience=QUIET) as journal:
        await journal.write({"event": "blocked", "operator": "Zoë O’Neill", "partner": "swiftbook"})


def changed(name: str, how: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        lines = (folder / name).read_bytes().splitlines(keepends=True)
        (folder / name).write_bytes(b"".join(how(lines)))

    return apply


def inserted(folder: Path) -> None:
    """A record with a good hash of its own, between two."""

    def add(lines: list[bytes]) -> list[bytes]:
        before = json.loads(lines[2])
        extra = seal(placed({"event": "read"}, FIRST, 4, before["time"]), before["hash"]).line
        return [*lines[:3], extra, *lines[3:]]

    changed(ONE, add)(folder)


def rewritten(folder: Path) -> None:
    """The last chain made anew from its fourth record on, by somebody without the signing key."""

    def again(lines: list[bytes]) -> list[bytes]:
        made, prev = lines[:2], json.loads(lines[1])["hash"]
        for line in lines[2:]:
            record = json.loads(line)
            told = {name: value for name, value in record.items() if name not in ("prev", "hash")}
            told |= {"partner": "viewonly"} if told["event"] == "blocked" else {}
            sealed = seal(told, prev)
            made, prev = [*made, sealed.line], sealed.hash
        return made

    changed(THREE, again)(folder)


def no_first_chain(folder: Path) -> None:
    (folder / ONE).unlink()
    (folder / TWO).unlink()


def torn(folder: Path) -> None:
    changed(THREE, lambda lines: [*lines, lines[-1][:40]])(folder)


async def torn_and_named(folder: Path) -> None:
    """Half a line as a power cut leaves it, and the start record of the next run, which names it."""
    torn(folder)
    bench = Bench(folder)
    bench.clock.now, bench.disk.ids = BEGUN + timedelta(hours=1), 2
    async with bench.journal(signer=SIGNER, patience=QUIET):
        pass


async def removed_on_record(folder: Path) -> None:
    """The first file of the first chain was removed after its time."""
    bench = Bench(folder)
    bench.clock.now, bench.disk.ids = BEGUN + timedelta(days=31), 2
    async with bench.journal(signer=SIGNER, chain={"checkpoint_records": 1}, patience=QUIET) as journal:
        keep = timedelta(days=31) - timedelta(seconds=1)
        assert await AuditRetention(folder, keep, journal, bench.clock, signed=True).clean() == 1


@dataclass(frozen=True, slots=True)
class Vector:
    """How a folder came to be, and what is wrong with it: file and line where the fault shows, the chain's `seq`."""

    make: Callable[[Path], object]
    what: str | None
    chain: str | None = None
    seq: int | None = None
    file: str | None = None
    line: int | None = None
    needs: tuple[str, ...] = ()
    """What it takes to see it: `keys`, `checkpoints`."""


VECTORS: Final[dict[str, Vector]] = {
    "good": Vector(lambda _: None, None),
    "edited": Vector(
        changed(ONE, lambda x: [*x[:2], x[2].replace(b'"a-1"', b'"a-9"'), *x[3:]]), "edited", FIRST, 3, ONE, 3
    ),
    "removed": Vector(changed(ONE, lambda x: [*x[:2], *x[3:]]), "removed", FIRST, 3, ONE, 3),
    "inserted": Vector(inserted, "inserted", FIRST, 5, ONE, 5),
    "repeated": Vector(changed(ONE, lambda x: [*x[:3], x[2], x[3]]), "inserted", FIRST, 4, ONE, 4),
    "reordered": Vector(changed(ONE, lambda x: [x[0], x[2], x[1], x[3]]), "reordered", FIRST, 2, ONE, 2),
    "missing-chain": Vector(no_first_chain, "missing chain", FIRST, 1),
    "missing-file": Vector(lambda f: (f / ONE).unlink(), "removed", FIRST, 1, TWO, 1),
    "cut-tail": Vector(changed(TWO, lambda x: x[:-1]), "cut tail", FIRST, 7, TWO, 2),
    "cut-newest": Vector(changed(THREE, lambda x: x[:-2]), "cut tail", SECOND, 4, THREE, 3, needs=("checkpoints",)),
    "torn": Vector(torn, "torn", SECOND, 6, THREE, 6),
    "torn-and-named": Vector(torn_and_named, None),
    "rewritten": Vector(rewritten, "bad signature", SECOND, 5, THREE, 5, needs=("keys",)),
    "removed-on-record": Vector(removed_on_record, None),
    "removed-beyond-record": Vector(removed_on_record, "removed", FIRST, 1, TWO, 1),
}


def jwks() -> str:
    x = base64.urlsafe_b64encode(SIGNER.key.public_key().public_bytes_raw()).rstrip(b"=").decode()
    return json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": SIGNER.kid, "x": x}]}, indent=1) + "\n"


def write(folder: Path) -> None:
    """Make every vector."""
    with TemporaryDirectory() as place:
        first = Path(place) / "good"
        asyncio.run(good(first))
        for name, vector in VECTORS.items():
            shutil.copytree(first, folder / name)
            made = vector.make(folder / name)
            if asyncio.iscoroutine(made):
                asyncio.run(made)
    # One record of a further file is gone, which no statement covers.
    beyond = folder / "removed-beyond-record" / TWO
    lines = beyond.read_bytes().splitlines(keepends=True)
    beyond.write_bytes(b"".join(lines[1:]))
    kept = [
        line
        for path in sorted((folder / "good").glob("*.jsonl"))
        for line in path.read_bytes().splitlines(keepends=True)
        if b'"event":"checkpoint"' in line
    ]
    (folder / "checkpoints.jsonl").write_bytes(b"".join(kept))
    (folder / "audit.jwks.json").write_text(jwks(), encoding="ascii")
    names = ("what", "chain", "seq", "file", "line")
    told = {
        name: {**{each: getattr(vector, each) for each in names}, "needs": list(vector.needs)}
        for name, vector in VECTORS.items()
    }
    (folder / "expected.json").write_text(json.dumps(told, indent=1) + "\n", encoding="ascii")
    for lock in folder.rglob(".removal.lock"):
        lock.unlink()


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    write(FOLDER)
