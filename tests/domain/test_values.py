"""Which values a partner may give."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.grant import Field
from gateway.domain.values import is_clean, length, read_instant, why_unfit

AT = datetime(2026, 7, 2, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["2026-07-02T09:00:00Z", "2026-07-02T10:00:00+01:00", "2026-07-02T09:00:00.000000Z", "2026-07-01T19:00:00-14:00"],
)
def test_an_instant_is_read_in_whatever_zone(text: str) -> None:
    assert read_instant(text) == AT


@pytest.mark.parametrize(
    "text",
    [
        "2026-07-02",
        "2026-07-02T09:00Z",
        "2026-07-02T09:00:00",
        "2026-02-30T09:00:00Z",
        "2026-07-02T24:00:00Z",
        "2026-07-02T09:00:00+14:30",
        "2026-07-02T09:00:00.0000000Z",
        "2026-07-02 09:00:00Z",
        " 2026-07-02T09:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "٢٠٢٦-07-02T09:00:00Z",
        "",
    ],
)
def test_anything_else_is_no_instant(text: str) -> None:
    assert read_instant(text) is None


@pytest.mark.parametrize(
    ("field", "text", "why"),
    [
        (Field.COMMENT, "x" * 500, None),
        (Field.COMMENT, "two\nlines\tand a tab", None),
        (Field.COMMENT, "x" * 501, "comment may have at most 500 characters."),
        (Field.COMMENT, "\u2028", "comment is blank or holds control characters."),
        (Field.LOCATION, "x" * 200, None),
        (Field.LOCATION, "x" * 201, "location may have at most 200 characters."),
        (Field.LOCATION, "one\ntwo", "location is one line."),
        (Field.LOCATION, "", "location is blank or holds control characters."),
        (Field.START, "x" * 1000, None),
    ],
    ids=range(9),
)
def test_a_text_fits_or_it_is_told_why_not(field: Field, text: str, why: str | None) -> None:
    assert why_unfit(field, text) == why


@pytest.mark.parametrize(
    ("text", "clean"), [("x", True), (" ", False), ("a\x00", False), ("a\x85", False), ("\t", False)]
)
def test_a_clean_text_says_something_without_control_characters(text: str, clean: bool) -> None:
    assert is_clean(text) is clean


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 1), (59, 1), (60, 1), (119, 1), (120, 2), (1859, 30), (-60, 1)])
def test_a_length_is_whole_minutes_and_at_least_one(seconds: int, minutes: int) -> None:
    assert length(AT, AT + timedelta(seconds=seconds)) == minutes
