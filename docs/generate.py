#!/usr/bin/env python3
"""Write docs/errors.md from the catalogue of codes and docs/settings.md from the shape of gateway.toml.

`make docs` runs it; a test fails where a document is behind the code or a key has no meaning written down here.
"""

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from gateway.configuration.settings import Settings
from gateway.domain.codes import CATALOGUE, Code
from gateway.domain.grant import Rate

FOLDER: Final = Path(__file__).resolve().parent
NOTICE: Final = "<!-- Written by docs/generate.py; run `make docs` instead of editing. -->\n"
NEVER_SENT: Final[frozenset[Code]] = frozenset()
"""Codes that no request can get in this version."""

ABOUT: Final[dict[Code, str]] = {
    Code.MALFORMED_REQUEST: (
        "The path has characters outside `A-Z a-z 0-9 - . _ ~ $ /` or an empty, `.` or `..` segment; two lines of a "
        "header that may come once; a bad length or framing. The connection may be closed."
    ),
    Code.MALFORMED_JSON: "Also for repeated members, NaN, nesting deeper than 32, a byte order mark, trailing data.",
    Code.INVALID_PARAMETER: "An unknown or repeated parameter, a wrong type or value, a `_cursor` that is not (or no "
    "longer) yours, a bad `If-Match`, an `Idempotency-Key` that is not 1 to 128 visible ASCII characters.",
    Code.REQUEST_IN_PROGRESS: "Nothing was done for this one; the answer of the first is given again once it is there.",
    Code.IDEMPOTENCY_KEY_REUSED: "Method, path, media type, `If-Match` or body differ. Nothing was done.",
    Code.MISSING_PARAMETER: "`reason` for `$cancel`; something to change for `$change`; `patient` and `birthDate` "
    "where the grant requires them; `patient.identifier` or `identifier` of a search.",
    Code.TOKEN_EXPIRED: "All else about the token is good.",
    Code.TOKEN_INVALID: "The answer does not say why; the audit does.",
    Code.SCOPE_INSUFFICIENT: "`r` for reads, `$actions` and Tasks; `s` for searches; `u` for `$change` and `$cancel`.",
    Code.NO_GRANT: "The same answer for a customer that does not exist.",
    Code.NOT_FOUND: (
        "No such appointment, or not this customer's, or its owner cannot be proven, or outside the grant's labels or "
        "specialties, or another patient's. All are answered alike, after the same waiting time. A path that does not "
        "exist has this code too."
    ),
    Code.VERSION_REQUIRED: "`PUT` and `PATCH` need it; for `$cancel` and `$change` it is optional.",
    Code.MIXED_INTENT: "A `PUT` or `PATCH` that sets `status` to `cancelled` and moves the appointment too.",
    Code.NOT_CHANGEABLE: "Only `booked`, `pending`, `proposed` and `waitlist` with a start can be changed.",
    Code.APPOINTMENT_BUSY: "With `Content-Location` where the Task of the other write is your own. A write that "
    "PKB only accepted holds its appointment too.",
    Code.VERSION_CONFLICT: "`If-Match` names an older version, or PKB's copy changed while this write was under way; "
    "also a `test` of a `PATCH` that does not hold.",
    Code.IN_THE_PAST: "An appointment that starts at this very moment is in the past.",
    Code.TOO_LATE: "The diagnostics give the last moment. Exactly at it is in time.",
    Code.NOT_SUPPORTED_ON_ROUTE: "`managementUrl` on a `customer-fhir` route; on an `hl7` route what a message cannot "
    "say, see [hl7.md](hl7.md#what-cannot-be-said).",
    Code.FIELD_NOT_CHANGEABLE: "Also `location` where the appointment has several; in a `PUT` or `PATCH` every element "
    "that differs from PKB's copy and is none of those, by its path.",
    Code.REASON_NOT_ALLOWED: (
        "Exactly one coding of `http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason` is needed; "
        "text alone is not enough."
    ),
    Code.OUTSIDE_CHANGE_WINDOW: "Further from the present start than `within`, or sooner than the notice.",
    Code.INTERNAL: "If the request was a write, look at the appointment before you do anything else.",
    Code.UPSTREAM_REFUSED: "PKB did not accept the gateway's own credentials, or said no to the write. On an `hl7` "
    "route: not the partner's HL7 login, or `AR`.",
    Code.UPSTREAM_INVALID: "Reads only, the read before a write included.",
    Code.UPSTREAM_UNAVAILABLE: "Also when the gateway has stopped asking PKB for two seconds after many failures.",
    Code.OVERLOADED: "Too many requests at once, for the gateway or for this customer.",
    Code.OUTCOME_UNKNOWN: "The only error after which the write may have happened without a final answer.",
    Code.UPSTREAM_TIMEOUT: "While reading; nothing had been sent.",
}

MEANINGS: Final[dict[str, str]] = {
    "public_url": "What partners connect to, without a path. Their assertions are bound to it, and so are our tokens.",
    "grants": "The grants file. See [grants.md](grants.md).",
    "codes_system": "The `system` of the codes in error answers.",
    "state.url": "Where used assertions, Tasks, idempotency keys and blocks are kept: `sqlite:///path/to/state.db` on "
    "one machine, `postgresql://host/database` for several; with a password only as a reference to the whole address.",
    "state.keep": "How long ended Tasks are kept; at least 24h.",
    "listen.host": "Address to listen on for partners. Put a proxy with your certificate in front, or set "
    "`listen.tls`.",
    "listen.port": "Port for partners; 0 picks a free one.",
    "listen.workers": "Processes that serve; 1 to 64. A dead one is replaced. See "
    "[operations.md](operations.md#workers).",
    "listen.trusted_proxies": "Proxies (addresses or networks) whose word about the caller's address is believed: the "
    "nearest hop in `Forwarded` or `X-Forwarded-For` that is none of them is the audit's `client`, and has the budget "
    "of a stranger. Where both headers come and differ, neither is believed. From anybody else both are ignored.",
    "listen.tls.certificate": "Certificate with its chain, PEM, as a reference. With `key`, partners are served TLS "
    "1.2 and 1.3 without a proxy. Both files are followed: see [operations.md](operations.md#tls).",
    "listen.tls.key": "The private key to it, PEM without a passphrase.",
    "listen.tls.client_ca": "Authorities (PEM). Only clients with a certificate of one of them may connect; tokens are "
    "asked for all the same.",
    "admin.host": "Address of the admin side. Off the loopback it needs `operators`.",
    "admin.port": "Port of the admin side; 0 picks a free one.",
    "admin.hosts": "Names by which the admin side may be asked (`Host` header), besides its own address and those "
    "of the loopback.",
    "admin.operators": "Who may log in to the [console](console.md), and read `/metrics` when the admin side is not on "
    "the loopback. What is done in the console needs one of them everywhere.",
    "admin.operators[].name": "The person's or machine's name; what it does goes on record under it.",
    "admin.operators[].token_sha256": 'SHA-256 of its token, in hex: `printf %s "$TOKEN" | sha256sum`.',
    "audit.directory": "Folder of the audit stream. Made with mode 0700.",
    "audit.pseudonym_key": "Key of the hashes that stand for patients and free text; 16 bytes or more. Whoever has it "
    "can find a patient's records. Cursors of searches and sessions of the console are sealed under it too: all nodes "
    "need the same.",
    "audit.pseudonym_keys": "Older such keys. The present key's id is one above the highest here: "
    "[how to change keys](audit.md#pseudonym-keys).",
    "audit.pseudonym_keys[].id": "The id in front of the older hashes, such as `k1`.",
    "audit.pseudonym_keys[].key": "The older key itself. `audit export --patient` looks for a patient under it too.",
    "audit.signing_key": "Ed25519 private key (PEM) that signs checkpoints. Left out, nothing is signed.",
    "audit.unauthenticated.process": "Refusals of unknown callers that are recorded one by one. The rest is counted.",
    "audit.unauthenticated.client": "The same for one caller's address.",
    "audit.reserve": "Disk space kept for the outcomes of writes under way. When no more than this is free, requests "
    "are refused with `audit-unavailable`.",
    "audit.keep": "How long audit files are kept; at least 30d. What is older is removed in whole files that nobody "
    "writes, each [on record](audit.md#how-long-records-are-kept) before it goes.",
    "audit.checkpoints": "A file that every checkpoint is appended to as well, in a place that the gateway's machine "
    "cannot take back; its folder must be there. See [audit.md](audit.md#checkpoints-in-a-second-place).",
    "audit.stdout": "Also write every record to standard output.",
    "limits.body": "Largest request body.",
    "limits.deadline": "Time for one request: the body must have come by then, and PKB must have answered.",
    "limits.in_flight": "Requests under way at once. Beyond it: `overloaded`.",
    "limits.per_customer": "Requests to PKB under way at once for one customer. Twice as many wait, for up to 1 s; "
    "beyond it: `overloaded`.",
    "limits.not_found_step": "`not-found` leaves at the next multiple of this after the request came, so that its "
    "timing tells nothing. `0s` switches it off.",
    "limits.write_settles_after": "After a write without a clear answer: how long an unchanged version proves nothing, "
    "because PKB might still be working on it.",
    "limits.unresolved_after.unknown": "When the gateway stops asking PKB how such a write ended.",
    "limits.unresolved_after.accepted": "The same for a message that PKB accepted and does not show (`hl7` routes).",
    "limits.review_hint_after": "After this time the Task of an accepted message says where it may be waiting: in the "
    "hospital's review queue.",
    "tokens.signing_key": "Private keys (PEM) that sign the gateway's access tokens: the first signs, all verify. The "
    "file is followed; [how to change a key](operations.md#keys).",
    "tokens.lifetime": "How long an access token is good; 1s to 1h.",
    "tokens.issuers": "Other issuers of access tokens, by the exact `iss` of their tokens; not `public_url` itself.",
    "tokens.issuers.*.jwks_url": "Where its keys are, [followed](operations.md#keys). `https://`, or `http://` on "
    "this machine.",
    "tokens.issuers.*.audience": "What its tokens must name in `aud`, alone or among others.",
    "tokens.issuers.*.algorithms": "Algorithms taken from it.",
    "tokens.issuers.*.partner_claim": "The claim that names the partner, as `client_id` in the grants file has it.",
    "routes": "Ways to customers' appointments in PKB, by name.",
    "routes.*(customer-fhir).kind": "`customer-fhir`: a customer's FHIR box, read and written.",
    "routes.*(customer-fhir).base_url": "The box's FHIR address.",
    "routes.*(customer-fhir).fhir_version": "`R4` or `STU3`: what the box speaks. Partners always get R4. See "
    "[stu3.md](stu3.md).",
    "routes.*(customer-fhir).ownership": "How PKB's resources tell the owner: `managing-organisation`, "
    "`resource-meta` or `whole-endpoint`. See [grants.md](grants.md#whose-appointment-it-is).",
    "routes.*(customer-fhir).token.url": "PKB's token address for this box.",
    "routes.*(customer-fhir).token.client_id": "The client id that PKB issued for this box, or a reference to it.",
    "routes.*(customer-fhir).token.client_secret": "Its secret.",
    "routes.*(customer-fhir).token.style": "`body`: id and secret in the form; `basic`: in an Authorization header.",
    "routes.*(customer-fhir).cancelation_reason": "Where a cancel's reason goes in a STU3 box, which has no element "
    "for it: `extension` or `drop` (nowhere). Without effect on R4. See [stu3.md](stu3.md#the-reason-of-a-cancel).",
    "routes.*(hl7).kind": "`hl7`: writing over HL7, reading aggregated FHIR. See [hl7.md](hl7.md).",
    "routes.*(hl7).url": "PKB's HL7 address.",
    "routes.*(hl7).processing_id": "`P`, `T` or `D` (MSH-11). PKB's production takes `P` only.",
    "routes.*(hl7).read.base_url": "The aggregated FHIR address.",
    "routes.*(hl7).read.fhir_version": "`R4`. With `STU3` the gateway does not start: PKB's aggregated FHIR is R4.",
    "routes.*(hl7).read.ownership": "As above; `resource-meta` is what fits PKB's aggregated FHIR.",
    "routes.*(hl7).read.placer_id_system": "The identifier system of placer ids (SCH-1) in PKB's resources. Ask PKB; "
    "it is not in its public documents.",
    "routes.*(hl7).read.token.url": "As above.",
    "routes.*(hl7).read.token.client_id": "As above.",
    "routes.*(hl7).read.token.client_secret": "As above.",
    "routes.*(hl7).read.token.style": "As above.",
}

FLAGS: Final = """
## Insecure settings

Three settings stop the start unless their flag is given on the command line of `serve` or `check`. They are for tests.

| flag | allows |
|---|---|
| `--insecure-public-url` | `public_url` over plain http off the loopback: tokens can be read on the way |
| `--insecure-http-upstream` | PKB's addresses over plain http off the loopback: patients' data and credentials too |
| `--insecure-admin` | the admin side off the loopback without `operators` |

Verification of TLS certificates cannot be switched off.
"""


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of gateway.toml."""

    path: str
    default: str


_RENAMED: Final = {413: "Content Too Large", 422: "Unprocessable Content"}
"""As RFC 9110 has them; Python before 3.13 knows their former names."""


def documents() -> dict[Path, str]:
    """The generated documents by their files."""
    return {FOLDER / "errors.md": errors(), FOLDER / "settings.md": settings()}


def errors() -> str:
    """The catalogue of codes."""
    lines = [
        NOTICE,
        "# Error codes\n",
        "Every error is a FHIR R4 OperationOutcome. `issue[0].details.coding[0].code` is one of these codes, and",
        "`issue[0].code` the FHIR issue type beside it. `diagnostics` says the same as here, sometimes with a detail.",
        "Codes are added, never renamed. Errors of `POST /oauth2/token` are OAuth's: see",
        "[partners.md](partners.md#get-an-access-token).\n",
        "Where a row gives `Retry-After`, the answer carries it; the number is the usual one, in seconds.",
    ]
    for status in sorted({entry.status for entry in CATALOGUE.values()}):
        lines += [
            f"\n## {status} {_RENAMED.get(status, HTTPStatus(status).phrase)}\n",
            "| code | FHIR issue | what to do |",
            "|---|---|---|",
        ]
        lines += [_row(code) for code, entry in CATALOGUE.items() if entry.status == status]
    return "\n".join(lines) + "\n"


def _row(code: Code) -> str:
    entry = CATALOGUE[code]
    parts = [entry.advice, ABOUT.get(code, "")]
    if entry.retry_after is not None:
        parts.append(f"`Retry-After: {entry.retry_after}`.")
    if code in NEVER_SENT:
        parts.append("*Never sent by this version.*")
    return f"| `{code}` | `{entry.issue}` | {' '.join(part for part in parts if part)} |"


def settings() -> str:
    """Every key of gateway.toml, its default and its meaning."""
    found = list(keys(Settings))
    odd = {key.path for key in found} ^ set(MEANINGS)
    if odd:
        raise SystemExit(f"docs/generate.py: keys without a meaning, or meanings without a key: {sorted(odd)}")
    lines = [
        NOTICE,
        "# Settings: gateway.toml\n",
        "Read once, at the start. Unknown keys and wrong values are errors, all told in one go with file and line:",
        "`pkb-gateway check --config gateway.toml`. A secret is written as a reference, `env:NAME` (an environment",
        "variable) or `file:/path`, never as itself. Durations are `250ms`, `90s`, `15m`, `72h`, `30d`; sizes `64KiB`,",
        "`64MiB`; rates `20/s`, `600/min`, `1000/h`. Relative paths start at the folder of the file. Editors that know",
        "JSON Schema find `config/schemas/gateway.schema.json`. An example: `config/gateway.toml`.",
    ]
    section = ""
    for key in found:
        if _section(key.path) != section:
            section = _section(key.path)
            lines += [f"\n## {section}\n", "| key | default | meaning |", "|---|---|---|"]
        shown = re.sub(r"\.\*(\([a-z0-9-]+\))?", ".NAME", key.path)
        lines.append(f"| `{shown}` | {key.default} | {_cell(MEANINGS[key.path])} |")
    return "\n".join(lines) + "\n" + FLAGS


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _section(path: str) -> str:
    kind = re.match(r"routes\.\*\(([a-z0-9-]+)\)", path)
    if kind:
        return f"Routes of kind {kind[1]}"
    table, dot, _ = path.partition(".")
    return f"[{table}]" if dot or table == "routes" else "Top level"


def keys(shape: Any, at: str = "") -> Iterator[Key]:
    """Walk the dataclasses that are the shape of the file; plain keys first, then tables."""
    hints = typing.get_type_hints(shape, include_extras=True)
    fields = sorted(dataclasses.fields(shape), key=lambda field: bool(_tables(hints[field.name])))
    for field in fields:
        path = f"{at}.{field.name}" if at else field.name
        hint = hints[field.name]
        tables = _tables(hint)
        if not tables or _many(hint):
            yield Key(path, _default(field))
        for suffix, table in tables:
            yield from keys(table, path + suffix)


def _plain(hint: Any) -> Any:
    """The type without its annotations and without None."""
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint):
        (present,) = (each for each in typing.get_args(hint) if each is not type(None))
        return _plain(present)
    return hint


def _many(hint: Any) -> Any:
    """The type of the elements of a list or of the values of a table with free keys, if it is one."""
    plain = _plain(hint)
    match typing.get_origin(plain):
        case builtins if builtins in {tuple, dict}:
            return _plain(typing.get_args(plain)[1 if builtins is dict else 0])
    return None


def _tables(hint: Any) -> list[tuple[str, Any]]:
    """The tables below a key: what to append to its path, and their shape."""
    plain = _plain(hint)
    if dataclasses.is_dataclass(plain) and hasattr(plain, "__pydantic_config__"):
        return [("", plain)]
    inner = _many(hint)
    if isinstance(inner, types.UnionType):
        return [(f".*({_kind(each)})", each) for each in typing.get_args(inner)]
    if dataclasses.is_dataclass(inner):
        return [(".*" if typing.get_origin(plain) is dict else "[]", inner)]
    return []


def _kind(table: Any) -> str:
    return str(typing.get_args(typing.get_type_hints(table)["kind"])[0])


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "*required*"
    default = field.default
    if default is dataclasses.MISSING or default in (None, ()):
        return "*none*"
    match default:
        case bool():
            return f"`{str(default).lower()}`"
        case timedelta():
            return f"`{_duration(default)}`"
        case Rate(requests=requests, seconds=seconds):
            return f"`{requests}/{ {1: 's', 60: 'min', 3600: 'h'}[seconds] }`"
        case int() if field.name in {"body", "reserve"}:
            return f"`{default // 1024**2}MiB`" if default >= 1024**2 else f"`{default // 1024}KiB`"
    return f"`{default}`"


def _duration(value: timedelta) -> str:
    milliseconds = value // timedelta(milliseconds=1)
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("s", 1000)):
        # A short time reads best in its own unit: 24h, 300s.
        if (
            milliseconds % length == 0
            and milliseconds >= (2 if unit == "d" else 1) * length
            and (unit != "h" or milliseconds >= 3 * length)
        ):
            return f"{milliseconds // length}{unit}"
    return f"{milliseconds}ms"


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")
