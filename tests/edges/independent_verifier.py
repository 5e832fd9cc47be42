"""A second verifier of journals, which shares nothing with the gateway's."""

import hashlib
import json
from pathlib import Path

import rfc8785


def independent_verdict(folder: Path) -> bool:
    """Verify a folder a second time with nothing of the gateway's: RFC 8785 by a library, SHA-256, and this."""
    chains: dict[str, dict[int, str]] = {}
    named: list[tuple[str, int, str]] = []
    torn: set[tuple[str, int, int]] = set()
    found_torn: set[tuple[str, int, int]] = set()
    position: dict[str, tuple[int, str]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            found_torn.add((path.name, whole, len(data) - whole))
        for line in data[:whole].split(b"\n")[:-1]:
            try:
                pairs = json.loads(line.decode(), object_pairs_hook=list)
                record = json.loads(line.decode())
                names = [name for name, _ in pairs]
                digest = record.pop("hash")
                chain, seq, prev = record["chain"], record["seq"], record["prev"]
                compact = json.dumps({**record, "hash": digest}, ensure_ascii=False, separators=(",", ":"))
                if len(set(names)) != len(names) or compact.encode() != line or type(seq) is not int:
                    return False
                if hashlib.sha256(rfc8785.dumps(record)).hexdigest() != digest:
                    return False
            except (ValueError, KeyError, TypeError, RecursionError):
                return False
            if (seq - 1, prev) != position.get(chain, (0, "0" * 64)) or not path.name.startswith(chain):
                return False
            position[chain] = (seq, digest)
            chains.setdefault(chain, {})[seq] = digest
            if record["event"] == "start":
                named += [(each["chain"], each["seq"], each["hash"]) for each in record["chains"]]
                torn |= {(each["file"], each["offset"], each["length"]) for each in record["torn"]}
    return found_torn <= torn and all(chains.get(chain, {}).get(seq) == digest for chain, seq, digest in named)
