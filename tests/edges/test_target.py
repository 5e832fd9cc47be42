import string
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.partner.target import Malformed, Target, read_target

HOST = "gateway.example:8080"

PATHS = {
    "root": ("/", ()),
    "one segment": ("/_ping", ("_ping",)),
    "an operation": (
        "/airedale/fhir/Appointment/a-1.2/$cancel",
        ("airedale", "fhir", "Appointment", "a-1.2", "$cancel"),
    ),
    "dots inside a segment": ("/.well-known/a..b/...", (".well-known", "a..b", "...")),
    "a tilde": ("/~x", ("~x",)),
    "absolute form": ("http://gateway.example:8080/a/b", ("a", "b")),
    "absolute form, https and capitals": ("HTTPS://Gateway.Example:8080/a", ("a",)),
}


@pytest.mark.parametrize(("raw", "segments"), PATHS.values(), ids=PATHS.keys())
def test_a_plain_path_is_read_as_its_segments(raw: str, segments: tuple[str, ...]) -> None:
    assert read_target(raw, HOST) == Target(segments)


REFUSED = {
    "nothing": "",
    "no slash": "a/b",
    "an asterisk": "*",
    "an authority": "gateway.example:8080",
    "a trailing slash": "/a/",
    "a doubled slash": "/a//b",
    "a leading doubled slash": "//a",
    "another host by doubled slash": "//evil.example/a",
    "a dot segment": "/a/./b",
    "a leading dot segment": "/../a",
    "a dot-dot segment": "/a/../b",
    "a last dot-dot segment": "/a/..",
    "encoded dots": "/a/%2e%2e/b",
    "half encoded dots": "/a/.%2E/b",
    "twice encoded dots": "/a/%252e%252e/b",
    "an encoded slash": "/a%2Fb",
    "an encoded letter": "/%61",
    "an encoded NUL": "/a%00",
    "an encoded question mark": "/a%3F_method=DELETE",
    "a parameter": "/a;b/c",
    "dots with a parameter": "/a/..;x=1/c",
    "a backslash": "/a\\b",
    "an encoded backslash": "/a%5cb",
    "a fragment": "/a#b",
    "a fragment after the query": "/a?b=c#d",
    "a space": "/a b",
    "a tab": "/a\tb",
    "a line feed at the end": "/a\n",
    "a NUL": "/a\0",
    "an at sign": "/a@b",
    "a colon": "/a:b",
    "a star": "/a*",
    "a brace": "/{a}",
    "a letter beyond ASCII": "/é",
    "a stray byte": "/\udce9",
    "a wide full stop": "/a/\uff0e\uff0e/b",
    "absolute form, another host": "http://evil.example:8080/a",
    "absolute form, another port": "http://gateway.example:8081/a",
    "absolute form, no port": "http://gateway.example/a",
    "absolute form, userinfo": "http://gateway.example:8080@evil.example/a",
    "absolute form, own userinfo": "http://user@gateway.example:8080/a",
    "absolute form, no path": "http://gateway.example:8080",
    "absolute form, no authority": "http:///a",
    "absolute form, dots": "http://gateway.example:8080/../a",
    "another scheme": "ftp://gateway.example:8080/a",
    "a name that is encoded": "/a?%64ate=1",
    "a name with a bracket": "/a?b[]=1",
    "an empty name": "/a?=1",
    "an empty pair": "/a?b=1&&c=2",
    "an ampersand at the end": "/a?b=1&",
    "a percent sign alone": "/a?b=%",
    "a cut escape": "/a?b=%4",
    "an escape of no digits": "/a?b=%zz",
    "an overlong slash": "/a?b=%c0%af",
    "half a character": "/a?b=%c3",
    "a surrogate": "/a?b=%ed%a0%80",
    "an encoded NUL in a value": "/a?b=%00",
    "an encoded line feed in a value": "/a?b=a%0d%0ab",
    "an encoded C1 character in a value": "/a?b=%c2%85",
    "a raw letter beyond ASCII in a value": "/a?b=é",
    "a raw backslash in a value": "/a?b=\\",
    "a raw quotation mark in a value": '/a?b="c"',
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_every_other_spelling_is_malformed(raw: str) -> None:
    read = read_target(raw, HOST)
    assert isinstance(read, Malformed)
    assert read.reason.endswith(".")


@pytest.mark.parametrize(
    "host",
    ["", "user@gateway", "gateway/x", "gateway:", "gateway:123456", "gate way", "[::1", "a,b", "gateway\n", "[v1.a]"],
)
def test_a_host_that_is_no_authority_is_malformed(host: str) -> None:
    assert isinstance(read_target("/a", host), Malformed)


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        ("http://gateway/a", "gateway:80"),
        ("http://gateway:80/a", "gateway"),
        ("https://gateway:443/a", "gateway"),
        ("http://[::1]:8080/a", "[::1]:8080"),
    ],
    ids=["usual port in the header", "usual port in the target", "usual port of https", "IPv6"],
)
def test_absolute_form_may_name_the_same_authority_with_its_usual_port(raw: str, host: str) -> None:
    assert read_target(raw, host) == Target(("a",))


def test_the_usual_port_of_the_other_scheme_is_another_authority() -> None:
    assert isinstance(read_target("http://gateway:443/a", "gateway"), Malformed)


QUERIES = {
    "none": ("", ()),
    "empty": ("?", ()),
    "a name alone": ("?a", (("a", ""),)),
    "a leading underscore": ("?_count=1", (("_count", "1"),)),
    "a modifier and a chain": ("?patient.identifier=a&b:c=d", (("patient.identifier", "a"), ("b:c", "d"))),
    "a raw bar": ("?identifier=s|v", (("identifier", "s|v"),)),
    "an encoded bar": ("?identifier=s%7Cv", (("identifier", "s|v"),)),
    "a second equals sign": ("?a=b=c", (("a", "b=c"),)),
    "a plus sign is no space": ("?date=2026-01-01T00:00:00+01:00", (("date", "2026-01-01T00:00:00+01:00"),)),
    "decoded once": ("?a=%2525", (("a", "%25"),)),
    "an encoded ampersand": ("?a=b%26c%3Dd", (("a", "b&c=d"),)),
    "beyond ASCII": ("?a=%C3%A9", (("a", "é"),)),
    "a question mark": ("?a=b?c", (("a", "b?c"),)),
}


@pytest.mark.parametrize(("query", "pairs"), QUERIES.values(), ids=QUERIES.keys())
def test_a_query_is_read_as_pairs_in_order(query: str, pairs: tuple[tuple[str, str], ...]) -> None:
    assert read_target("/a" + query, HOST) == Target(("a",), pairs)


def test_repeated_names_are_told_except_date() -> None:
    read = read_target("/a?date=1&date=2&status=a&status=b&_count=1", HOST)
    assert isinstance(read, Target)
    assert read.repeated == {"status"}
    assert read.every("date") == ("1", "2")
    assert read.every("missing") == ()


SEGMENT = st.text(string.ascii_letters + string.digits + "-._~$", min_size=1).filter(
    lambda text: text not in {".", ".."}
)
NAME = st.from_regex(r"[A-Za-z0-9._:\-]+", fullmatch=True).filter(str.isascii)
VALUE = st.text(st.characters(exclude_categories=["Cc", "Cs"]))


@given(st.lists(SEGMENT), st.lists(st.tuples(NAME, VALUE), max_size=5))
def test_what_is_written_is_read(segments: list[str], pairs: list[tuple[str, str]]) -> None:
    raw = "/" + "/".join(segments)
    if pairs:
        raw += "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs)
    read = read_target(raw, HOST)
    assert read == Target(tuple(segments), tuple(pairs))
    assert isinstance(read, Target)
    assert read.path == "/" + "/".join(segments)


@given(st.text(string.ascii_letters + string.digits + "-._~$/%;\\?&=#:@ \0é", max_size=40).map("/".__add__))
@example("/a/%2e%2e/b")
def test_no_resource_has_two_spellings(raw: str) -> None:
    read = read_target(raw, HOST)
    if isinstance(read, Target):
        path = raw.partition("?")[0]
        assert path == read.path == unquote(path)
        assert not {"", ".", ".."} & set(read.segments)
        assert "%" not in path


@given(st.text(), st.text())
def test_any_text_at_all_is_a_target_or_a_reason_without_it(raw: str, host: str) -> None:
    read = read_target(raw, host)
    if isinstance(read, Malformed) and len(raw) > 6:
        assert raw not in read.reason
