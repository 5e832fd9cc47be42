"""Whatever somebody does to a file, it is taken or refused with a place: nothing else ever comes out."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edges import grants_files, settings_files
from tests.edges.grants_files import grants_file
from tests.edges.settings_files import settings_file

PIECES = (
    "", "x", "[]", "{}", "[[]]", "[{}]", '""', '"*"', "true", "0", "-1", "1.5", "nan", "2026-01-01", "09:00:00",
    "2026-01-01T00:00:00", "9999-12-31T23:59:59-23:59", "0001-01-01", '"env:X"', '"file:/"', '"\\u0000"', '"é"',
    '"http://["', '"https://x:99999"', '"https://a b"', '"Organization/x"', '["read"]', '["GENERAL_HEALTH"]',
    "{ a = 1 }", '{ method = "private_key_jwt" }', "[grants]", "[[partners]]", "[customers]", '"a\\\\b"',
)  # fmt: skip
"""Values and tables, in places that may not expect them."""


@st.composite
def edits(draw: st.DrawFn, text: str) -> str:
    """A file in which up to three lines got another value, went missing or moved."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        piece = draw(st.sampled_from(PIECES))
        key, equals, _ = lines[at].partition(" = ")
        action = draw(st.sampled_from(["value", "line", "remove", "repeat", "key"]))
        new = {
            "value": [f"{key}{equals}{piece}"],
            "line": [piece],
            "remove": [],
            "repeat": [lines[at], lines[draw(st.integers(0, len(lines) - 1))]],
            "key": [f"{key}x{equals}{lines[at].partition(' = ')[2]}"],
        }
        lines[at : at + 1] = new[action]
    return "\n".join(lines)


@settings(max_examples=250)
@given(edits(grants_files.GOOD))
def test_no_edit_of_a_grants_file_makes_anything_but_problems(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = grants_files.problems(grants_file(Path(folder), text))
    assert all(1 <= problem.line <= text.count("\n") + 2 for problem in found)


@settings(max_examples=150)
@given(edits(settings_files.GOOD))
def test_no_edit_of_gateway_toml_makes_anything_but_problems(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = settings_files.problems(settings_file(Path(folder), text))
    assert all(1 <= problem.line <= text.count("\n") + 2 for problem in found)
