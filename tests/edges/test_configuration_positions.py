"""Every place of a TOML file has its line, however the file is written."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.configuration.positions import Positions
from gateway.configuration.problems import Place, dotted

TEXT = """\
a = 1
b.c = { d = [1, 2,
  { e = 3 },  # note
  # note
  [4]] }

[t."x y".'z']
k = '''
two lines
'''
m = 1
[[list]]
id = 1
[list.sub]
n = 1
[[list.sub.deep]]
o = 1
[[list.sub.deep]]
o = 2
[[list]]
id = 2
[list.sub]
n = 2
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        pytest.param((), 1, id="whole file"),
        pytest.param(("a",), 1, id="key"),
        pytest.param(("b",), 2, id="first part of a dotted key"),
        pytest.param(("b", "c", "d", 1), 2, id="element of an inline list"),
        pytest.param(("b", "c", "d", 2, "e"), 3, id="key of an inline table"),
        pytest.param(("b", "c", "d", 3, 0), 5, id="element after a note"),
        pytest.param(("t", "x y", "z"), 7, id="quoted table"),
        pytest.param(("t", "x y", "z", "k"), 8, id="text of many lines"),
        pytest.param(("t", "x y", "z", "m"), 11, id="key after text of many lines"),
        pytest.param(("list", 0), 12, id="element of a list of tables"),
        pytest.param(("list", 0, "sub", "n"), 15, id="table below the first element"),
        pytest.param(("list", 0, "sub", "deep", 1, "o"), 19, id="list below an element"),
        pytest.param(("list", 1, "id"), 21, id="second element"),
        pytest.param(("list", 1, "sub", "n"), 23, id="table below the second element"),
        pytest.param(("list", 1, "absent", "key"), 20, id="what is not there stands where it should be"),
        pytest.param(("nowhere",), 1, id="what has no table"),
    ],
)
def test_a_place_has_its_line(place: Place, line: int) -> None:
    assert Positions(TEXT.encode()).line(place) == line


def places(value: Any, place: Place = ()) -> list[Place]:
    """Every place of a parsed file."""
    if isinstance(value, dict):
        return [place, *(each for key, inner in value.items() for each in places(inner, (*place, key)))]
    if isinstance(value, list):
        return [place, *(each for index, inner in enumerate(value) for each in places(inner, (*place, index)))]
    return [place]


def test_every_place_the_parser_finds_is_found() -> None:
    positions = Positions(TEXT.encode())
    assert [place for place in places(tomllib.loads(TEXT)) if place not in positions._lines] == []


@given(st.binary(max_size=300))
def test_no_file_is_too_odd_to_have_positions(content: bytes) -> None:
    assert Positions(content).line(("grants", 3, "id")) >= 1


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ((), "(file)"),
        (("grants", 0, "cancel", "reasons", 1), "grants[0].cancel.reasons[1]"),
        (("tokens", "issuers", "https://x"), 'tokens.issuers."https://x"'),
    ],
)
def test_a_place_is_written_as_in_toml(place: Place, text: str) -> None:
    assert dotted(place) == text
