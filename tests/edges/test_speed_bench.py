"""The benchmark's own parts: the stub, the driver, the figures. Nothing here is timed."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.speed.box import MOVING, TOKEN
from bench.speed.check import Check
from bench.speed.contender import Running, Scenario, Setting, cancel_body, request, steps
from bench.speed.course import CONTENDERS
from bench.speed.figures import Figure, percentile
from bench.speed.gateways import serving
from bench.speed.harness import Cores, Driver, Upstream, ask, driver, upstream
from bench.speed.keys import TokenKey
from bench.speed.plan import PLACE, Plan
from bench.speed.processes import cpu_seconds, memory, resident, threads_seconds, tree
from bench.speed.profiling import profile
from bench.speed.records import compiled, counted
from bench.speed.tools import Unavailable
from bench.speed.turns import in_turns
from bench.speed.work import Bench

EVERYWHERE = Cores.shared().others
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Upstream]:
    with upstream(EVERYWHERE, tmp_path) as running:
        yield running


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Driver]:
    with driver(EVERYWHERE, tmp_path) as running:
        yield running


def test_every_appointment_of_the_stub_is_booked_until_it_is_written_to(stub: Upstream) -> None:
    path = "/fhir/Appointment/a-1"
    fresh = ask(stub.port, "GET", path, BEARER)
    changed = fresh.body.decode().replace('"booked"', '"cancelled"')
    written = ask(stub.port, "PUT", path, {**BEARER, "If-Match": 'W/"1"'}, changed)
    stale = ask(stub.port, "PUT", path, {**BEARER, "If-Match": 'W/"1"'}, changed)
    assert (fresh.json()["status"], fresh.json()["meta"]["versionId"]) == ("booked", "1")
    assert (written.status, stale.status) == (200, 412)
    held = ask(stub.port, "GET", path, BEARER).json()
    assert (held, held["status"], held["meta"]["versionId"]) == (written.json(), "cancelled", "2")
    assert ask(stub.port, "GET", "/fhir/Appointment/a-2", BEARER).json()["status"] == "booked"


def test_the_stub_refuses_a_write_to_what_always_changes_and_whoever_has_no_token(stub: Upstream) -> None:
    path = f"/fhir/Appointment/{MOVING}1"
    body = ask(stub.port, "GET", path, BEARER).body.decode()
    assert ask(stub.port, "PUT", path, {**BEARER, "If-Match": 'W/"1"'}, body).status == 412
    assert ask(stub.port, "GET", path).status == 401
    counts = stub.counts()
    assert {kind: count for kind, count in counts.items() if kind != "connection"} == {
        "read appointment": 1,
        "refused write": 1,
    }


def test_a_closed_loop_asks_as_often_as_it_was_told_each_time_for_another(stub: Upstream, load: Driver) -> None:
    ask_for = request("GET", f"/fhir/Appointment/a-{PLACE}", TOKEN)
    result = load.run(Plan("reads", stub.port, [ask_for], 50, connections=4))
    assert (result.answers, len(result.took), stub.counts()["read appointment"]) == ({"200": 50}, 50, 50)
    # Each connection of the driver, and the one that asked for the counts.
    assert stub.counts()["connection"] == 4 + 2


def test_every_other_connection_goes_to_the_second_server_where_there_are_two(
    stub: Upstream, load: Driver, tmp_path: Path
) -> None:
    ask_for = request("GET", f"/fhir/Appointment/a-{PLACE}", TOKEN)
    with upstream(EVERYWHERE, tmp_path) as other:
        result = load.run(Plan("reads", stub.port, [ask_for], 50, connections=4, beside=other.port))
        counts = [each.counts() for each in (stub, other)]
    assert result.answers == {"200": 50}
    assert sum(each["read appointment"] for each in counts) == 50
    # Two of the driver, and the one that asked for the counts.
    assert [each["connection"] for each in counts] == [2 + 1, 2 + 1]


def test_an_open_loop_counts_from_the_moment_a_request_was_due(stub: Upstream, load: Driver) -> None:
    stub.delay(100)
    ask_for = request("GET", f"/fhir/Appointment/a-{PLACE}", TOKEN)
    result = load.run(Plan("reads", stub.port, [ask_for] * 2, 20, connections=1, rate=1000.0))
    assert result.answers == {"200": 20}
    assert len(result.late) == 20
    # Two steps, each of which the stub held back: and nobody waited for the one connection that there was.
    assert min(result.took) >= 0.2
    assert stub.counts()["read appointment"] == 40


def test_the_driver_goes_on_where_the_server_closes(stub: Upstream, load: Driver) -> None:
    closing = request("GET", f"/fhir/Appointment/a-{PLACE}", TOKEN, more="Connection: close\r\n")
    result = load.run(Plan("closing", stub.port, [closing], 10, connections=2))
    assert result.answers == {"200": 10}
    assert stub.counts()["connection"] >= 10


async def test_a_connection_that_the_server_closes_while_it_is_idle_is_no_answer(load: Driver) -> None:
    closed = 0

    async def impatient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal closed
        with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError):
            while True:
                async with asyncio.timeout(0.3):
                    await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        closed += 1
        writer.close()

    server = await asyncio.start_server(impatient, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        # Ten connections, of which most have waited for longer than this server allows when their turn comes.
        plan = Plan("slow", port, [f"GET /{PLACE} HTTP/1.1\r\n\r\n"], 12, connections=10, rate=12.0)
        result = await asyncio.to_thread(load.run, plan)
    assert result.answers == {"200": 12}
    assert closed > 0


def test_the_driver_asks_each_of_many_requests_once(stub: Upstream, load: Driver) -> None:
    asked = [request("GET", f"/fhir/Appointment/{name}", TOKEN if name != "b" else "none") for name in "abc"]
    result = load.run(Plan("each", stub.port, asked, 3, connections=2, each=True))
    assert result.answers == {"200": 2, "401": 1}


def test_a_cancel_says_how_long_its_body_is_and_has_a_place_for_its_number() -> None:
    [text] = steps(Scenario.CANCEL, "t", "run")
    head, body = text.split("\r\n\r\n")
    assert body == cancel_body()
    assert f"Content-Length: {len(body)}" in head
    assert f"/run-{PLACE}/$cancel" in head


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.505, 51), (0.99, 99), (0.999, 100), (1.0, 100)]
)
def test_a_percentile_is_a_value_that_occurred(share: float, expected: int) -> None:
    assert percentile(reversed(range(1, 101)), share) == expected


def test_a_figure_tells_its_median_and_its_spread() -> None:
    assert Figure.of([3.0, 1.0, 2.0]).text(1) == "2.0 (1.0–3.0)"
    assert Figure.of([4.0]).text() == "4"
    with pytest.raises(ValueError, match="no values"):
        Figure.of([])


def test_contenders_take_turns_and_each_round_begins_with_another() -> None:
    assert list(in_turns(["a", "b", "c"], 3)) == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert list(in_turns([], 3)) == []


def test_the_gateway_passes_the_check_that_its_peers_have_to_pass(stub: Upstream, tmp_path: Path) -> None:
    keys = TokenKey.made(tmp_path)
    with serving(Setting(tmp_path, stub, keys, Cores.shared()), workers=1) as running:
        assert Check(running, stub, keys.token()).faults() == []
        assert running.pid in tree(running.pid)
        assert resident(running.pid) > 10
        assert memory(running.pid).pss > 10


def test_the_libraries_alone_pass_the_check_as_well(stub: Upstream, tmp_path: Path) -> None:
    keys = TokenKey.made(tmp_path)
    with CONTENDERS["bare"].start(Setting(tmp_path, stub, keys, Cores.shared())) as running:
        assert Check(running, stub, keys.token()).faults() == []


def test_the_profile_tells_which_part_of_the_program_spends_what(stub: Upstream, load: Driver, tmp_path: Path) -> None:
    keys = TokenKey.made(tmp_path)
    told = profile(Bench(Setting(tmp_path, stub, keys, Cores.shared()), load, keys.token(), 4), 20)
    assert re.search(r"[1-9][\d,]* µs in the main thread", told)
    assert re.search(r"calls of functions in the main thread: [1-9],\d{3} a cancel", told)
    shares = {part: float(share) for share, part in re.findall(r"^ +([\d.]+) %  (.+)$", told, re.MULTILINE)}
    assert {"gateway/pkb", "gateway/domain", "gateway/flow", "aiohttp"} <= set(shares)
    assert 80 < sum(shares.values()) <= 100.5
    assert re.search(r"^ +\d+ .* gateway/\w+/\w+\.py:\d+\(\w+\)$", told, re.MULTILINE)


def test_the_check_finds_fault_with_a_server_that_does_none_of_the_work(stub: Upstream, tmp_path: Path) -> None:
    faults = Check(Running(stub.pid, stub.port), stub, TokenKey.made(tmp_path).token()).faults()
    assert "a cancel was answered with 401" in faults
    assert "the upstream does not hold the cancelled appointment" in faults
    assert "a cancel took 0 of: write" in faults
    assert "a cancel without a grant was answered with 401" in faults


def test_processor_time_counts_descendants_that_live_and_those_that_have_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    before = cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", burn], check=True)
    between = cpu_seconds(os.getpid())
    assert between - before >= 0.2
    with subprocess.Popen([sys.executable, "-c", f"{burn}\nprint()\ninput()"], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in tree(os.getpid())
        assert cpu_seconds(os.getpid()) - between >= 0.2
        first, others = threads_seconds(child.pid)
        assert first >= 0.2
        assert others == 0
        child.communicate(b"\n")


def test_every_sync_of_a_preloaded_process_is_counted(tmp_path: Path) -> None:
    try:
        library = compiled(tmp_path)
    except Unavailable as missing:
        pytest.skip(f"THERE IS NO {missing}")
    counter = tmp_path / "syncs"
    counter.write_bytes(bytes(8))
    syncing = "import os, sys\nwith open(sys.argv[1], 'wb') as out:\n os.fsync(out); os.fdatasync(out); os.fsync(out)"
    environment = {**os.environ, "LD_PRELOAD": str(library), "SYNCS_FILE": str(counter)}
    subprocess.run([sys.executable, "-c", syncing, str(tmp_path / "out")], env=environment, check=True)
    assert counted(counter) == 3
