"""Switches that take a guard out of the shipped build, or put a custom of others in its place."""

import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

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
from gateway.partner import access_tokens, arrival, headers, jwt_checks, protocol, target, token_endpoint, visit
from gateway.partner.arrival import read_body
from gateway.partner.callers import Callers
from gateway.partner.cursors import Cursor, Cursors
from gateway.partner.keys import VerifyingKey
from gateway.pkb import http
from gateway.storage.journal import Journal


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
    put(arrival, "examine", lambda message, lines: original(message._replace(version=HttpVersion11), lines))


def with_chunks_of_old() -> None:
    original = arrival.examine

    def examine(message: Any, lines: Any) -> Any:
        return original(message._replace(chunked=False) if message.chunked else message, lines)

    put(arrival, "examine", examine)


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

    put(jwt_checks, "whole_seconds", seconds)


def with_other_letters() -> None:
    put(headers, "PLAIN", ())


def with_packed_bodies() -> None:
    original = headers._gather
    put(headers, "_gather", lambda *lines: original(*lines)._replace(encoded=False))


def with_long_bodies() -> None:
    async def whole(request: Any, limit: int, deadline: float) -> Any:
        return await read_body(request, limit * 1000, deadline)

    put(visit, "read_body", whole)


def with_redirects() -> None:
    """Ask PKB as aiohttp's session does where nobody tells it otherwise."""

    async def send(_: Any, method: str, url: Any, headers: Any, __: float, *, body: Any = None, **___: Any) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, headers=headers, data=body) as response,
        ):
            return http.Answer(response.status, response.headers.get("ETag"), await response.read())

    put(http.HttpClient, "send", send)


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
        found = [value for name in headers.FORWARDED for value in lines.known.get(name, ())]
        return found[0].removeprefix("for=").split(";")[0] if found else peer

    put(Callers, "caller", caller)


def with_any_request_id() -> None:
    def first(lines: Any, name: str) -> str | None:
        return next(iter(lines.known.get(name, ())), None)

    put(headers, "_uuid", first)


def with_every_scope() -> None:
    original = Gate.enter

    async def enter(self: Any, caller: Any, letter: str, operations: Any) -> Any:
        return await original(self, caller._replace(scope=frozenset("rsu")), letter, operations)

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
        return await original(self, caller._replace(customer=held), letter, operations)

    put(Gate, "enter", enter)


def _is_team_of(customer: Customer, organisation: str) -> bool:
    return customer.id.startswith(f"{organisation}-")


def with_tokens_in_the_query() -> None:
    original = arrival.examine

    def examine(message: Any, lines: Any) -> Any:
        found = original(message, lines)
        if isinstance(found, tuple):
            wanted, head = found
            told = wanted.every("access_token")
            kept = tuple(pair for pair in wanted.query if pair[0] != "access_token")
            if told:
                return replace(wanted, query=kept), head._replace(authorization=f"Bearer {told[0]}")
        return found

    put(arrival, "examine", examine)


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
    original = http.HttpClient.send

    def note(self: Any, message: Any, *rest: Any) -> Any:
        came[:] = [pair for pair in message.raw_headers if pair[0].lower().startswith(b"x")]
        return take_in(self, message, *rest)

    async def send(self: Any, method: str, url: Any, headers: Any, *rest: Any, **named: Any) -> Any:
        added = {name.decode(): value.decode("latin-1") for name, value in came}
        return await original(self, method, url, {**added, **headers}, *rest, **named)

    put(protocol.PartnerServer, "_take_in", note)
    put(http.HttpClient, "send", send)


def without_head_deadline() -> None:
    put(protocol.PartnerProtocol, "_await_headers", lambda _: None)


def with_any_assertion() -> None:
    """Take an access token for an assertion: both are signed, after all."""

    async def prove(assertion: str, *_: Any) -> Any:
        raise AssertionError(assertion)

    put(token_endpoint, "prove", prove)


def breaking(owner: object, name: str) -> Callable[[], None]:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("made to break")

    return lambda: put(owner, name, broken)
