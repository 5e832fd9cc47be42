"""Grants files that cannot be read at all, and files with many mistakes."""

import os
from pathlib import Path

import pytest

from gateway.configuration import document
from gateway.configuration.problems import Problem
from tests.edges.grants_files import GOOD, grants_file, problems


def only(found: tuple[Problem, ...]) -> Problem:
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


def test_every_mistake_of_a_file_is_told_in_the_order_of_its_lines(tmp_path: Path) -> None:
    text = GOOD
    for old, new in {
        "version = 1": "version = 1\ncolour = 1",
        'rate = "600/min"': 'rate = "600"',
        '"SEXUAL_HEALTH"': '"SEXUAL"',
        'organisation = "airedale"': 'organisation = "leedz"',
        'privacy_labels = ["GENERAL_HEALTH"]\nspecialties': 'privacy_labels = ["SOCIAL_CARE"]\nspecialties',
        "until = 2027-09-01": "until = 2027-05-01",
        "shadow = true": 'shadow = "yes"\npartner2 = "x"',
        'hl7_alias = "bradford"\n': "",
    }.items():
        assert old in text
        text = text.replace(old, new, 1)
    found = problems(grants_file(tmp_path, text))
    assert [problem.place for problem in found] == [
        "colour",
        "partners.swiftbook.rate",
        "customers.airedale.privacy_labels[1]",
        "customers.airedale-cardiology.organisation",
        "grants[2].shadow",
        "grants[2].partner2",
        "grants[4]",
    ]
    assert [problem.line for problem in found] == sorted(problem.line for problem in found)


def test_a_broken_partner_is_not_also_reported_as_missing(tmp_path: Path) -> None:
    found = problems(grants_file(tmp_path, GOOD.replace('rate = "600/min"', "rate = 600")))
    assert only(found).place == "partners.swiftbook.rate"


def test_a_broken_grant_still_tells_whom_it_does_not_find(tmp_path: Path) -> None:
    text = GOOD.replace("shadow = true", 'shadow = "true"').replace('partner = "viewonly"', 'partner = "viewonly"')
    text = text.replace('trial"\ncustomer = "airedale"', 'trial"\ncustomer = "airdale"')
    assert [problem.place for problem in problems(grants_file(tmp_path, text))] == [
        "grants[2].customer",
        "grants[2].shadow",
    ]


def test_a_problem_reads_as_file_line_path_message(tmp_path: Path) -> None:
    path = grants_file(tmp_path, GOOD.replace("until = 2027-09-01", 'until = "soon"'))
    told = "grants[1].until: a date is written without quotes, as in 2026-01-31"
    assert str(only(problems(path))) == f"{path}:72: {told}"


@pytest.mark.parametrize(
    ("text", "line", "gist"),
    [
        pytest.param("version = 1\n[partners.x\n", 2, "Expected", id="bracket left open"),
        pytest.param('version = 1\nname = "x\n', 2, "", id="quote left open"),
        pytest.param("version = 1\nversion = 1\n", 2, "there twice", id="key there twice"),
        pytest.param("[customers.a]\n[customers.a]\n", 2, "there twice", id="table there twice"),
        pytest.param("version = 1\n\nfrom = 2026-02-30\n", 3, "date", id="day that does not exist"),
        pytest.param("version = 1\nx = [1,\n2\n", 4, "", id="list left open"),
        pytest.param(f"version = {'9' * 5000}\n", 1, "", id="endless number"),
        pytest.param("x = " + "[" * 5000, 1, "nested too deeply", id="endless brackets"),
        pytest.param(GOOD[:300], 10, "", id="cut off"),
    ],
)
def test_what_is_not_toml_is_told_alone_with_its_line(tmp_path: Path, text: str, line: int, gist: str) -> None:
    found = only(problems(grants_file(tmp_path, text)))
    assert gist in found.message
    assert (found.line, found.place) == (line, "(file)" if "nested" in gist else "(syntax)")


@pytest.mark.parametrize(
    ("content", "line", "gist"),
    [
        pytest.param(b"", 1, "the file is empty", id="empty"),
        pytest.param(b"\xef\xbb\xbf \r\n\n", 1, "the file is empty", id="blank"),
        pytest.param(b"version = 1\n# caf\xe9\n", 2, "not UTF-8", id="Latin-1"),
        pytest.param("version = 1\n".encode("utf-16"), 1, "not UTF-8", id="UTF-16"),
    ],
)
def test_what_is_not_text_is_told_plainly(tmp_path: Path, content: bytes, line: int, gist: str) -> None:
    path = grants_file(tmp_path)
    path.write_bytes(content)
    found = only(problems(path))
    assert (found.line, found.place) == (line, "(file)")
    assert gist in found.message


def test_a_comment_alone_lacks_a_version(tmp_path: Path) -> None:
    assert only(problems(grants_file(tmp_path, "# to be written\n"))).place == "version"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert only(problems(tmp_path / "grants.toml")).message == "there is no such file"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "folder" in only(problems(tmp_path)).message


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert only(problems(tmp_path / "pipe")).message == "not a plain file"


def test_a_link_in_a_circle_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "grants.toml").symlink_to("grants.toml")
    assert only(problems(tmp_path / "grants.toml")).message.startswith("cannot be read")


def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    path = grants_file(tmp_path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("the superuser reads everything")
    assert only(problems(path)).message == "cannot be read: Permission denied"


def test_a_file_beyond_the_limit_is_not_even_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "LARGEST", 1024 * 1024)
    path = grants_file(tmp_path)
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    assert only(problems(path)).message == "larger than 1 MiB"
