"""Patients and free text in the audit stream: recognisable to who holds the key, unreadable to anybody else."""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

_DIGITS: Final = 10


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Keyed names. A plain hash of a ten-digit number is undone by trying all of them; hence the key."""

    key_id: str
    key: bytes = field(repr=False)
    _keyed: hmac.HMAC = field(init=False, repr=False, compare=False)
    """Of no message yet: taking in the key costs more than taking in a name."""

    def __post_init__(self) -> None:
        if len(self.key) < 16:
            raise ValueError("a pseudonym key has at least 16 bytes")
        # A frozen dataclass sets its derived fields this way.
        object.__setattr__(self, "_keyed", hmac.new(self.key, digestmod=hashlib.sha256))

    def patient(self, nhs_number: str | None, route: str, reference: str) -> str:
        """Name a patient: key id, colon, base64url HMAC-SHA256 of `nhs|` and the number.

        A patient without NHS number is named by the route and PKB's reference (`Patient/…`) there.
        """
        return self._name(f"{route}|{reference}" if nhs_number is None else f"nhs|{nhs_number}")

    def text(self, value: str) -> dict[str, int | str]:
        """Record free text as its length in characters and its HMAC, so that two copies can be compared."""
        return {"length": len(value), "hmac": self._name(f"text|{value}")}

    def _name(self, message: str) -> str:
        keyed = self._keyed.copy()
        keyed.update(message.encode("utf-8", "surrogatepass"))
        return f"{self.key_id}:{base64.urlsafe_b64encode(keyed.digest()).rstrip(b'=').decode()}"


def known_as(keys: Iterable[Pseudonyms], nhs_number: str) -> frozenset[str]:
    """Give every name that a patient has on record, under the present key and under those before it."""
    return frozenset(key.patient(nhs_number, "", "") for key in keys)


def read_nhs_number(text: str) -> str:
    """Read an NHS number as people write it: ten digits, perhaps in groups. Raises ValueError, without the number."""
    digits = "".join(text.split())
    if not (len(digits) == _DIGITS and digits.isascii() and digits.isdigit()):
        raise ValueError("that is no NHS number: ten digits are needed, spaces between them do no harm")
    return digits
