"""The guards of the product, each with the switch that takes it out and the vectors that must notice."""

import hmac
import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import aiohttp
from aiohttp.http import HttpVersion11
from aiohttp.http_writer import StreamWriter
from aiohttp.web_protocol import ERROR
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.domain import rules, strict_json
from gateway.domain.grant import Coding, Customer
from gateway.domain.search import Query
from gateway.flow.gate import Gate
from gateway.flow.look import Looks
from gateway.flow.search import BEGINNING
from gateway.partner import access_tokens, arrival, headers, jwt_checks, protocol, search, target, token_endpoint, visit
from gateway.partner.arrival import read_body
from gateway.partner.callers import Callers
from gateway.partner.cursors import Cursor, Cursors
from gateway.partner.keys import VerifyingKey
from gateway.pkb import hl7_message, soap
from gateway.storage.journal import Journal


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard of the product. `remove` wraps it away in the process that calls it."""

    remove: Callable[[], None]
    witnesses: tuple[str, ...]


def put(owner: object, name: str, value: object) -> None:
    """Replace a part of the shipped build."""
    setattr(owner, name, value)


def says(owner: object, name: str, answer: Any) -> Callable[[], None]:
    """Let a function of the shipped build always say the same."""
    return lambda: put(owner, name, lambda *_, **__: answer)


def is_(owner: object, name: str, value: object) -> Callable[[], None]:
    """Give a constant of the shipped build another value."""
    return lambda: put(owner, name, value)


class Everything:
    """Holds whatever is looked for in it."""

    def __contains__(self, _: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())


def without_rule(name: str) -> Callable[[], None]:
    return lambda: put(rules, "WITHIN_REACH", tuple(rule for rule in rules.WITHIN_REACH if rule.name != name))


def with_normal_paths(change: Callable[[str], str]) -> Callable[[], None]:
    """Read a path as servers do that make one spelling of another."""
    original = target._read_origin

    def read(raw: str) -> Any:
        path, mark, query = raw.partition("?")
        return original(change(path) + mark + query)

    return lambda: put(target, "_read_origin", read)


def without_fragments() -> None:
    original = target.read_target
    put(arrival, "read_target", lambda raw, host: original(raw.partition("#")[0], host))


def with_any_version() -> None:
    original = arrival.examine
    put(protocol, "examine", lambda message: original(message._replace(version=HttpVersion11)))


def with_chunks_of_old() -> None:
    original = arrival.examine

    def examine(message: Any) -> Any:
        return original(message._replace(chunked=False) if message.chunked else message)

    put(protocol, "examine", examine)


def with_any_algorithm() -> None:
    """Take the sender's word for how a token is signed, as libraries once did."""
    original = VerifyingKey.verifies

    def verifies(self: Any, message: bytes, signature: bytes, algorithm: str) -> bool:
        if algorithm.lower() == "none":
            return True
        if algorithm == "HS256":
            pem = self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            return hmac.digest(pem, message, "sha256") == signature
        return original(self, message, signature, algorithm)

    put(VerifyingKey, "verifies", verifies)
    put(access_tokens, "_algorithm_fault", lambda *_: None)


def reading_json(**named: Any) -> Callable[[], None]:
    """Read JSON with other hooks than the product's."""
    usual = {
        "object_pairs_hook": strict_json._unique,
        "parse_int": strict_json.Number,
        "parse_float": strict_json.Number,
        "parse_constant": strict_json._refuse_constant,
    }
    return lambda: put(strict_json, "_READER", json.JSONDecoder(**{**usual, **named}))


def with_times_as_text() -> None:
    original = jwt_checks.whole_seconds

    def seconds(value: Any) -> int | None:
        return int(value) if isinstance(value, str) and value.isdigit() else original(value)

    put(access_tokens, "whole_seconds", seconds)
    put(jwt_checks, "whole_seconds", seconds)


def with_other_letters() -> None:
    put(headers, "PLAIN", ())
    put(headers, "_texts", lambda lines, name: tuple(each.decode("latin-1") for each in headers._lines_of(lines, name)))


def with_packed_bodies() -> None:
    original = headers._gather
    put(headers, "_gather", lambda lines: replace(original(lines), encoded=False))


def with_long_bodies() -> None:
    async def whole(request: Any, limit: int, deadline: float) -> Any:
        return await read_body(request, limit * 1000, deadline)

    put(visit, "read_body", whole)


def with_redirects() -> None:
    original = aiohttp.ClientSession._request

    async def following(self: Any, *args: Any, **named: Any) -> Any:
        return await original(self, *args, **{**named, "allow_redirects": True})

    put(aiohttp.ClientSession, "_request", following)


def with_loose_ends() -> None:
    """Keep a connection after bytes that were no request."""
    original = protocol.PartnerProtocol.refuse

    def refuse(self: Any, *args: Any) -> Any:
        answer = original(self, *args)
        self._refused = False
        return answer

    put(protocol.PartnerProtocol, "refuse", refuse)
    put(protocol, "is_early", lambda _: False)
    put(protocol, "ERROR", ERROR._replace(should_close=False))


def with_every_proxy() -> None:
    """Believe what anybody writes about where he is."""

    def caller(_self: object, peer: str, lines: Any) -> str:
        found = [value.decode("latin-1") for name, value in lines if name.lower() in {b"x-forwarded-for", b"forwarded"}]
        return found[0].removeprefix("for=").split(";")[0] if found else peer

    put(Callers, "caller", caller)


def with_any_request_id() -> None:
    def first(lines: Any, name: str) -> str | None:
        return next((value.decode("latin-1") for key, value in lines if key.lower() == name.lower().encode()), None)

    put(headers, "_uuid", first)


def with_every_scope() -> None:
    original = Gate.enter

    async def enter(self: Any, caller: Any, letter: str, operations: Any) -> Any:
        return await original(self, replace(caller, scope=frozenset("rsu")), letter, operations)

    put(Gate, "enter", enter)


def with_every_partner_active() -> None:
    original = rules._admit

    def admit(who: Any, operations: Any, policy: Any, now: Any) -> Any:
        partners = {name: replace(each, suspended=False) for name, each in policy.partners.items()}
        return original(who, operations, replace(policy, partners=partners), now)

    put(rules, "_admit", admit)


def with_team_as_organisation() -> None:
    """Let a grant at a team count at its organisation."""
    original = Gate.enter

    async def enter(self: Any, caller: Any, letter: str, operations: Any) -> Any:
        policy = self.policy()
        teams = [each.id for each in policy.customers.values() if _is_team_of(each, caller.customer)]
        held = next((each for each in teams if policy.held(each, caller.partner)), caller.customer)
        return await original(self, replace(caller, customer=held), letter, operations)

    put(Gate, "enter", enter)


def _is_team_of(customer: Customer, organisation: str) -> bool:
    return customer.id.startswith(f"{organisation}-")


def with_tokens_in_the_query() -> None:
    original = arrival.examine

    def examine(message: Any) -> Any:
        found = original(message)
        if isinstance(found, tuple):
            wanted, head = found
            told = wanted.every("access_token")
            kept = tuple(pair for pair in wanted.query if pair[0] != "access_token")
            if told:
                return replace(wanted, query=kept), replace(head, authorization=f"Bearer {told[0]}")
        return found

    put(protocol, "examine", examine)


def with_believed_cursors() -> None:
    anything = Cursor(Query(None, Coding("a", "b"), None, None, frozenset(), 20), BEGINNING)
    put(Cursors, "open", lambda *_: anything)


def with_no_records_of_strangers() -> None:
    put(Journal, "refused_unauthenticated", lambda *_: None)


def with_no_records_of_reads() -> None:
    async def nothing(*_: Any, **__: Any) -> None:
        pass

    put(Looks, "_record", nothing)


def with_talkative_answers() -> None:
    put(protocol.AnswerWriter, "write_headers", StreamWriter.write_headers)


def with_everything_in_the_log() -> None:
    """Log a request as it came, as is the custom elsewhere."""
    original = protocol.PartnerServer._take_in

    def take_in(self: Any, message: Any, *rest: Any) -> Any:
        print(json.dumps(str(message.raw_headers)), flush=True)  # noqa: T201  # into the log
        return original(self, message, *rest)

    put(protocol.PartnerServer, "_take_in", take_in)


def with_echoes() -> None:
    """Say in the answer what was wrong, in the sender's own words."""
    original = target._read_origin

    def read(raw: str) -> Any:
        found = original(raw)
        return target.Malformed(f"{found.reason} Found: {raw}") if isinstance(found, target.Malformed) else found

    put(target, "_read_origin", read)


def with_forwarded_headers() -> None:
    """Hand every header on to PKB, as a proxy does."""
    came: list[tuple[bytes, bytes]] = []
    take_in = protocol.PartnerServer._take_in
    ask = aiohttp.ClientSession._request

    def note(self: Any, message: Any, *rest: Any) -> Any:
        came[:] = [pair for pair in message.raw_headers if pair[0].lower().startswith(b"x")]
        return take_in(self, message, *rest)

    async def asking(self: Any, *args: Any, **named: Any) -> Any:
        added = {name.decode(): value.decode("latin-1") for name, value in came}
        return await ask(self, *args, **{**named, "headers": {**added, **(named.get("headers") or {})}})

    put(protocol.PartnerServer, "_take_in", note)
    put(aiohttp.ClientSession, "_request", asking)


def without_head_deadline() -> None:
    put(protocol.PartnerProtocol, "_await_headers", lambda _: None)


def with_any_assertion() -> None:
    """Take an access token for an assertion: both are signed, after all."""

    async def prove(assertion: str, *_: Any) -> Any:
        raise AssertionError(assertion)

    put(token_endpoint, "prove", prove)


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


def breaking(owner: object, name: str) -> Callable[[], None]:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("made to break")

    return lambda: put(owner, name, broken)


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
