"""Canaries: random texts that are put where they must not come out again, and the search for them."""

import base64
import hashlib
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

INPUTS = {".pem", ".toml", ".key"}
"""Files of a gateway's folder that are given to it, not written by it."""


@dataclass
class Cage:
    """Makes canaries, and knows what each was."""

    names: dict[str, str] = field(default_factory=dict)
    spared: dict[str, Collection[str]] = field(default_factory=dict)
    """Where a canary may be found, because it is meant to be there."""

    def text(self, what: str, spared: Collection[str] = ()) -> str:
        """Sixteen characters that are nowhere else: good in a header, an id, a URL and in JSON."""
        return self._keep(what, f"c{secrets.token_hex(8)}", spared)

    def hexadecimal(self, what: str, digits: int, spared: Collection[str] = ()) -> str:
        return self._keep(what, secrets.token_hex(digits // 2), spared)

    def number(self, what: str) -> str:
        """An NHS number's ten digits."""
        return self._keep(what, f"9{secrets.randbelow(10**9):09d}", ())

    def known(self, what: str, text: str, spared: Collection[str] = ()) -> str:
        """Search for something that is there already."""
        return self._keep(what, text, spared)

    def resource(self, what: str, node: Any) -> Any:
        """The same FHIR with a canary in every member that is free text or an address, however deep."""
        if isinstance(node, list):
            return [self.resource(what, each) for each in node]
        if not isinstance(node, dict):
            return node
        told = {name: self.resource(f"{what}.{name}", value) for name, value in node.items()}
        for name in FREE_TEXT & told.keys():
            if isinstance(told[name], str):
                told[name] = self.text(f"{what}.{name}")
        return told

    def _keep(self, what: str, text: str, spared: Collection[str]) -> str:
        self.names[text], self.spared[text] = what, spared
        return text

    def out_in(self, sinks: Mapping[str, bytes]) -> list[str]:
        """What got out, and where."""
        return [
            f"{self.names[text]} in {name} as {form}"
            for name, content in sinks.items()
            for text, form in found(self.names, content)
            if not any(spared in name for spared in self.spared[text])
        ]


FREE_TEXT = {
    *("comment", "description", "display", "div", "family", "text", "line", "city", "postalCode", "patientInstruction"),
    *("valueString", "value"),
}


def found(texts: Collection[str], content: bytes) -> Iterator[tuple[str, str]]:
    """Which of the texts are in a content, and how they are written there."""
    plain = content.decode("latin-1")
    forms = {
        "text": plain.lower(),
        "digits": re.sub(r"(?<=\d)[ \-.](?=\d)", "", plain),
        # A JSON string inside a JSON string, or a percent sign inside a URL, hides nothing made of letters and digits.
        "base64": plain.replace("-", "+").replace("_", "/"),
    }
    for text in texts:
        for form, written in ways(text):
            if written in forms[form]:
                yield text, form


def ways(text: str) -> Iterator[tuple[str, str]]:
    """The ways in which a text may be written: as it is, in hex, in base64 wherever it begins, or as a bare hash."""
    data = text.encode()
    yield "text", text.lower()
    yield "text", quote(text, safe="").lower()
    yield "text", data.hex()
    yield "text", "".join(f"\\u{ord(sign):04x}" for sign in text)
    if text.isdigit():
        yield "digits", text
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + data + b"x" * 3).decode()
        first, last = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        yield "base64", encoded[first:last]
    for algorithm in ("md5", "sha1", "sha256"):
        digest = hashlib.new(algorithm, data).digest()
        yield "text", digest.hex()
        yield "base64", base64.b64encode(digest).decode().rstrip("=")


def written_files(directory: Path) -> dict[str, bytes]:
    """Every file that a gateway may have written below a folder, by name."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.suffix not in INPUTS and path.name != "sandbox.json"
    }
