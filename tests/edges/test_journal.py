import asyncio
import fcntl
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from gateway.domain.grant import Rate
from gateway.flow.ports import JournalUnavailable
from gateway.storage.journal import Journal, JournalSettings
from gateway.storage.journal_chain import ChainSettings
from gateway.storage.signatures import signature_check
from gateway.storage.verification import read_checkpoints, verify
from tests.edges.journal_bench import SIGNER, Bench, eventually


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "audit")


def read(number: int) -> dict[str, object]:
    return {"event": "read", "appointment": str(number)}


async def test_a_chain_begins_with_start_and_ends_with_stop(bench: Bench) -> None:
    async with bench.journal() as journal:
        assert journal.healthy
        assert await journal.write(read(1)) == 2
    assert bench.events == ["start", "read", "stop"]
    assert [record["seq"] for record in bench.records] == [1, 2, 3]
    assert not verify([bench.directory]).bad


async def test_every_record_has_every_field_in_the_same_order(bench: Bench) -> None:
    async with bench.journal() as journal:
        await journal.write({"event": "refused", "code": "no-grant", "decision": "refuse"})
    start, refused, stop = bench.records
    # The names that the audit stream promises, in their order.
    names = [
        "v", "chain", "seq", "time", "event", "request_id", "correlation_id", "partner", "customer", "grant",
        "grants_digest", "operation", "appointment", "patient", "decision", "code", "checks", "facts", "reason",
        "intent", "outcome", "final", "recovered", "task", "upstream", "change", "shadow", "operator", "token",
        "client", "now", "duration_ms", "prev", "hash",
    ]  # fmt: skip
    assert list(refused) == list(stop) == names
    assert list(start) == [*names[:-2], "chains", "torn", *names[-2:]]
    assert refused["v"] == 1
    assert refused["time"] == "2026-11-22T12:00:00.000001Z"
    assert {name for name, value in refused.items() if value is None} == set(names) - {
        "v", "chain", "seq", "time", "event", "code", "decision", "prev", "hash",
    }  # fmt: skip


async def test_folder_and_files_are_the_gateways_alone(bench: Bench) -> None:
    old = os.umask(0)
    try:
        async with bench.journal():
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE(bench.directory.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in bench.files] == [0o600]
    assert list(bench.directory.iterdir()) == bench.files


async def test_a_file_carries_its_chain_in_its_name_and_is_locked_while_written(bench: Bench) -> None:
    async with bench.journal() as journal:
        assert bench.files[0].name == f"{journal.head.chain}.000001.jsonl"
        with bench.files[0].open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


async def test_a_thousand_callers_share_few_syncs_and_get_numbers_without_gap(bench: Bench) -> None:
    async with bench.journal() as journal:
        before = len(bench.disk.synced)
        numbers = await asyncio.gather(*(journal.write(read(n)) for n in range(1000)))
        assert sorted(numbers) == list(range(2, 1002))
        assert len(bench.disk.synced) - before < 50
    assert [record["appointment"] for record in bench.records[1:-1]] == [str(n) for n in range(1000)]
    assert not verify([bench.directory]).bad


async def test_the_loop_is_not_held_up_by_a_slow_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench.journal() as journal:
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(bench.disk, "broken", False)
        real = bench.disk.sync

        def slow(fd: int) -> None:
            asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(5)
            real(fd)

        monkeypatch.setattr(journal._writer._segment, "_sync", slow)
        writing = asyncio.create_task(journal.write(read(1)))
        await asyncio.sleep(0.05)
        assert not writing.done()
        gate.set()
        assert await writing == 2


async def test_a_note_is_in_the_chain_and_nobody_waits_for_it(bench: Bench) -> None:
    async with bench.journal() as journal:
        journal.note({"event": "grants-loaded", "grants_digest": "d"})
        assert await journal.write(read(1)) == 3
    assert bench.events == ["start", "grants-loaded", "read", "stop"]


async def test_a_caller_who_went_away_has_left_a_record(bench: Bench) -> None:
    async with bench.journal() as journal:
        writing = asyncio.create_task(journal.write(read(1)))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    assert bench.events == ["start", "read", "stop"]


@pytest.mark.parametrize(
    "record",
    [{"code": "x"}, {"event": None}, {"event": "read", "nhs": "1"}, {"event": "read", "seq": 7},
     {"event": "read", "signature": "x"}, {"event": "read", "facts": {"share": 0.5}},
     {"event": "read", "facts": {"text": "x" * 300_000}}],
    ids=["no event", "null event", "unknown field", "a field of the journal", "a field of another event",
         "a fraction", "too long"],
)  # fmt: skip
async def test_a_record_that_does_not_fit_is_refused_and_the_chain_goes_on(
    bench: Bench, record: dict[str, Any]
) -> None:
    async with bench.journal() as journal:
        refused, taken = await asyncio.gather(journal.write(record), journal.write(read(1)), return_exceptions=True)
        assert isinstance(refused, ValueError)
        assert taken == 2
    assert not verify([bench.directory]).bad


async def test_text_that_looks_like_lines_stays_in_its_record(bench: Bench) -> None:
    hostile = 'a\nb\r\u2028\u0085\x00\x7f😀\\u000a"'
    async with bench.journal() as journal:
        await journal.write({"event": "read", "appointment": hostile})
    lines = bench.files[0].read_bytes().split(b"\n")
    assert len(lines) == 4
    assert json.loads(lines[1])["appointment"] == hostile
    assert not verify([bench.directory]).bad


async def test_nothing_is_written_after_the_end(bench: Bench) -> None:
    async with bench.journal() as journal:
        pass
    with pytest.raises(JournalUnavailable):
        await journal.write(read(1))
    journal.note(read(2))
    await journal.close()
    assert not journal.healthy
    assert journal.trouble == "closed"
    assert bench.events == ["start", "stop"]


async def test_a_start_record_names_the_last_hash_of_every_chain(bench: Bench) -> None:
    async with bench.journal(), bench.journal() as living:
        number = await living.write(read(1))
        async with bench.journal():
            pass
    files = [[json.loads(line) for line in file.read_bytes().splitlines()] for file in bench.files]
    assert files[0][0]["chains"] == []
    assert files[2][0]["chains"] == [
        {"chain": files[0][0]["chain"], "seq": 1, "hash": files[0][0]["hash"]},
        {"chain": files[1][0]["chain"], "seq": number, "hash": files[1][number - 1]["hash"]},
    ]
    assert not verify([bench.directory]).bad


async def test_a_segment_is_followed_by_another_when_it_is_long_enough_or_the_day_is_over(bench: Bench) -> None:
    async with bench.journal(chain={"segment_bytes": 1500}) as journal:
        for n in range(6):
            await journal.write(read(n))
        assert len(bench.files) == 3
        bench.clock.advance(hours=12)
        await journal.write(read(7))
        assert len(bench.files) == 4
    assert bench.files[3].name.endswith(".000004.jsonl")
    assert [record["seq"] for record in bench.records] == list(range(1, 10))
    assert not verify([bench.directory]).bad


async def test_a_checkpoint_is_signed_at_the_start_every_so_often_and_at_the_end(bench: Bench, tmp_path: Path) -> None:
    async with bench.journal(signer=SIGNER, chain={"checkpoint_records": 3}) as journal:
        for n in range(4):
            await journal.write(read(n))
    assert bench.events == [
        "start", "checkpoint", "read", "read", "read", "checkpoint", "read", "stop", "checkpoint",
    ]  # fmt: skip
    keys = {SIGNER.kid: SIGNER.key.public_key()}
    for record in bench.records:
        if record["event"] == "checkpoint":
            message = rfc8785.dumps({name: record[name] for name in ("chain", "seq", "prev")})
            assert signature_check(keys)(record["kid"], message, record["signature"])
    assert not verify([bench.directory], keys=keys).bad
    kept = tmp_path / "checkpoint.json"
    kept.write_text(json.dumps(bench.records[-1], indent=2))
    assert not verify([bench.directory], keys=keys, checkpoints=read_checkpoints(kept, keys)).bad


async def test_a_quiet_chain_gets_its_checkpoint_too(bench: Bench) -> None:
    async with bench.journal(signer=SIGNER, chain={"checkpoint_seconds": 60}) as journal:
        await journal.write(read(1))
        bench.clock.advance(seconds=61)
        await eventually(lambda: bench.events[-1] == "checkpoint")
        # Nothing new has happened since, so nothing is signed again.
        bench.clock.advance(seconds=61)
        await asyncio.sleep(0.1)
        assert bench.events == ["start", "checkpoint", "read", "checkpoint"]


async def test_a_chain_that_is_never_quiet_gets_its_checkpoint_too(bench: Bench) -> None:
    async with bench.journal(signer=SIGNER, chain={"checkpoint_seconds": 60}, patience=60) as journal:
        await journal.write(read(1))
        bench.clock.advance(seconds=61)
        assert await journal.write(read(2)) == 4
        assert await journal.write(read(3)) == 6
        assert bench.events == ["start", "checkpoint", "read", "read", "checkpoint", "read"]
    assert not verify([bench.directory], keys={SIGNER.kid: SIGNER.key.public_key()}).bad


async def test_a_clock_that_was_set_back_does_not_put_the_next_checkpoint_off(bench: Bench) -> None:
    async with bench.journal(signer=SIGNER, chain={"checkpoint_seconds": 60}) as journal:
        bench.clock.advance(hours=-3)
        await journal.write(read(1))
        await eventually(lambda: bench.events == ["start", "checkpoint", "read", "checkpoint"])
        # Signed by the clock as it now is: from here on it counts as ever.
        await journal.write(read(2))
        await asyncio.sleep(0.1)
        assert bench.events[4:] == ["read"]
        bench.clock.advance(seconds=61)
        await eventually(lambda: bench.events[4:] == ["read", "checkpoint"])


async def test_listeners_hear_every_line_once_it_is_durable(bench: Bench) -> None:
    heard: list[bytes] = []
    settings = JournalSettings(ChainSettings(bench.directory))
    journal = await Journal.open(settings, clock=bench.clock, listener=heard.extend)
    await journal.write(read(1))
    late: list[bytes] = []
    deaf = journal.listen(late.extend)
    await journal.write(read(2))
    deaf()
    await journal.close()
    await asyncio.sleep(0)
    assert b"".join(heard) == bench.files[0].read_bytes()
    assert [json.loads(line)["seq"] for line in late] == [3]


async def test_every_durable_batch_is_told_with_its_time_and_its_records(bench: Bench) -> None:
    told: list[tuple[float, int]] = []

    def watch(seconds: float, records: int) -> None:
        told.append((seconds, records))
        raise RuntimeError("whoever counts may fail")

    settings = JournalSettings(ChainSettings(bench.directory))
    journal = await Journal.open(settings, clock=bench.clock, watch=watch)
    assert await asyncio.gather(*(journal.write(read(number)) for number in range(1, 6))) == [2, 3, 4, 5, 6]
    assert journal.healthy
    await journal.close()

    assert sum(records for _, records in told) == 5
    assert all(0 < seconds < 10 for seconds, _ in told)


async def test_refusals_of_strangers_are_written_up_to_a_budget_and_counted_beyond(bench: Bench) -> None:
    async with bench.journal(process=Rate(4, 3600), client=Rate(2, 3600), suppressed_seconds=0.05) as journal:
        for address in ["192.0.2.1"] * 3 + ["192.0.2.99", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::", "x"]:
            journal.refused_unauthenticated(
                {"event": "authentication-refused", "code": "token-missing", "client": address}, address
            )
        await eventually(lambda: "suppressed" in bench.events)
        journal.refused_unauthenticated({"event": "authentication-refused", "code": "token-invalid"}, "192.0.2.1")
    refused = [record["client"] for record in bench.records if record["event"] == "authentication-refused"]
    assert refused == ["192.0.2.1", "192.0.2.1", "192.0.2.99", "2001:db8::1"]
    first, second = [record for record in bench.records if record["event"] == "suppressed"]
    assert first["counts"] == [
        {"code": "token-missing", "client": "192.0.2.0/24", "count": 1},
        {"code": "token-missing", "client": "2001:db8::/64", "count": 1},
        {"code": "token-missing", "client": "2001:db8:0:1::/64", "count": 1},
        {"code": "token-missing", "client": "unknown", "count": 1},
    ]
    assert second["counts"] == [{"code": "token-invalid", "client": "192.0.2.0/24", "count": 1}]
    assert not verify([bench.directory]).bad


async def test_writing_keeps_no_caller_waiting_needlessly(bench: Bench) -> None:
    async with bench.journal() as journal:
        started = asyncio.get_running_loop().time()
        for n in range(50):
            await journal.write(read(n))
        assert asyncio.get_running_loop().time() - started < 2
