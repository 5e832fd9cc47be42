"""`audit verify` on journals that were written, then tampered with."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.cli.audit import audit
from gateway.domain.chain import seal
from gateway.storage.following import follow, last_lines
from gateway.storage.verification import verify
from tests.edges.audit_folders import FIRST, SECOND, run, signed_folder, two_chains, write_chain
from tests.edges.independent_verifier import independent_verdict


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    two_chains(tmp_path / "audit")
    return tmp_path / "audit"


def test_a_good_folder_is_good(folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        f"chain {FIRST}: good, 8 records",
        f"chain {SECOND}: good, 8 records",
        "signatures: unchecked (give --keys)",
        "good: 2 chains, 16 records",
    ]
    assert independent_verdict(folder)


Lines = list[bytes]
A, B, C = f"{FIRST}.000001.jsonl", f"{FIRST}.000002.jsonl", f"{SECOND}.000001.jsonl"


def change(name: str, how: Callable[[Lines], Lines]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        lines = (folder / name).read_bytes().splitlines(keepends=True)
        (folder / name).write_bytes(b"".join(how(lines)))

    return apply


def splice(folder: Path) -> None:
    other = (folder / C).read_bytes().splitlines(keepends=True)
    change(A, lambda lines: [*lines[:2], other[2], *lines[3:]])(folder)


def exchange_files(folder: Path) -> None:
    first, second = (folder / A).read_bytes(), (folder / B).read_bytes()
    (folder / A).write_bytes(second)
    (folder / B).write_bytes(first)


def remove_first_chain(folder: Path) -> None:
    (folder / A).unlink()
    (folder / B).unlink()


def empty_first_chain(folder: Path) -> None:
    (folder / A).write_bytes(b"")
    (folder / B).write_bytes(b"")


def join_files(folder: Path) -> None:
    (folder / "all.jsonl").write_bytes((folder / A).read_bytes() + (folder / B).read_bytes())
    (folder / A).unlink()
    (folder / B).unlink()


TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a record edited": (
        change(A, lambda x: [*x[:2], x[2].replace(b'"2"', b'"3"'), *x[3:]]),
        f"{A}:3: chain {FIRST} seq 3: edited",
    ),
    "the first record edited": (
        change(A, lambda x: [x[0].replace(b'"start"', b'"smart"'), *x[1:]]),
        f"{A}:1: chain {FIRST} seq 1: edited",
    ),
    "the first record of a later file edited": (
        change(B, lambda x: [b"{}\n", *x[1:]]),
        f"{B}:1: chain {FIRST} seq 6: edited",
    ),
    "a record removed": (change(A, lambda x: x[:2] + x[3:]), f"{A}:3: chain {FIRST} seq 3: removed"),
    "the first record removed": (change(A, lambda x: x[1:]), f"{A}:1: chain {FIRST} seq 1: removed"),
    "a file removed": (lambda f: (f / A).unlink(), f"{B}:1: chain {FIRST} seq 1: removed"),
    "a record twice": (change(A, lambda x: [*x[:3], x[2], *x[3:]]), f"{A}:4: chain {FIRST} seq 4: inserted"),
    "a record of another chain": (splice, f"{A}:3: chain {FIRST} seq 3: inserted"),
    "two records exchanged": (
        change(A, lambda x: [x[0], x[2], x[1], *x[3:]]),
        f"{A}:2: chain {FIRST} seq 2: reordered",
    ),
    "two files exchanged": (exchange_files, f"{A}:1: chain {FIRST} seq 1: reordered"),
    "the tail cut, a later chain knows": (change(B, lambda x: x[:-1]), f"{B}:2: chain {FIRST} seq 8: cut tail"),
    "the last file gone, a later chain knows": (lambda f: (f / B).unlink(), f"{A}:5: chain {FIRST} seq 6: cut tail"),
    "a chain gone, a later chain knows": (
        remove_first_chain,
        f"chain {FIRST} seq 1: missing chain",
    ),
    "a chain emptied": (
        empty_first_chain,
        f"chain {FIRST} seq 1: missing chain",
    ),
    "half a line": (change(C, lambda x: [*x[:-1], x[-1][:-9]]), f"{C}:8: chain {SECOND} seq 8: torn"),
}


@pytest.mark.parametrize(("tamper", "named"), TAMPERED.values(), ids=TAMPERED.keys())
def test_the_first_bad_record_is_named_by_file_line_chain_and_seq(
    folder: Path, tamper: Callable[[Path], object], named: str
) -> None:
    tamper(folder)
    result = run(folder)
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if ": good" not in line and " seq " in line]
    assert line.startswith(named)
    assert result.output.splitlines()[-1] == "BAD: 1 of 2 chains"
    assert not independent_verdict(folder)


def test_files_may_be_joined_and_named_by_whoever_keeps_them(folder: Path) -> None:
    join_files(folder)
    assert run(folder).exit_code == 0
    change("all.jsonl", lambda lines: [b"{}\n", *lines[1:]])(folder)
    assert f"all.jsonl:1: chain {FIRST} seq 1: edited" in run(folder).output


def test_files_may_be_given_one_by_one(folder: Path) -> None:
    assert run(folder / C, folder / B, folder / A, folder).exit_code == 0
    assert "missing chain" in run(folder / C).output


def test_a_chain_that_was_replaced_whole_is_not_the_one_that_was_named(folder: Path) -> None:
    reads = [{"event": "read", "appointment": "forged"} for _ in range(7)]
    write_chain(folder, FIRST, [{"event": "start", "chains": [], "torn": []}, *reads], split=5)
    assert f"{B}:3: chain {FIRST} seq 8: replaced" in run(folder).output


def test_a_cut_tail_is_found_with_the_last_checkpoint_only(folder: Path, tmp_path: Path) -> None:
    last = (folder / C).read_bytes().splitlines(keepends=True)[-1]
    kept = tmp_path / "checkpoint.json"
    kept.write_bytes(last)
    assert run(folder, "--checkpoint", kept).exit_code == 0
    change(C, lambda lines: lines[:-1])(folder)
    assert run(folder).exit_code == 0
    result = run(folder, "--checkpoint", kept)
    assert result.exit_code == 1
    assert f"{C}:7: chain {SECOND} seq 8: cut tail" in result.output


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "nonsense", '{"chain":"c","seq":0,"prev":"p"}', '{"chain":"c","seq":1}', "\xff", "[" * 100_000],
    ids=["empty", "list", "empty object", "no JSON", "seq 0", "no prev", "other text", "deep"],
)
def test_a_checkpoint_file_must_hold_checkpoints(folder: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "kept.json").write_text(text, "latin-1")
    result = run(folder, "--checkpoint", tmp_path / "kept.json")
    assert result.exit_code == 1
    assert "kept.json" in result.output


def test_nothing_to_verify_is_not_good(tmp_path: Path) -> None:
    assert run(tmp_path / "nowhere").exit_code == 1
    assert run(tmp_path).exit_code == 1
    (tmp_path / "a.jsonl").touch()
    assert "no audit records" in run(tmp_path).output
    (tmp_path / "b.jsonl").mkdir()
    assert run(tmp_path).exit_code == 1
    assert run(tmp_path / "a.jsonl" / "x").exit_code == 1


def test_a_record_that_names_nonsense_names_nothing(tmp_path: Path) -> None:
    start = {"event": "start", "chains": [7, {"chain": 1}], "torn": [None, {"file": "x"}]}
    write_chain(tmp_path / "audit", FIRST, [start])
    assert run(tmp_path / "audit").exit_code == 0


def test_a_line_that_is_being_written_is_waited_for(folder: Path) -> None:
    path = folder / C
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        with path.open("ab") as file:
            file.write(whole[len(whole) - 200 :][100 * (len(pauses) - 1) : 100 * len(pauses)])

    assert not verify([folder], pause=pause).bad
    assert len(pauses) == 2


def test_a_torn_line_is_waited_for_only_so_long(folder: Path) -> None:
    (folder / C).write_bytes((folder / C).read_bytes() + b"{")
    pauses: list[float] = []
    assert verify([folder], pause=pauses.append).bad
    assert sum(pauses) < 1


def test_tail_prints_the_last_whole_lines(folder: Path) -> None:
    (folder / C).write_bytes((folder / C).read_bytes() + b'{"half')
    result = CliRunner().invoke(audit, ["tail", str(folder), "--no-follow", "--lines", "2"])
    assert result.exit_code == 0
    assert [json.loads(line)["seq"] for line in result.output.splitlines()] == [7, 8]
    assert CliRunner().invoke(audit, ["tail", str(folder / "nowhere"), "--no-follow"]).exit_code == 1
    assert CliRunner().invoke(audit, ["tail", "--config", str(folder / "nowhere.toml")]).exit_code == 1


def test_new_lines_of_old_and_new_files_are_followed(folder: Path) -> None:
    lines, ends = last_lines(folder, 0)
    assert lines == []
    old, new = folder / C, folder / f"{SECOND}.000002.jsonl"
    steps = [(old, b"1\n2"), (new, b"4\n"), (old, b"\n3\n")]

    def pause(seconds: float) -> None:
        append(*steps.pop(0))

    assert list(itertools.islice(follow(folder, ends, pause), 4)) == [b"1\n", b"4\n", b"2\n", b"3\n"]


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


async def test_no_byte_of_a_real_journal_can_be_flipped_unseen(tmp_path: Path) -> None:
    bench = await signed_folder(tmp_path)
    (path,) = bench.files
    whole = path.read_bytes()
    number = 1
    for at in range(len(whole)):
        if at % 29 == 0 or whole[at] == ord("\n"):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            (bad,) = verify([path]).bad
            assert (bad.seq, bad.line) == (number, number)
        number += whole[at] == ord("\n")


MUTATIONS = st.sampled_from(["flip", "remove", "repeat", "swap", "splice", "cut", "append", "reseal", "none"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_second_verifier_comes_to_the_same_verdict(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("random")
    texts = st.text(max_size=5) | st.integers(-9, 9) | st.none()
    reads = st.fixed_dictionaries(
        {"event": st.just("read"), "code": texts, "facts": st.dictionaries(texts.map(str), texts)}
    )
    first = data.draw(st.lists(reads, min_size=1, max_size=5))
    hashes = write_chain(folder, FIRST, [{"event": "start", "chains": [], "torn": []}, *first], split=3)
    named = [{"chain": FIRST, "seq": len(hashes), "hash": hashes[-1]}]
    write_chain(folder, SECOND, [{"event": "start", "chains": named, "torn": []}, *first])
    assert not verify([folder]).bad
    assert independent_verdict(folder)
    mutate(folder, data)
    assert bool(verify([folder]).bad) is not independent_verdict(folder)


def mutate(folder: Path, data: st.DataObject) -> None:
    files = sorted(folder.glob("*.jsonl"))
    path = data.draw(st.sampled_from(files))
    lines = path.read_bytes().split(b"\n")[:-1]
    at = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.integers(0, len(lines) - 1))
    match data.draw(MUTATIONS):
        case "flip":
            line = bytearray(lines[at])
            line[data.draw(st.integers(0, len(line) - 1))] ^= data.draw(st.integers(1, 255))
            lines[at] = bytes(line)
        case "remove":
            del lines[at]
        case "repeat":
            lines.insert(other, lines[at])
        case "swap":
            lines[at], lines[other] = lines[other], lines[at]
        case "splice":
            foreign = data.draw(st.sampled_from(files)).read_bytes().split(b"\n")
            lines[at] = foreign[0]
        case "cut":
            lines = lines[:at]
        case "append":
            lines[-1] += b"\n" + data.draw(st.binary(min_size=1, max_size=9))
        case "reseal":
            record = json.loads(lines[at])
            del record["hash"]
            lines[at] = seal({**record, "code": "forged"}, record["prev"]).line[:-1]
        case _:
            pass
    path.write_bytes(b"".join(line + b"\n" for line in lines))
