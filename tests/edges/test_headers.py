from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.partner.headers import (
    PLAIN,
    SINGLE,
    Head,
    Media,
    Preference,
    accepts_fhir,
    content_type_fits,
    correlation_id,
    is_idempotency_key,
    preference,
    read_head,
    read_if_match,
    request_id,
    sort_lines,
)
from gateway.partner.target import Malformed

A_UUID = "0b3f4a52-93a8-4d7e-8f60-0a4c9d1f2b77"
HOST = (b"Host", b"gateway")


def test_the_head_holds_what_the_gateway_looks_at() -> None:
    head = read_head(
        sort_lines(
            [
                (b"hOsT", b"gateway:8080"),
                (b"Authorization", b"Bearer a.b.c"),
                (b"Content-Type", b"application/json"),
                (b"Content-Length", b"12"),
                (b"If-Match", b'W/"3"'),
                (b"Idempotency-Key", b"k"),
                (b"Accept", b"application/json"),
                (b"Accept", b"*/*"),
                (b"Prefer", b"return=minimal"),
                (b"Content-Encoding", b"gzip"),
                (b"Expect", b"100-Continue"),
                (b"Upgrade", b"h2c"),
            ]
        )
    )
    assert head == Head(
        host="gateway:8080",
        authorization="Bearer a.b.c",
        content_type="application/json",
        if_match='W/"3"',
        idempotency_key="k",
        accept=("application/json", "*/*"),
        prefer=("return=minimal",),
        encoded=True,
        content_length=12,
        expects_continue=True,
        upgrade=True,
    )


def test_a_head_with_a_host_only_is_enough() -> None:
    assert read_head(sort_lines([HOST])) == Head("gateway", None, None, None, None, (), (), False, None, False, False)


@pytest.mark.parametrize("name", SINGLE)
def test_a_second_line_of_a_header_that_decides_is_malformed(name: str) -> None:
    good = b"100-continue" if name == "Expect" else b"chunked" if name == "Transfer-Encoding" else b"1"
    others = [] if name == "Host" else [HOST]
    assert isinstance(read_head(sort_lines([*others, (name.encode(), good)])), Head)
    assert isinstance(read_head(sort_lines([*others, (name.encode(), good), (name.lower().encode(), good)])), Malformed)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("value", [b"a\xe9", b"a\x00", b"a\x7f", b"a\n", b"\xff"], ids=repr)
def test_bytes_beyond_printable_ascii_in_a_header_that_decides_are_malformed(name: str, value: bytes) -> None:
    others = [] if name == "Host" else [HOST]
    assert isinstance(read_head(sort_lines([*others, (name.encode(), value)])), Malformed)


BAD = {
    "no host": [],
    "an empty host": [(b"Host", b"")],
    "101 headers": [HOST, *[(b"X", b"1")] * 100],
    "headers too long together": [HOST, *[(b"X", b"1" * 7_000)] * 10],
    "length beside coding": [HOST, (b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")],
    "a list of lengths": [HOST, (b"Content-Length", b"1, 1")],
    "a signed length": [HOST, (b"Content-Length", b"+1")],
    "a length with an underscore": [HOST, (b"Content-Length", b"1_0")],
    "an empty length": [HOST, (b"Content-Length", b"")],
    "a length of 19 digits": [HOST, (b"Content-Length", b"1" * 19)],
    "two codings": [HOST, (b"Transfer-Encoding", b"gzip, chunked")],
    "another expectation": [HOST, (b"Expect", b"tea")],
    "an empty expectation": [HOST, (b"Expect", b"")],
}


@pytest.mark.parametrize("lines", BAD.values(), ids=BAD.keys())
def test_a_bad_head_is_malformed(lines: list[tuple[bytes, bytes]]) -> None:
    assert isinstance(read_head(sort_lines(lines)), Malformed)


def test_a_hundred_headers_are_read() -> None:
    assert isinstance(read_head(sort_lines([HOST, *[(b"X", b"1")] * 99])), Head)


def test_the_identity_coding_is_no_coding() -> None:
    head = read_head(sort_lines([HOST, (b"Content-Encoding", b"Identity")]))
    assert isinstance(head, Head)
    assert not head.encoded


@given(st.lists(st.tuples(st.sampled_from([name.encode() for name in (*PLAIN, "X-Note")]), st.binary(max_size=30))))
def test_any_lines_at_all_are_a_head_or_a_reason(lines: list[tuple[bytes, bytes]]) -> None:
    read = read_head(sort_lines(lines))
    assert isinstance(read, Head | Malformed)
    assert isinstance(request_id(sort_lines(lines), lambda: "new"), str)


IDS = {
    "a UUID": ([A_UUID], A_UUID),
    "a UUID in capitals": ([A_UUID.upper()], A_UUID.upper()),
    "none": ([], None),
    "two": ([A_UUID, A_UUID], None),
    "a UUID in braces": (["{" + A_UUID + "}"], None),
    "a UUID without hyphens": ([A_UUID.replace("-", "")], None),
    "text": (["Jane Doe"], None),
    "a UUID and a line": ([A_UUID + "\n"], None),
}


@pytest.mark.parametrize(("values", "taken"), IDS.values(), ids=IDS.keys())
def test_only_one_uuid_is_taken_over(values: list[str], taken: str | None) -> None:
    request = sort_lines([(b"X-Request-ID", value.encode()) for value in values])
    assert request_id(request, lambda: "new") == (taken or "new")
    assert correlation_id(sort_lines([(b"x-correlation-id", value.encode()) for value in values])) == taken


ACCEPTED: dict[str, Sequence[str]] = {
    "none": [],
    "empty": [""],
    "FHIR": ["application/fhir+json"],
    "JSON": ["application/json"],
    "capitals": ["Application/FHIR+JSON"],
    "any application": ["application/*"],
    "anything": ["*/*"],
    "the right version": ["application/fhir+json; fhirVersion=4.0"],
    "the right version, quoted": ['application/fhir+json;fhirVersion="4.0"'],
    "with a charset": ["application/fhir+json;charset=utf-8"],
    "a list": ["text/html, application/xml;q=0.9, */*;q=0.8"],
    "two lines": ["text/html", "application/json"],
    "a small weight": ["application/json;q=0.001"],
    "JSON though FHIR is not wanted": ["application/fhir+json;q=0, application/json"],
    "FHIR though nothing else is wanted": ["application/fhir+json, */*;q=0"],
    "nonsense beside": [',,nonsense;;, application/json;q="1", "a,b'],
    "another version beside": ["application/fhir+json;fhirVersion=3.0, application/fhir+json;fhirVersion=4.0"],
    "a comma in quotes": ['text/plain;a="x,y", application/json'],
}


@pytest.mark.parametrize("accept", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_fhir_json_is_acceptable(accept: Sequence[str]) -> None:
    assert accepts_fhir(tuple(accept))


UNACCEPTED: dict[str, Sequence[str]] = {
    "XML": ["application/fhir+xml"],
    "HTML": ["text/html"],
    "any text": ["text/*"],
    "another version": ["application/fhir+json; fhirVersion=3.0"],
    "a longer version": ["application/fhir+json; fhirVersion=4.0.1"],
    "no weight": ["application/fhir+json;q=0"],
    "no weight in three digits": ["application/json;q=0.000"],
    "nothing at all": ["*/*;q=0"],
    "anything but FHIR": ["application/fhir+json;q=0, */*"],
    "anything but applications": ["application/*;q=0, */*"],
    "a bad weight": ["application/json;q=2"],
    "a repeated parameter": ["application/json;q=1;q=1"],
    "nonsense": ["nonsense"],
    "JSON inside a quoted string": ['text/plain;a="x, application/json"'],
}


@pytest.mark.parametrize("accept", UNACCEPTED.values(), ids=UNACCEPTED.keys())
def test_fhir_json_is_not_acceptable(accept: Sequence[str]) -> None:
    assert not accepts_fhir(tuple(accept))


FITTING = {
    "FHIR": ("application/fhir+json", Media.FHIR),
    "JSON for FHIR": ("application/json", Media.FHIR),
    "UTF-8": ("application/fhir+json; charset=UTF-8", Media.FHIR),
    "UTF-8, quoted": ('application/fhir+json;charset="utf-8"', Media.FHIR),
    "version 4.0": ("application/fhir+json; fhirVersion=4.0; charset=utf-8", Media.FHIR),
    "an unknown parameter": ("application/json; profile=x", Media.FHIR),
    "an empty parameter": ("application/json;", Media.FHIR),
    "JSON Patch": ("application/json-patch+json", Media.JSON_PATCH),
    "a form": ("application/x-www-form-urlencoded", Media.FORM),
}


@pytest.mark.parametrize(("content_type", "media"), FITTING.values(), ids=FITTING.keys())
def test_a_content_type_fits_its_endpoint(content_type: str, media: Media) -> None:
    assert content_type_fits(content_type, media)


UNFITTING = {
    "none": (None, Media.FHIR),
    "empty": ("", Media.FHIR),
    "text": ("text/plain", Media.FHIR),
    "XML": ("application/fhir+xml", Media.FHIR),
    "UTF-16": ("application/json; charset=utf-16", Media.FHIR),
    "two charsets": ("application/json; charset=utf-8; charset=utf-16", Media.FHIR),
    "version 3.0": ("application/fhir+json; fhirVersion=3.0", Media.FHIR),
    "two types": ("application/json, text/plain", Media.FHIR),
    "a range": ("application/*", Media.FHIR),
    "a broken parameter": ("application/json; charset", Media.FHIR),
    "an escaped value": (r'application/json; charset="utf\-8"', Media.FHIR),
    "JSON for JSON Patch": ("application/json", Media.JSON_PATCH),
    "JSON Patch for FHIR": ("application/json-patch+json", Media.FHIR),
    "multipart for a form": ("multipart/form-data; boundary=a", Media.FORM),
}


@pytest.mark.parametrize(("content_type", "media"), UNFITTING.values(), ids=UNFITTING.keys())
def test_a_content_type_does_not_fit(content_type: str | None, media: Media) -> None:
    assert not content_type_fits(content_type, media)


@pytest.mark.parametrize(
    ("if_match", "version"), [('W/"3"', "3"), ('"3"', "3"), ('W/"a b"', None), ('"a-b_c/1"', "a-b_c/1")], ids=str
)
def test_one_entity_tag_is_a_version(if_match: str, version: str | None) -> None:
    read = read_if_match(if_match)
    assert read == version if version else isinstance(read, Malformed)


@pytest.mark.parametrize(
    "if_match",
    ["", "*", "3", "W/3", 'w/"3"', '""', 'W/""', '"3', '"1", "2"', 'W/"1",W/"2"', "'3'", '"3" ', '"é"', '"3"\n'],
    ids=repr,
)
def test_anything_but_one_entity_tag_is_refused_with_a_reason(if_match: str) -> None:
    read = read_if_match(if_match)
    assert isinstance(read, Malformed)
    assert read.reason.endswith(".")


PREFERRED: dict[str, tuple[Sequence[str], Preference]] = {
    "none": ([], Preference.REPRESENTATION),
    "minimal": (["return=minimal"], Preference.MINIMAL),
    "quoted": (['return="minimal"'], Preference.MINIMAL),
    "outcome": (["return=OperationOutcome"], Preference.OPERATION_OUTCOME),
    "representation": (["return=representation"], Preference.REPRESENTATION),
    "capitals": (["Return=Minimal"], Preference.MINIMAL),
    "unknown": (["return=everything"], Preference.REPRESENTATION),
    "empty": (["return"], Preference.REPRESENTATION),
    "beside others": (["respond-async, return=minimal; foo=bar, wait=10"], Preference.MINIMAL),
    "on the second line": (["handling=strict", "return=minimal"], Preference.MINIMAL),
    "the first known wins": (["return=x, return=OperationOutcome, return=minimal"], Preference.OPERATION_OUTCOME),
}


@pytest.mark.parametrize(("prefer", "preferred"), PREFERRED.values(), ids=PREFERRED.keys())
def test_a_preference_is_the_first_return_that_is_known(prefer: Sequence[str], preferred: Preference) -> None:
    assert preference(tuple(prefer)) is preferred


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128))
def test_visible_ascii_is_an_idempotency_key(text: str) -> None:
    assert is_idempotency_key(text)


@pytest.mark.parametrize("text", ["", "a" * 129, "a b", "a\n", "é", "\x7f"], ids=repr)
def test_anything_else_is_no_idempotency_key(text: str) -> None:
    assert not is_idempotency_key(text)


@given(st.lists(st.text(max_size=60), max_size=3))
def test_any_text_at_all_can_be_asked_about(lines: list[str]) -> None:
    assert accepts_fhir(tuple(lines)) in {True, False}
    assert preference(tuple(lines)) in Preference
    for line in lines:
        assert content_type_fits(line, Media.FHIR) in {True, False}
        assert isinstance(read_if_match(line), str | Malformed)
