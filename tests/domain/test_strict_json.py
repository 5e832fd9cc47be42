import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.strict_json import MalformedJson, Number, Object, Value, read, splice, write

NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True).map(Number)
VALUES = st.recursive(
    st.none() | st.booleans() | st.text() | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(VALUES)
def test_what_is_written_is_read_back_as_the_same_value_in_the_same_order(value: Value) -> None:
    again = read(write(value), depth=200)
    assert again == value
    assert write(again) == write(value)


@given(VALUES)
def test_what_is_written_is_the_same_json_to_the_standard_library(value: Value) -> None:
    assert json.loads(write(value), parse_int=Number, parse_float=Number) == value


@given(st.binary())
def test_arbitrary_bytes_are_read_or_refused_but_nothing_else(data: bytes) -> None:
    try:
        value = read(data)
    except MalformedJson:
        return
    assert read(write(value)) == value


@pytest.mark.parametrize(
    "text",
    ["1.10", "-0", "0.0", "1E400", "1e-7", "12345678901234567890", "-0.0e+1", "9" * 1_000_000],
    ids=lambda text: text[:20],
)
def test_a_number_stays_as_it_was_written(text: str) -> None:
    data = b'{"value":' + text.encode() + b"}"
    assert read(data) == {"value": Number(text)}
    assert write(read(data)) == data


def test_strings_are_written_without_needless_escapes() -> None:
    data = '{"name":"Zoë \\u2028 😀 / \\u007f \\ud83d\\ude00 \\n \\" \\\\"}'.encode()
    assert write(read(data)) == '{"name":"Zoë \u2028 😀 / \x7f 😀 \\n \\" \\\\"}'.encode()


def test_members_keep_their_order_and_space_is_dropped() -> None:
    assert write(read(b' { "b" : [ ] , "a" : { } , "c" : [ true , false , null ] } \r\n\t')) == (
        b'{"b":[],"a":{},"c":[true,false,null]}'
    )


@st.composite
def rewritten(draw: st.DrawFn) -> tuple[bytes, Object, Object]:
    """An object as somebody may have written it, as it was read, and with some members gone, other, new or moved."""
    drawn = draw(st.dictionaries(st.text(), VALUES, max_size=6))
    blank, escaped = draw(st.sampled_from(["", " ", "\r\n\t"])), draw(st.booleans())

    def token(found: re.Match[str]) -> str:
        text = json.dumps(json.loads(found[0])) if escaped and found[0].startswith('"') else found[0]
        return f"{blank}{text}{blank}"

    data = re.sub(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]', token, write(drawn).decode(), flags=re.DOTALL).encode()
    before = read(data, depth=200)
    assert isinstance(before, dict)
    other = draw(st.dictionaries(st.sampled_from(sorted(before)) | st.text() if before else st.text(), VALUES))
    names = draw(st.permutations([name for name in before if draw(st.booleans())]))
    return data, before, {name: before[name] for name in names} | other


@given(rewritten())
def test_what_is_spliced_is_what_would_be_written(given: tuple[bytes, Object, Object]) -> None:
    data, before, after = given
    spliced = splice(data, before, after)
    assert write(read(spliced, depth=200)) == write(after)


def test_a_member_that_stays_is_copied_and_one_that_is_new_is_written() -> None:
    data = b' { "a" : [ 1.10 , "\\u00e9\\/" ] ,\n"\\u0062":{ "a": -0 } , "c" : "}\\"," ,"d":null, "e":[{"f":[]}] }\n'
    before = read(data)
    assert isinstance(before, dict)
    after: Object = before | {"c": ["new", Number("7")], "g": {}}
    del after["d"]
    assert splice(data, before, after) == (
        b'{"a" : [ 1.10 , "\\u00e9\\/" ],"\\u0062":{ "a": -0 },"c":["new",7],"e":[{"f":[]}],"g":{}}'
    )


def test_what_stays_at_the_end_is_copied_in_one_piece() -> None:
    data = b'{\n "a": 1,\n "b": "x",\n "c": [1.10],\n "d": "y"\n}\n'
    before = read(data)
    assert isinstance(before, dict)
    assert splice(data, before, before | {"b": "z", "e": None}) == b'{"a": 1,"b":"z","c": [1.10],\n "d": "y","e":null}'
    moved: Object = {"b": before["b"], "d": before["d"], "c": before["c"], "a": before["a"]}
    assert splice(data, before, moved) == b'{"b": "x","d": "y","c": [1.10],"a": 1}'


def test_a_value_that_is_equal_but_another_one_is_written_anew() -> None:
    data = b'{"a":[ 1 ]}'
    before = read(data)
    assert isinstance(before, dict)
    assert splice(data, before, {"a": [Number("1")]}) == b'{"a":[1]}'


def test_nothing_is_left_of_an_object_without_members() -> None:
    assert splice(b" { } ", {}, {}) == b"{}"
    assert splice(b'{"a":null}', {"a": None}, {}) == b"{}"
    assert splice(b"{}", {}, {"a": None}) == b'{"a":null}'


def test_what_is_spliced_in_must_be_json() -> None:
    with pytest.raises(TypeError):
        splice(b"{}", {}, {"a": 1})  # type: ignore[dict-item] # the mistake under test
    with pytest.raises(ValueError, match="surrogates"):
        splice(b"{}", {}, {"a": "\ud800"})


BROKEN = {
    "nothing at all": b"",
    "only space": b"  ",
    "bytes that are not UTF-8": b'{"a":"\xff"}',
    "a surrogate encoded as UTF-8": b'"\xed\xa0\x80"',
    "an overlong encoding": b'"\xc0\xaf"',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a repeated member": b'{"a":1,"a":1}',
    "a repeated member further in": b'[{"x":{"a":1,"b":2,"a":3}}]',
    "a member repeated in another spelling": b'{"a":1,"\\u0061":2}',
    "NaN": b"NaN",
    "Infinity inside": b'{"a":Infinity}',
    "minus Infinity": b"[-Infinity]",
    "trailing data": b"{} {}",
    "a trailing comma": b"[1,]",
    "a leading zero": b"01",
    "a plus sign": b"+1",
    "a bare point": b"1.",
    "a hexadecimal number": b"0x10",
    "other digits": "١".encode(),
    "other space": "\u00a0{}".encode(),
    "a comment": b"{} // no",
    "single quotes": b"{'a':1}",
    "a raw newline in a string": b'"a\nb"',
    "a raw NUL in a string": b'"a\x00b"',
    "an unknown escape": b'"\\x41"',
    "an unfinished escape": b'"\\u12"',
    "an unfinished string": b'{"a":"b',
    "a lone high surrogate": b'"\\ud800"',
    "a lone low surrogate in a list": b'[1,"\\uDC00x"]',
    "a lone surrogate in a name": b'{"\\udfff":true}',
    "surrogates the wrong way round": b'{"a":{"b":[null,"\\ude00\\ud83d"]}}',
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_it_refuses(data: bytes) -> None:
    with pytest.raises(MalformedJson):
        read(data)


@pytest.mark.parametrize(
    "text",
    ['"\\ud83d\\ude00"', '["\\ud83d\\ude00",1]', '"\\\\ud800"', '["\\u00e9"]', '{"\\ud83d\\ude00":1.5}'],
    ids=str,
)
def test_a_whole_pair_and_an_escaped_backslash_are_no_lone_surrogates(text: str) -> None:
    assert read(write(read(text.encode()))) == read(text.encode())


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")], ids=["arrays", "objects"])
def test_thirty_two_levels_are_read_and_thirty_three_are_not(opening: str, closing: str) -> None:
    assert read((opening * 32 + "1" + closing * 32).encode())
    with pytest.raises(MalformedJson, match="nested too deeply") as caught:
        read((opening * 33 + "1" + closing * 33).encode())
    assert caught.value.position == len(opening) * 32


def test_width_is_not_depth_and_brackets_in_strings_do_not_count() -> None:
    assert read(b"[" + b"[1]," * 1000 + b'{"a":[]}]')
    assert read(b'["' + b'[{\\"' * 1000 + b'"]') == ['[{"' * 1000]


def test_brackets_behind_an_escape_outside_of_a_string_are_refused_too() -> None:
    for data in (b"[" + b'\\"' + b"[" * 40, b'[\\"' + b"[" * 100_000 + b'"]'):
        with pytest.raises(MalformedJson):
            read(data)


def test_what_was_closed_before_gives_no_leave_to_go_deeper() -> None:
    data = b"[[],{},[],[[[1]]]]"
    assert read(data, depth=4)
    with pytest.raises(MalformedJson, match="nested too deeply"):
        read(data, depth=3)


def _open_at_once(text: str) -> int:
    """Count brackets one character after the other, as far as the text could be JSON."""
    opened = most = 0
    in_string = escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif in_string:
            in_string, escaped = character != '"', character == "\\"
        elif character == "\\":
            break
        elif character == '"':
            in_string = True
        else:
            opened += (character in "[{") - (character in "]}")
            most = max(most, opened)
    return most


@given(st.text('[]{}"\\a,:', max_size=40), st.integers(1, 6))
def test_a_text_is_too_deep_exactly_where_counting_its_brackets_says_so(text: str, depth: int) -> None:
    try:
        read(text.encode(), depth=depth)
        reason = ""
    except MalformedJson as error:
        reason = error.reason
    if _open_at_once(text) > depth:
        assert reason == "nested too deeply"
    elif "\\" not in text:
        # What stands behind an escape outside of a string is no JSON, whatever is said of it.
        assert reason != "nested too deeply"


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b'{"a":' * 100_000, b'[{"a":' * 100_000, b'"' + b'\\"[' * 100_000, b'"' + b"\\" * 99_999],
    ids=["arrays", "objects", "both", "escaped quotation marks in an unfinished string", "backslashes"],
)
def test_hostile_input_is_refused_cleanly_and_soon(data: bytes) -> None:
    started = time.perf_counter()
    with pytest.raises(MalformedJson):
        read(data)
    assert time.perf_counter() - started < 1


def test_a_reason_never_repeats_the_input() -> None:
    for data in BROKEN.values():
        with pytest.raises(MalformedJson) as caught:
            read(b'["SECRET",' + data + b"]")
        assert "SECRET" not in str(caught.value)
        assert caught.value.reason in str(caught.value)


def test_a_reason_says_where_when_that_is_known() -> None:
    with pytest.raises(MalformedJson) as caught:
        read(b'{"a":}')
    assert (caught.value.reason, caught.value.position) == ("not well-formed JSON", 5)
    assert str(caught.value) == "not well-formed JSON (at 5)"


@pytest.mark.parametrize(
    ("text", "integer", "value"),
    [
        ("7", True, 7),
        ("-12", True, -12),
        ("7.0", False, None),
        ("7e0", False, None),
        ("9" * 18, True, 10**18 - 1),
        ("9" * 5000, True, None),
    ],
    ids=["integer", "negative", "fraction", "exponent", "18 digits", "5000 digits"],
)
def test_a_number_knows_whether_it_is_an_integer(text: str, integer: bool, value: int | None) -> None:
    assert Number(text).is_integer is integer
    assert Number(text).integer() == value


def test_a_number_is_made_of_an_integer_or_of_number_text_only() -> None:
    assert Number.of(-30) == Number("-30")
    for text in ["", "1 ", "1,2", "NaN", "01", "1\n"]:
        with pytest.raises(ValueError, match="not a JSON number"):
            Number(text)


@pytest.mark.parametrize("foreign", [1, 1.5, b"", (), object()], ids=["int", "float", "bytes", "tuple", "object"])
def test_nothing_is_written_that_could_not_have_been_read(foreign: object) -> None:
    with pytest.raises(TypeError):
        write([foreign])  # type: ignore[list-item] # the mistake under test


def test_a_lone_surrogate_is_not_written() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        write("\ud800")


def test_an_integer_of_eighteen_digits_has_a_value_and_a_longer_one_has_none() -> None:
    assert Number("9" * 18).integer() == 10**18 - 1
    assert Number("9" * 19).integer() is None
    assert Number("-" + "9" * 17).integer() == -(10**17) + 1


def test_a_byte_order_mark_is_named_at_its_place() -> None:
    with pytest.raises(MalformedJson) as caught:
        read(b"\xef\xbb\xbf{}")

    assert (caught.value.reason, caught.value.position) == ("begins with a byte order mark", 0)
