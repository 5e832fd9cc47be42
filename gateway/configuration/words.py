"""How messages speak of what was found and what was expected; the small readers of text they come from."""

import difflib
import json
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from typing import Final, TypeVar

from gateway.domain.appointment import SNOMED_CT
from gateway.domain.grant import Coding

T = TypeVar("T")

ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
ID_PATTERN: Final = "^[a-z0-9][a-z0-9-]{0,62}$"
SOURCE_PATTERN: Final = r"^[A-Z][A-Za-z]{1,63}/[A-Za-z0-9.-]{1,64}$"
LONGEST: Final = 200
"""Characters of a name or a note."""

_SOURCE: Final = re.compile(SOURCE_PATTERN)
_SNOMED_CODE: Final = re.compile(r"[0-9]{6,18}")
_CODE: Final = re.compile(r"[^\s|]{1,64}")
_ALIAS: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def echo(value: str) -> str:
    """Repeat what somebody wrote, short and without control characters."""
    return json.dumps(value if len(value) <= 60 else value[:57] + "...", ensure_ascii=not value.isprintable())


def kind_of(value: object) -> str:
    """Name the type of a TOML value. Never shows the value: it may be a secret in the wrong place."""
    match value:
        case bool():
            return "true or false"
        case int():
            return "a whole number"
        case float():
            return "a decimal number"
        case str():
            return "text in quotes"
        case datetime():
            return "a date with a time"
        case date():
            return "a date"
        case time():
            return "a time"
        case list():
            return "a list in [ ]"
        case _:
            return "a table"


def near(word: str, known: Iterable[str]) -> str:
    """Give `; did you mean "x"?` when one of the known words is close, else nothing."""
    folded = {each.casefold(): each for each in sorted(known)}
    close = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {echo(folded[close[0]])}?" if close else ""


def listed(words: Iterable[str], last: str = "or") -> str:
    """Write `a, b or c`; a long list is cut."""
    several = sorted(words)
    if len(several) > 12:
        return ", ".join(several[:12]) + ", ..."
    return several[0] if len(several) == 1 else f"{', '.join(several[:-1])} {last} {several[-1]}"


def text(value: object) -> str:
    """Read text that stays on one line. Raises ValueError, as all readers here do."""
    if not isinstance(value, str):
        raise ValueError(f"expected text in quotes, found {kind_of(value)}")  # noqa: TRY004 - pydantic collects ValueError only
    if not value.strip():
        raise ValueError("must not be empty")
    if len(value) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
    if not value.isprintable():
        raise ValueError("must be plain text on one line, without control characters")
    return value


def exact(value: object) -> str:
    """Read text that names something: no wildcard, no blanks around it."""
    word = text(value)
    if "*" in word:
        raise ValueError("there are no wildcards: name each one")
    if word != word.strip():
        raise ValueError("there is a blank at the beginning or the end")
    return word


def identifier(value: object) -> str:
    """Read the id of a partner, a customer, a grant or a route."""
    word = exact(value)
    if not ID.fullmatch(word):
        raise ValueError(
            f"{echo(word)} cannot be an id: use small letters, digits and -, at most 63, "
            "the first one a letter or a digit"
        )
    return word


def customer_identifier(value: object) -> str:
    """Read the id of a customer, which is the first part of every address below it."""
    word = identifier(value)
    if word in {"oauth2", "docs"}:
        raise ValueError(f"{echo(word)} is an address of the gateway itself; choose another id")
    return word


def one_of(known: Iterable[T], what: str) -> Callable[[object], T]:
    """Make a reader of one word out of a closed list."""
    by_name = {str(value): value for value in known}

    def read(value: object) -> T:
        word = exact(value)
        if word not in by_name:
            hint = near(word, by_name)
            raise ValueError(f"{echo(word)} is not {what}; expected {listed(by_name)}{hint}")
        return by_name[word]

    return read


def source(value: object) -> str:
    """Read the relative reference by which PKB's resources name a customer."""
    word = exact(value)
    if not _SOURCE.fullmatch(word):
        raise ValueError(f'{echo(word)} is not a reference as PKB writes it, such as "Organization/airedale"')
    return word


def specialty(value: object) -> Coding:
    """Read `code` of SNOMED CT, or `system|code`."""
    word = exact(value)
    if "|" not in word:
        if not _SNOMED_CODE.fullmatch(word):
            raise ValueError(
                f"{echo(word)} is not a SNOMED CT code (6 to 18 digits); a code of another system is "
                'written as "system|code"'
            )
        return Coding(SNOMED_CT, word)
    system, _, code = word.partition("|")
    if ":" not in system or not _CODE.fullmatch(system) or not _CODE.fullmatch(code):
        raise ValueError(f'{echo(word)} is not "system|code" with the address of a code system')
    return Coding(system, code)


def hl7_alias(value: object) -> str:
    """Read the alias PKB issued for a customer. It goes into MSH-4, where braces and delimiters have a meaning."""
    word = exact(value)
    if not _ALIAS.fullmatch(word):
        raise ValueError("an HL7 alias is made of letters, digits, - _ and . only, at most 64")
    return word


def moment(value: object) -> date:
    """Read a TOML date, or a date-time with an offset."""
    match value:
        case str():
            raise ValueError("a date is written without quotes, as in 2026-01-31")
        case datetime() if value.tzinfo is None:
            raise ValueError("a date with a time needs an offset, as in 2026-01-31T09:00:00+00:00 or ...T09:00:00Z")
        case date() if not 2000 <= value.year <= 2999:
            raise ValueError("the year must be between 2000 and 2999")
        case date():
            return value
        case _:
            raise ValueError(f"expected a date such as 2026-01-31, found {kind_of(value)}")
