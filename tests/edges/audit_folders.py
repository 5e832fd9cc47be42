"""Audit folders to verify: two chains made by hand, or one that a journal signed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from gateway.cli.audit import audit
from gateway.domain.chain import FIRST_PREV, seal
from gateway.storage.journal_chain import Signer
from gateway.storage.journal_records import placed
from tests.edges.journal_bench import SIGNER, Bench


def write_chain(folder: Path, chain: str, contents: Sequence[dict[str, Any]], split: int = 10**9) -> list[str]:
    """Seal records into files as the journal does, `split` to a file; gives the hashes."""
    folder.mkdir(exist_ok=True)
    prev, hashes, lines = FIRST_PREV, [], list[bytes]()
    for seq, content in enumerate(contents, 1):
        sealed = seal(placed(content, chain, seq, "2026-11-22T12:00:00.000000Z"), prev)
        prev = sealed.hash
        hashes.append(prev)
        lines.append(sealed.line)
    for number, start in enumerate(range(0, len(lines), split), 1):
        (folder / f"{chain}.{number:06d}.jsonl").write_bytes(b"".join(lines[start : start + split]))
    return hashes


FIRST = "20261122T120000Z-00000001"
SECOND = "20261122T130000Z-00000002"


def two_chains(folder: Path) -> None:
    """The first chain over two files, and a second one that names it."""
    reads = [{"event": "read", "appointment": str(n)} for n in range(1, 8)]
    hashes = write_chain(folder, FIRST, [{"event": "start", "chains": [], "torn": []}, *reads], split=5)
    named = [{"chain": FIRST, "seq": 8, "hash": hashes[-1]}]
    write_chain(folder, SECOND, [{"event": "start", "chains": named, "torn": []}, *reads])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(audit, ["verify", *map(str, arguments)])


async def signed_folder(tmp_path: Path, signer: Signer | None = SIGNER) -> Bench:
    bench = Bench(tmp_path / "signed")
    async with bench.journal(signer=signer) as journal:
        for n in range(3):
            await journal.write({"event": "read", "appointment": str(n)})
    return bench
