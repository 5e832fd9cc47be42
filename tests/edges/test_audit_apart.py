"""Files of a chain that are verified apart must be judged as if they had been read in order."""

import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.domain.chain_check import Named, Sound
from gateway.storage import verification
from gateway.storage.stretches import _stretch, follow_apart, join, processes_for
from gateway.storage.verification import Report, verify
from tests.edges.audit_folders import FIRST, SECOND, signed_folder, two_chains, write_chain
from tests.edges.journal_bench import SIGNER, Bench

KEYS = {SIGNER.kid: SIGNER.key.public_key()}


def both(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    keys: Mapping[str, Ed25519PublicKey] | None = None,
    checkpoints: Mapping[str, list[Named]] | None = None,
) -> Report:
    """Verify in order and apart, here in one process; both must say the same."""
    monkeypatch.setattr(verification, "follow_apart", lambda parts, *_: [_stretch(part) for part in parts])
    apart = verify([folder], keys=keys, checkpoints=checkpoints, processes=2)
    assert apart == verify([folder], keys=keys, checkpoints=checkpoints, processes=1)
    return apart


def long_chain(folder: Path) -> None:
    """Two chains of several files, of which the second names the first."""
    reads = [{"event": "read", "appointment": str(n)} for n in range(11)]
    hashes = write_chain(folder, FIRST, [{"event": "start", "chains": [], "torn": []}, *reads], split=3)
    named = [{"chain": FIRST, "seq": 12, "hash": hashes[-1]}]
    write_chain(folder, SECOND, [{"event": "start", "chains": named, "torn": []}, *reads], split=5)


def test_sound_chains_are_sound_in_several_processes(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    long_chain(folder)
    report = verify([folder], processes=2)
    assert report == verify([folder], processes=1)
    assert [(each.chain, each.records) for each in report.chains] == [(FIRST, 12), (SECOND, 12)]


def test_files_that_hold_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "audit"
    long_chain(folder)
    in_order = verify([folder], processes=1)
    monkeypatch.delattr(verification, "follow")
    assert verify([folder], processes=2) == in_order


def damage(folder: Path, chance: random.Random) -> None:
    """Do to some file what somebody might."""
    files = sorted(folder.iterdir())
    path = chance.choice(files)
    lines = path.read_bytes().splitlines(keepends=True)
    at = chance.randrange(len(lines))
    match chance.randrange(8):
        case 0:
            lines[at] = lines[at].replace(b'"read"', b'"reed"').replace(b'"start"', b'"stort"')
        case 1:
            del lines[at]
        case 2:
            lines.insert(at, lines[chance.randrange(len(lines))])
        case 3:
            chance.shuffle(lines)
        case 4:
            lines = lines[:at]
        case 5:
            lines[at] = lines[at][: chance.randrange(len(lines[at]))]
        case 6:
            other = chance.choice(files)
            content = other.read_bytes()
            other.write_bytes(path.read_bytes())
            path.write_bytes(content)
            return
        case _:
            path.unlink()
            return
    path.write_bytes(b"".join(lines))


def test_whatever_was_done_to_the_files_is_told_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "audit"
    long_chain(whole)
    bad = 0
    for seed in range(250):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        chance = random.Random(seed)
        for _ in range(chance.choice([1, 1, 2])):
            if list(folder.iterdir()):
                damage(folder, chance)
        bad += bool(both(folder, monkeypatch).bad)
    assert bad > 200


def test_a_torn_tail_is_taken_at_the_end_of_a_chain_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "audit"
    long_chain(folder)
    inner, last = folder / f"{FIRST}.000001.jsonl", folder / f"{FIRST}.000004.jsonl"
    torn = [{"file": path.name, "offset": path.stat().st_size, "length": 4} for path in (inner, last)]
    write_chain(folder, "20261122T140000Z-00000003", [{"event": "start", "chains": [], "torn": torn}])
    last.write_bytes(last.read_bytes() + b'{"v"')
    (first, *_) = both(folder, monkeypatch).chains
    assert isinstance(first, Sound)
    assert first.torn == 4
    inner.write_bytes(inner.read_bytes() + b'{"v"')
    assert [each.what for each in both(folder, monkeypatch).bad] == ["torn"]


async def test_signatures_and_checkpoints_kept_aside_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench: Bench = await signed_folder(tmp_path)
    chain = bench.records[0]["chain"]
    assert not both(bench.directory, monkeypatch, KEYS).bad
    strangers = {SIGNER.kid: Ed25519PublicKey.from_public_bytes(bytes(32))}
    assert [each.what for each in both(bench.directory, monkeypatch, strangers).bad] == ["bad signature"]
    beyond = {chain: [Named(99, "mine", None, "0" * 64)]}
    assert [each.what for each in both(bench.directory, monkeypatch, KEYS, beyond).bad] == ["cut tail"]
    within = {chain: [Named(2, "mine", None, "1" * 64)]}
    assert [each.what for each in both(bench.directory, monkeypatch, KEYS, within).bad] == ["replaced"]


def test_small_folders_are_not_worth_a_second_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_chains(tmp_path / "audit")
    files = sorted((tmp_path / "audit").iterdir())
    assert processes_for(files) == 1
    monkeypatch.setattr("gateway.storage.stretches._MUCH", 1)
    monkeypatch.setattr("threading.active_count", lambda: 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    assert processes_for(files) == 3
    monkeypatch.setattr("threading.active_count", lambda: 2)
    assert processes_for(files) == 1


def test_what_nobody_could_follow_is_read_in_order() -> None:
    assert join([None]) is None
    assert follow_apart([], 2) == []
