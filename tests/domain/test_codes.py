"""The catalogue of error codes against the public table of statuses and FHIR's issue types."""

import re

import pytest

from gateway.domain.codes import CATALOGUE, Code

PROMISED: dict[int, str] = {
    400: "malformed-request malformed-json invalid-parameter missing-parameter",
    401: "token-missing token-expired token-invalid",
    403: "partner-suspended scope-insufficient no-grant grant-not-yet-valid grant-expired operation-not-granted",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    408: "request-timeout",
    409: "already-cancelled not-changeable request-in-progress appointment-busy",
    412: "version-conflict",
    413: "body-too-large",
    415: "unsupported-media-type",
    422: "in-the-past too-late not-supported-on-route field-not-changeable reason-not-allowed nothing-to-change"
    " end-before-start new-time-in-the-past outside-change-window mixed-intent idempotency-key-reused",
    428: "version-required",
    429: "rate-limited",
    500: "internal",
    502: "upstream-refused upstream-invalid",
    503: "upstream-unavailable audit-unavailable state-unavailable overloaded draining",
    504: "outcome-unknown upstream-timeout",
}

ISSUE_TYPES = frozenset(
    {
        "invalid",
        "structure",
        "required",
        "value",
        "invariant",
        "security",
        "login",
        "unknown",
        "expired",
        "forbidden",
        "suppressed",
        "processing",
        "not-supported",
        "duplicate",
        "multiple-matches",
        "not-found",
        "deleted",
        "too-long",
        "code-invalid",
        "extension",
        "too-costly",
        "business-rule",
        "conflict",
        "transient",
        "lock-error",
        "no-store",
        "exception",
        "timeout",
        "incomplete",
        "throttled",
        "informational",
    }
)
"""FHIR R4 value set `issue-type`, all levels."""

DIRECTIONS = frozenset(
    {
        "accept",
        "add",
        "ask",
        "choose",
        "correct",
        "do",
        "follow",
        "get",
        "give",
        "leave",
        "nothing",
        "read",
        "repeat",
        "see",
        "send",
        "tell",
        "there",
        "use",
        "wait",
    }
)
"""How the sentence begins that says what to do, or that there is nothing to do."""

INTERNALS = re.compile(r"[_`{}<>]|aiohttp|pydantic|sqlite|python|exception|traceback|gateway\.\w", re.IGNORECASE)

EACH = pytest.mark.parametrize("code", list(Code), ids=str)


def test_every_code_is_in_the_catalogue() -> None:
    assert set(CATALOGUE) == set(Code)


def test_codes_and_statuses_are_those_promised() -> None:
    promised = {code: status for status, codes in PROMISED.items() for code in codes.split()}

    assert {code.value: entry.status for code, entry in CATALOGUE.items()} == promised


def test_the_catalogue_is_told_in_the_order_of_statuses() -> None:
    statuses = [entry.status for entry in CATALOGUE.values()]

    assert statuses == sorted(statuses)


@EACH
def test_a_code_is_lower_case_words_and_its_name_says_the_same(code: Code) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code.value)
    assert code.name == code.value.replace("-", "_").upper()


@EACH
def test_the_issue_type_exists_in_fhir(code: Code) -> None:
    assert CATALOGUE[code].issue in ISSUE_TYPES


@EACH
def test_the_advice_is_one_or_two_plain_sentences(code: Code) -> None:
    advice = CATALOGUE[code].advice
    sentences = re.split(r"(?<=\.) ", advice)

    assert 1 <= len(sentences) <= 2
    assert all(re.fullmatch(r"[$A-Z][^.!?]*\.", re.sub(r"(?<=\d)\.(?=\d)", "", one)) for one in sentences)
    assert len(advice) <= 120
    assert not INTERNALS.search(advice)


@EACH
def test_the_advice_says_what_to_do(code: Code) -> None:
    openings = {words.split()[0].lower() for words in re.split(r"(?:[.;] )", CATALOGUE[code].advice)}

    assert openings & DIRECTIONS


@EACH
def test_a_wait_is_told_where_waiting_helps(code: Code) -> None:
    entry = CATALOGUE[code]
    waits = entry.status in {429, 503} or code in {Code.REQUEST_IN_PROGRESS, Code.APPOINTMENT_BUSY}

    assert (entry.retry_after is not None) is waits
    assert entry.retry_after is None or entry.retry_after > 0


def test_every_503_says_that_it_is_safe_to_repeat() -> None:
    told = [entry.advice for entry in CATALOGUE.values() if entry.status == 503]

    assert all("Nothing was done" in advice and "repeat" in advice for advice in told)
