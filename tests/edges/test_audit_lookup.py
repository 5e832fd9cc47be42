"""Records are found in an audit folder that several processes write, the newest first and within limits."""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.chain import seal
from gateway.storage import chain_tails, growth, lookup
from gateway.storage.growth import Growth
from gateway.storage.journal_records import placed, stamp

START = datetime(2026, 1, 1, 9, tzinfo=UTC)
ID = "11111111-1111-4111-8111-111111111111"
TASK = "22222222-2222-4222-8222-222222222222"


def lines(chain: str, told: Sequence[dict[str, Any]], begin: datetime = START, first: int = 1) -> bytes:
    out, prev = b"", "0" * 64
    for number, each in enumerate(told):
        at = begin + timedelta(seconds=number)
        sealed = seal(placed(each, chain, first + number, stamp(at)), prev)
        out, prev = out + sealed.line, sealed.hash
    return out


def write(folder: Path, chain: int, told: Sequence[dict[str, Any]], begin: datetime = START, segment: int = 1) -> Path:
    name = f"20260101T090000Z-{chain:08x}"
    path = folder / f"{name}.{segment:06d}.jsonl"
    path.write_bytes(lines(name, told, begin))
    end = (begin + timedelta(seconds=len(told))).timestamp()
    os.utime(path, (end, end))
    return path


def read(number: int) -> dict[str, Any]:
    return {"event": "read", "decision": "permit", "request_id": f"r-{number}", "partner": "swiftbook"}


def events(found: lookup.Found) -> list[str]:
    return [each["event"] for each in found.records]


def test_a_request_is_found_with_what_others_wrote_of_it_later(tmp_path: Path) -> None:
    intent = {"event": "intent", "decision": "permit", "request_id": ID, "task": TASK}
    outcome = {"event": "outcome", "request_id": ID, "task": TASK, "outcome": "applied", "final": True}
    write(tmp_path, 1, [read(1), intent, read(2)])
    write(tmp_path, 2, [{"event": "task-resolved", "request_id": ID, "task": TASK}, outcome], START + timedelta(days=1))
    for id_ in (ID, TASK):
        assert events(lookup.find(tmp_path, id_)) == ["intent", "task-resolved", "outcome"]


def test_an_id_inside_another_value_is_no_hit(tmp_path: Path) -> None:
    write(tmp_path, 1, [{"event": "read", "request_id": f"{ID}x"}, {"event": "read", "appointment": ID}])
    assert lookup.find(tmp_path, ID).records == ()


def test_a_line_that_does_not_hold_against_its_hash_is_counted_and_not_shown(tmp_path: Path) -> None:
    path = write(tmp_path, 1, [{"event": "read", "request_id": ID, "partner": "swiftbook"}])
    path.write_bytes(path.read_bytes().replace(b"swiftbook", b"swiftbock"))
    found = lookup.find(tmp_path, ID)
    assert (found.records, found.damaged) == ((), 1)


def test_files_that_ended_before_the_request_began_are_not_read(tmp_path: Path) -> None:
    write(tmp_path, 1, [read(n) for n in range(50)], START - timedelta(days=2))
    newest = write(tmp_path, 2, [{"event": "refused", "decision": "refuse", "request_id": ID}])
    found = lookup.find(tmp_path, ID)
    assert (len(found.records), found.looked_at, found.stopped_after) == (1, newest.stat().st_size, None)


def test_an_old_request_is_found_behind_many_newer_ones(tmp_path: Path) -> None:
    write(tmp_path, 1, [{"event": "refused", "decision": "refuse", "request_id": ID}])
    for day in range(1, 6):
        write(tmp_path, 1, [read(n) for n in range(10)], START + timedelta(days=day), segment=day + 1)
    assert events(lookup.find(tmp_path, ID)) == ["refused"]


def test_a_search_that_stops_says_where_and_goes_on_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "BYTES", 1)
    write(tmp_path, 1, [{"event": "refused", "decision": "refuse", "request_id": ID}])
    newer = write(tmp_path, 2, [read(1)], START + timedelta(hours=5))
    found = lookup.find(tmp_path, ID)
    assert (found.records, found.stopped_after, found.back_to) == ((), newer.name, stamp(START + timedelta(hours=5)))
    assert events(lookup.find(tmp_path, ID, newer.name)) == ["refused"]
    assert lookup.find(tmp_path, ID, "no-such-file.jsonl").records == ()


def test_an_id_that_was_used_ten_thousand_times_gives_no_endless_page(tmp_path: Path) -> None:
    write(tmp_path, 1, [{"event": "read", "correlation_id": ID} for _ in range(500)])
    assert len(lookup.find(tmp_path, ID).records) == lookup.MOST


def test_half_a_line_at_the_end_hides_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, 1, [{"event": "read", "request_id": ID}])
    with path.open("ab") as file:
        file.write(b'{"half":')
    assert events(lookup.find(tmp_path, ID)) == ["read"]


def test_the_last_records_are_those_of_all_chains_in_the_order_of_their_times(tmp_path: Path) -> None:
    write(tmp_path, 1, [read(n) for n in range(10)])
    write(tmp_path, 2, [read(n) for n in range(20, 30)], START + timedelta(seconds=5, milliseconds=500))
    last = lookup.recent(tmp_path, lambda _: True, 8)
    assert [each["request_id"] for each in last] == [
        "r-8",
        "r-23",
        "r-9",
        "r-24",
        "r-25",
        "r-26",
        "r-27",
        "r-28",
        "r-29",
    ][1:]


def test_the_last_that_are_wanted_are_looked_for_within_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "RECENT_BYTES", 1)
    write(tmp_path, 1, [{"event": "refused"}, *[read(n) for n in range(2000)]])
    assert lookup.recent(tmp_path, lambda each: each["event"] == "refused", 5) == []
    assert len(lookup.recent(tmp_path, lambda _: True, 5)) == 5


def test_marks_pass_over_what_lacks_them_and_damage_is_no_record(tmp_path: Path) -> None:
    path = write(tmp_path, 1, [{"event": "refused", "partner": "a"}, {"event": "read", "partner": "a"}, read(1)])
    looked: list[str] = []

    def wanted(record: dict[str, Any]) -> bool:
        looked.append(record["event"])
        return True

    marks = [[b'"event":"refused"', b'"event":"read"'], [b'"partner":"a"']]
    assert [each["event"] for each in lookup.recent(tmp_path, wanted, 5, marks)] == ["refused", "read"]
    assert looked == ["read", "refused"]
    path.write_bytes(path.read_bytes().replace(b'"partner":"a"', b'"partner":"b"', 1))
    assert len(lookup.recent(tmp_path, lambda _: True, 5)) == 2


def grow(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_growth_tells_what_is_added_from_now_on_in_old_files_and_new_ones(tmp_path: Path) -> None:
    old = write(tmp_path, 1, [read(1)])
    os.utime(old)
    following = Growth(tmp_path)
    following.begin()
    assert following.news().records == ()
    more = lines("a", [read(2), read(3)])
    grow(old, more[: len(more) - 5])
    assert [each["request_id"] for each in following.news().records] == ["r-2"]
    grow(old, more[len(more) - 5 :])
    write(tmp_path, 2, [read(4)], START + timedelta(hours=1))
    assert [each["request_id"] for each in following.news().records] == ["r-3", "r-4"]
    assert following.news().records == ()


def test_growth_begins_before_half_a_line_and_reads_it_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    text = lines("a", [read(1), read(2)])
    path.write_bytes(text[:-9])
    following = Growth(tmp_path)
    following.begin()
    grow(path, text[-9:])
    assert [each["request_id"] for each in following.news().records] == ["r-2"]


def test_growth_does_not_look_at_files_that_are_closed_by_their_age(tmp_path: Path) -> None:
    old = write(tmp_path, 1, [read(1)])
    ago = time.time() - growth.CLOSED_AFTER - 10
    os.utime(old, (ago, ago))
    following = Growth(tmp_path)
    following.begin()
    grow(old, lines("a", [read(2)]))
    assert following.news().records == ()


def test_growth_passes_over_what_nobody_could_read_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "AT_ONCE", 4096)
    path = write(tmp_path, 1, [read(0)])
    os.utime(path)
    following = Growth(tmp_path)
    following.begin()
    grow(path, lines("a", [read(n) for n in range(1, 200)]))
    news = following.news()
    assert news.passed_over > 0
    assert news.records[-1]["request_id"] == "r-199"
    assert 0 < len(news.records) < 10
    assert following.news() == growth.News(())


def test_growth_of_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Growth(tmp_path / "gone").news()


def test_files_that_are_removed_while_they_are_read_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1, [{"event": "read", "request_id": ID}])
    gone = write(tmp_path, 2, [read(1)], datetime.now(UTC))
    following = Growth(tmp_path)
    following.begin()
    grow(gone, lines("a", [read(2)]))

    def removed_first(path: Path) -> Any:
        gone.unlink(missing_ok=True)
        return chain_tails.opened(path)

    monkeypatch.setattr(lookup, "opened", removed_first)
    monkeypatch.setattr(growth, "opened", removed_first)
    assert following.news() == growth.News(())
    write(tmp_path, 2, [read(1)], datetime.now(UTC))
    assert events(lookup.find(tmp_path, ID)) == ["read"]
    write(tmp_path, 2, [read(1)], datetime.now(UTC))
    assert [each["request_id"] for each in lookup.recent(tmp_path, lambda _: True, 5)] == [ID]
