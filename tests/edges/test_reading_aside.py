"""A large grants file is read by a process aside: the same grants, the same complaints, and no fault of it counts."""

import asyncio
import gc
import os
import signal
import sys
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

import pytest

from bench.reload import grants_text
from gateway.configuration import handover
from gateway.configuration.cases import CASES
from gateway.configuration.grants import Grants, GrantsReader
from gateway.configuration.handover import LIST_ENTRIES, Done, Stretch
from gateway.configuration.letting_go import GRACE, LettingGo
from gateway.configuration.letting_go import PIECE as GONE_AT_ONCE
from gateway.configuration.problems import ConfigurationRefused, Problem
from gateway.configuration.reading_aside import COMMAND, KEPT, AsideReader
from gateway.configuration.reading_child import reader_of
from tests.edges.grants_files import GOOD, grants_file, reader
from tests.edges.test_grants_file_broken import RULES, SHAPE, Mistake
from tests.edges.test_reload import watching

SAY = "import os, sys, time, signal; out = sys.stdout.buffer; {}"


def aside(reading: GrantsReader, **other: Any) -> AsideReader:
    return AsideReader(reading, large=0, spare=False, **other)


def instead(program: str) -> tuple[str, ...]:
    """A process that does something else."""
    return (sys.executable, "-c", SAY.format(program))


def told(load: AsideReader | GrantsReader) -> Grants | tuple[Problem, ...]:
    try:
        return load.load()
    except ConfigurationRefused as refused:
        return refused.problems


def refused(reading: AsideReader) -> str:
    found = told(reading)
    assert isinstance(found, tuple)
    assert (found[0].line, found[0].place, found[0].file) == (1, "(file)", reading.reader.path)
    return found[0].message


def same(one: GrantsReader) -> Grants | tuple[Problem, ...]:
    """What both ways of reading say."""
    here, there = told(one), told(aside(one))
    assert there == here
    if isinstance(here, Grants) and isinstance(there, Grants):
        assert [*there.policy.grants] == [*here.policy.grants]
        for each in here.policy.grants:
            pair = (each.customer, each.partner)
            assert there.policy.held(*pair) == here.policy.held(*pair)
            assert there.policy.shadows(*pair) == here.policy.shadows(*pair)
        for customer in here.policy.customers.values():
            assert there.policy.named(customer.route, customer.source) == customer
            assert there.policy.organisations_on(customer.route) == here.policy.organisations_on(customer.route)
    return here


def test_a_good_file_gives_the_same_grants_with_keys_and_secrets(tmp_path: Path) -> None:
    found = same(reader(grants_file(tmp_path)))
    assert isinstance(found, Grants)
    there = aside(reader(tmp_path / "grants.toml")).load()
    login = there.registrations["swiftbook"].hl7
    assert login is not None
    assert (login.username.reveal(), login.password.reveal()) == ("swift", "not-to-be-seen")
    assert list(there.keys.values()) == ["swiftbook.jwks.json"]


def test_a_thousand_grants_come_over_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "grants.toml"
    path.write_text(grants_text(1000), encoding="utf-8")
    found = same(GrantsReader(path))
    assert isinstance(found, Grants)
    assert len(found.policy.grants) == 1000


MISTAKES = {**SHAPE, **RULES}


def broken(folder: Path, mistake: Mistake) -> GrantsReader:
    return reader(grants_file(folder, GOOD.replace(mistake.old, mistake.new, 1)))


@pytest.mark.parametrize("mistake", [pytest.param(each, id=name) for name, each in MISTAKES.items()])
def test_every_mistake_comes_over_in_the_same_words_and_on_the_same_line(tmp_path: Path, mistake: Mistake) -> None:
    """Without the process: what it is told and what it says go through the same pipe all the same."""
    reading, pipe = broken(tmp_path, mistake), BytesIO()
    handover.send(pipe, aside(reading).order())
    pipe.seek(0)
    there = reader_of(handover.receive_order(pipe), lambda _: None)
    pipe = BytesIO()
    for piece in handover.refusal(cast("tuple[Problem, ...]", told(there))):
        handover.send(pipe, piece)
    pipe.seek(0)
    assembled = handover.Assembled()
    while not isinstance(piece := handover.receive(pipe), Done):
        assembled.take(piece)
    assert assembled.problems
    assert tuple(assembled.problems) == told(reading)


@pytest.mark.parametrize("name", ["misspelt key of a grant", next(iter(RULES)), list(RULES)[-1]])
def test_a_mistake_is_told_by_the_process_in_the_same_words(tmp_path: Path, name: str) -> None:
    assert isinstance(same(broken(tmp_path, MISTAKES[name])), tuple)


@pytest.mark.parametrize("environ", [{}, {"HL7_USER": " ", "HL7_PASSWORD": "x"}], ids=["missing", "blank"])
def test_a_secret_that_is_not_there_is_told_the_same_way(tmp_path: Path, environ: dict[str, str]) -> None:
    found = same(replace(reader(grants_file(tmp_path)), environ=environ))
    assert isinstance(found, tuple)
    assert "HL7_" in found[0].message


def test_a_key_file_that_is_no_good_is_told_the_same_way(tmp_path: Path) -> None:
    def no_key(path: Path) -> None:
        raise ValueError(f"there is no key in {path.name}")

    found = same(replace(reader(grants_file(tmp_path)), read_keys=no_key))
    assert isinstance(found, tuple)
    assert "there is no key in swiftbook.jwks.json" in found[0].message
    (tmp_path / "keys" / "swiftbook.jwks.json").unlink()
    found = same(reader(tmp_path / "grants.toml"))
    assert isinstance(found, tuple)
    assert "No such file" in found[0].message


def test_a_customers_own_test_is_put_to_what_was_read_aside(tmp_path: Path) -> None:
    case = """version = 1
[[cases]]
name = "everybody may read"
partner = "viewonly"
customer = "bradford"
operation = "read"
now = 2026-02-01T09:00:00Z
appointment = {}
expect = "permit"
"""
    (tmp_path / CASES).write_text(case)
    found = same(replace(reader(grants_file(tmp_path)), cases=tmp_path / CASES))
    assert isinstance(found, Grants)
    assert "expects permit, found refuse" in found.failing[0].message


def test_a_path_that_is_no_text_is_no_hindrance(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    assert isinstance(same(reader(grants_file(folder))), Grants)


@pytest.mark.parametrize(
    ("program", "gist"),
    [
        pytest.param("os.kill(os.getpid(), 9)", "was killed by SIGKILL", id="killed"),
        pytest.param("sys.exit(3)", "ended before it was done, with status 3", id="ended"),
        pytest.param("out.write(b'GET / HTTP/1.1')", "handed over nonsense", id="another-protocol"),
        pytest.param("out.write(bytes([0, 0, 0, 3]) + b'abc')", "handed over nonsense", id="no-message"),
        pytest.param("out.write(bytes([0, 0, 0, 9]) + b'abc')", "ended before it was done", id="half-a-message"),
    ],
)
def test_a_process_that_fails_makes_the_file_one_that_cannot_be_read(tmp_path: Path, program: str, gist: str) -> None:
    listening = f"sys.stdin.buffer.read1(); {program}"
    reading = aside(reader(grants_file(tmp_path)), command=instead(listening))
    assert refused(reading).startswith("could not be read: the process that read it ")
    assert gist in refused(reading)


def test_a_process_that_hangs_is_ended(tmp_path: Path) -> None:
    reading = aside(reader(grants_file(tmp_path)), command=instead("time.sleep(60)"), patience=0.3)
    began = time.monotonic()
    assert "did not end within 0.3 s" in refused(reading)
    assert time.monotonic() - began < 10


def test_where_no_process_can_be_started_the_file_is_read_here(tmp_path: Path) -> None:
    grants = aside(reader(grants_file(tmp_path)), command=(str(tmp_path / "no-such-program"),)).load()
    assert grants == reader(tmp_path / "grants.toml").load()


def test_the_process_reads_again_and_ends_with_the_gateway(tmp_path: Path) -> None:
    reading = AsideReader(reader(grants_file(tmp_path)), large=0)
    first = reading.load()
    waiting = reading._waiting
    assert waiting is not None
    grants_file(tmp_path, GOOD.replace("72h", "every day"))
    assert told(reading) == told(reading.reader)
    assert reading._waiting is waiting
    grants_file(tmp_path)
    assert reading.load() == first
    reading.abandon()
    assert waiting.returncode == -signal.SIGKILL
    assert reading.load() == first
    assert reading._waiting is None


def test_after_a_very_large_file_another_process_waits(tmp_path: Path) -> None:
    reading = AsideReader(reader(grants_file(tmp_path, GOOD + "#" * KEPT)), large=0)
    reading.load()
    waiting = reading._waiting
    reading.load()
    assert waiting is not None
    assert waiting.returncode is not None
    assert reading._waiting not in (None, waiting)
    reading.abandon()


def test_a_waiting_process_that_died_is_replaced(tmp_path: Path) -> None:
    reading = AsideReader(reader(grants_file(tmp_path)), large=0)
    first = reading.load()
    assert reading._waiting is not None
    reading._waiting.kill()
    reading._waiting.wait()
    assert reading.load() == first
    reading.abandon()


def test_after_a_small_file_no_process_waits(tmp_path: Path) -> None:
    reading = AsideReader(reader(grants_file(tmp_path)), large=0)
    first = reading.load()
    reading.large = 1 << 20
    assert reading.load() == first
    assert reading._waiting is None


def test_a_waiting_process_ends_by_itself_when_nobody_is_left(tmp_path: Path) -> None:
    reading = AsideReader(reader(grants_file(tmp_path)), large=0)
    reading.load()
    waiting = reading._waiting
    assert waiting is not None
    assert waiting.stdin is not None
    waiting.stdin.close()
    assert waiting.wait(timeout=20) == 0
    reading.abandon()


def test_a_grant_that_refers_to_what_never_came_is_nonsense() -> None:
    assembled = handover.Assembled()
    with pytest.raises(handover.Nonsense):
        assembled.take(Stretch({}, ["g"], [[0] * len(handover.SHARED)]))


def test_the_process_has_no_secret_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HL7_PASSWORD", "not-to-be-seen")
    seen = tmp_path / "seen"
    program = f"open({str(seen)!r}, 'w').write(repr((dict(os.environ), sys.stdin.buffer.read1())))"
    refused(aside(replace(reader(grants_file(tmp_path)), environ=os.environ), command=instead(program)))
    assert "HL7_PASSWORD" in seen.read_text()
    assert "not-to-be-seen" not in seen.read_text()


def test_the_process_has_no_socket_and_no_file_of_the_gateway(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        seen = tmp_path / "seen"
        program = f"open({str(seen)!r}, 'w').write(' '.join(os.listdir('/proc/self/fd')))"
        refused(aside(reader(grants_file(tmp_path)), command=instead(program)))
        assert str(file.fileno()) not in seen.read_text().split() or file.fileno() <= 4


class _Pipe:
    """Takes what the child says, message by message."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def write(self, body: bytes) -> None:
        self.bodies.append(body)

    def flush(self) -> None:
        return


def test_no_piece_is_large_however_many_grants_there_are(tmp_path: Path) -> None:
    path = tmp_path / "grants.toml"
    path.write_text(grants_text(5000), encoding="utf-8")
    pipe = _Pipe()
    for piece in handover.pieces(GrantsReader(path).load()):
        handover.send(cast("IO[bytes]", pipe), piece)
        assert not isinstance(piece, Stretch) or len(piece.ids) <= handover.PIECE
    assert len(pipe.bodies) > 5000 / handover.PIECE
    assert max(map(len, pipe.bodies)) < 128 * 1024


def test_grants_with_long_lists_come_in_shorter_pieces(tmp_path: Path) -> None:
    path = tmp_path / "grants.toml"
    many = ", ".join(f'"{394500000 + n}"' for n in range(LIST_ENTRIES // 4))
    path.write_text(grants_text(20).replace('"394579002"', many), encoding="utf-8")
    stretches = [each for each in handover.pieces(GrantsReader(path).load()) if isinstance(each, Stretch)]
    assert max(len(each.ids) for each in stretches) <= 4
    assert sum(len(each.ids) for each in stretches) == 20


def test_values_that_grants_have_in_common_are_one_object(tmp_path: Path) -> None:
    path = tmp_path / "grants.toml"
    path.write_text(grants_text(500), encoding="utf-8")
    grants = aside(GrantsReader(path)).load().policy.grants
    assert len({id(each.specialties) for each in grants}) == 1
    assert len({id(each.customer) for each in grants}) == 50


def test_replaced_grants_go_after_a_time_and_a_few_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "grants.toml"
    path.write_text(grants_text(1000), encoding="utf-8")
    leaving = LettingGo()
    leaving.add(GrantsReader(path).load(), now=0.0)
    whole = len(leaving)
    leaving.some(GRACE / 2)
    assert len(leaving) == whole
    leaving.some(GRACE)
    assert len(leaving) == whole - GONE_AT_ONCE
    for _ in range(whole):
        leaving.some(GRACE)
    assert len(leaving) == 0


async def test_a_process_that_dies_leaves_the_last_good_file_in_force_and_the_next_one_counts(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    reading = aside(reader(path))
    async with watching(path, reading.load) as watch:
        good = watch.watcher.current
        reading.command = instead("os.kill(os.getpid(), 9)")
        path.write_text(GOOD + "# other\n")
        await watch.degraded()
        assert "SIGKILL" in watch.heard.refused[0][0].message
        assert watch.watcher.current is good
        reading.command = COMMAND
        path.write_text(GOOD + "# another\n")
        await watch.in_force(GOOD + "# another\n")


async def test_the_end_does_not_wait_for_a_reading(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    reading = aside(reader(path))
    async with watching(path, reading.load, reading.abandon) as watch:
        reading.command = instead("time.sleep(60)")
        path.write_text(GOOD + "# other\n")
        await watch.until(lambda: reading._child is not None)
        began = time.monotonic()
    assert time.monotonic() - began < 10


async def test_nobody_waits_long_while_twenty_thousand_grants_are_taken_in(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A parser that lets nobody else run takes 0.7 s at once; pieces take a few milliseconds each.

    In processor time of this process: what another program does meanwhile, however busy the machine, is not in it. Nor
    are the objects of all the tests before this one: a gateway, too, takes those of its start out of the collector.
    """
    gc.collect()
    gc.freeze()
    request.addfinalizer(gc.unfreeze)
    path = tmp_path / "grants.toml"
    path.write_text(grants_text(20_000), encoding="utf-8")
    reading = asyncio.create_task(asyncio.to_thread(AsideReader(GrantsReader(path), spare=False).load))
    longest = 0.0
    while not reading.done():
        began = time.process_time()
        await asyncio.sleep(0.001)
        longest = max(longest, time.process_time() - began)
    assert len((await reading).policy.grants) == 20_000
    assert longest < 0.2
