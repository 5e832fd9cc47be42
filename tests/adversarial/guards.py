"""The guards of the product, each with the switch that takes it out and the vectors that must notice."""

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.domain import rules, strict_json
from gateway.flow.gate import Gate
from gateway.partner import access_tokens, headers, search, target, visit
from gateway.partner.keys import VerifyingKey
from gateway.pkb import hl7_message, soap
from tests.adversarial.switches import (
    Everything,
    breaking,
    is_,
    put,
    reading_json,
    says,
    with_any_algorithm,
    with_any_assertion,
    with_any_request_id,
    with_any_version,
    with_believed_cursors,
    with_chunks_of_old,
    with_echoes,
    with_every_partner_active,
    with_every_proxy,
    with_every_scope,
    with_everything_in_the_log,
    with_forwarded_headers,
    with_long_bodies,
    with_loose_ends,
    with_no_records_of_reads,
    with_no_records_of_strangers,
    with_normal_paths,
    with_other_letters,
    with_packed_bodies,
    with_redirects,
    with_talkative_answers,
    with_team_as_organisation,
    with_times_as_text,
    with_tokens_in_the_query,
    without_fragments,
    without_head_deadline,
    without_rule,
)


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard of the product. `remove` wraps it away in the process that calls it."""

    remove: Callable[[], None]
    witnesses: tuple[str, ...]


_MORE: Final = re.compile(r"/[^?#]*")

GUARDS: Final[Mapping[str, Guard]] = {
    "characters of a path": Guard(is_(target, "_PATH", _MORE), ("%2e%2e", "%2f inside of an id", "a backslash")),
    "dot segments": Guard(with_normal_paths(posixpath.normpath), ("up and down again", "a single dot")),
    "empty segments": Guard(
        with_normal_paths(lambda path: re.sub("/+", "/", path)),
        ("slashes doubled throughout", "a customer without a name"),
    ),
    "fragment": Guard(without_fragments, ("a number sign",)),
    "own authority": Guard(says(target, "_same_authority", answer=True), ("the target names another host",)),
    "single lines": Guard(is_(headers, "SINGLE", ()), ("two Authorization headers", "two keys")),
    "plain characters": Guard(with_other_letters, ("Latin-1 in Authorization",)),
    "expectations": Guard(says(headers, "_check_expect", answer=None), ("an unknown expectation",)),
    "version of HTTP": Guard(with_any_version, ("HTTP/2.0 in the request line",)),
    "transfer codings of HTTP/1.0": Guard(with_chunks_of_old, ("chunked in HTTP/1.0",)),
    "number of headers": Guard(is_(headers, "MOST_HEADERS", 10_000), ("a hundred and one headers",)),
    "length of headers": Guard(is_(headers, "MOST_BYTES", 10**9), ("twelve headers of 8,000 bytes",)),
    "time for a head": Guard(without_head_deadline, ("a head that never ends",)),
    "end of a doubtful connection": Guard(with_loose_ends, ("a request behind a refused one",)),
    "quiet answers": Guard(with_talkative_answers, ("%2e%2e",)),
    "answers that repeat nothing": Guard(with_echoes, ("a mark in the path",)),
    "signature": Guard(says(VerifyingKey, "verifies", answer=True), ("a real header and no signature",)),
    "algorithms": Guard(
        with_any_algorithm, ("alg nOnE with the kid of a real key", "HS256 with the public key as PEM")
    ),
    "type of a token": Guard(
        says(access_tokens, "_type_fault", answer=None), ("a good signature, typ of an id token",)
    ),
    "extensions of a token": Guard(
        says(access_tokens, "has_extensions", answer=False), ("a good signature and an unknown critical extension",)
    ),
    "audience": Guard(says(access_tokens, "_audience_fault", answer=None), ("no aud", "an audience that is an object")),
    "exp as a number": Guard(with_times_as_text, ("exp as text",)),
    "end of a token": Guard(says(access_tokens, "is_expired", answer=False), ("a token of yesterday",)),
    "lifetime of a token": Guard(says(access_tokens, "_lifetime_fault", answer=None), ("exp in three thousand years",)),
    "tokens of the future": Guard(says(access_tokens, "future_fault", answer=None), ("nbf in ten minutes",)),
    "unique members": Guard(
        reading_json(object_pairs_hook=dict), ("sub twice, the second a stronger partner", "a member twice")
    ),
    "depth of JSON": Guard(says(strict_json, "_refuse_deep", answer=None), ("thirty-three levels",)),
    "numbers of JSON": Guard(reading_json(parse_constant=str), ("NaN",)),
    "tokens in the header only": Guard(with_tokens_in_the_query, ("a token in the query only",)),
    "scope": Guard(with_every_scope, ("a cancel with a token to read",)),
    "suspension": Guard(with_every_partner_active, ("one who is suspended",)),
    "grant of this very customer": Guard(with_team_as_organisation, ("the organisation of a granted team",)),
    "owner": Guard(without_rule("owned-by-customer"), ("another customer's appointment, read",)),
    "labels": Guard(without_rule("labels-granted"), ("an appointment behind a label",)),
    "patient": Guard(without_rule("patient-matches"), ("another patient named in a cancel",)),
    "accepted media types": Guard(says(visit, "accepts_fhir", answer=True), ("XML asked for",)),
    "media types of bodies": Guard(says(visit, "content_type_fits", answer=True), ("text/plain", "several parts")),
    "packed bodies": Guard(with_packed_bodies, ("packed with gzip",)),
    "step of the head": Guard(says(visit.Visit, "_check_head", answer=None), ("a method in the query, of a GET",)),
    "length of bodies": Guard(with_long_bodies, ("a body longer than is looked at, in chunks",)),
    "names of search parameters": Guard(is_(search, "PARAMETERS", Everything()), ("_has", "a modifier")),
    "repeated parameters": Guard(is_(search, "REPEATABLE", Everything()), ("status twice",)),
    "cursors": Guard(with_believed_cursors, ("a cursor made up", "a cursor that is JSON")),
    "escapes of HL7": Guard(is_(hl7_message, "_text", str), ("a comment full of delimiters",)),
    "escapes of XML": Guard(lambda: put(soap, "escape", lambda text, _: text), ("a comment that ends the message",)),
    "redirects": Guard(with_redirects, ("a redirect to somewhere else",)),
    "headers for PKB": Guard(with_forwarded_headers, ("the identity headers of common proxies",)),
    "word of proxies": Guard(with_every_proxy, ("X-Forwarded-For of a stranger",)),
    "request ids": Guard(with_any_request_id, ("a line of a log as a request id",)),
    "silence of the log": Guard(with_everything_in_the_log, ("the identity headers of common proxies",)),
    "records of strangers": Guard(with_no_records_of_strangers, ("up and down again",)),
    "records of reads": Guard(with_no_records_of_reads, ("the identity headers of common proxies",)),
    "assertions": Guard(with_any_assertion, ("an access token as an assertion",)),
}

FAILING: Final[Mapping[str, Callable[[], None]]] = {
    "the token": breaking(access_tokens.AccessTokens, "identify"),
    "the signature": breaking(VerifyingKey, "verifies"),
    "the gate": breaking(Gate, "enter"),
    "the head": breaking(visit.Visit, "_check_head"),
    "the body": breaking(visit, "read_command"),
    "the grants": breaking(rules, "_admit"),
    "the decision": breaking(rules, "weigh"),
}
"""The steps of a request at which something may raise what nobody expects."""
