"""From a request to its answer: the steps that need no partner, and the routes that are open to everybody."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from aiohttp import web

from gateway.domain.codes import CATALOGUE, Code
from gateway.flow import records
from gateway.flow.ports import JournalUnavailable
from gateway.flow.watching import NOTED, Noted, Stage, StageObserver, unwatched
from gateway.partner.access_tokens import AccessTokens, Identity, TokenExpired, TokenInvalid, TokenMissing
from gateway.partner.answers import CODE
from gateway.partner.arrival import Arrival, arrival, read_body
from gateway.partner.at_once import Prepared, prepared
from gateway.partner.desk import Desk, Stop
from gateway.partner.documents import Documents
from gateway.partner.headers import accepts_fhir, is_idempotency_key
from gateway.partner.shedding import Turnstile
from gateway.partner.table import Match, Name, Route, match
from gateway.partner.token_endpoint import (
    RETRY_AFTER,
    OAuthError,
    Pairs,
    Slip,
    TokenEndpoint,
    TokenIssued,
    TokenRefused,
    read_form,
    respond,
)
from gateway.partner.visit import Visit


class Seen(NamedTuple):
    """One answered request, for log and metrics."""

    route: str
    partner: str | None
    customer: str | None
    """As the grants file has it; None for any other."""
    operation: str | None
    decision: str | None
    """What is on record of it: `permit` or `refuse`; None where nothing is, or only a count."""
    status: int
    code: str | None
    seconds: float
    request_id: str
    correlation_id: str | None


@dataclass(slots=True)
class Api:
    """The partner-facing API. `observe` is told of every request that was answered."""

    desk: Desk
    tokens: AccessTokens
    token_endpoint: TokenEndpoint
    documents: Documents
    observe: Callable[[Seen], None]
    stages: StageObserver = unwatched
    shed: Callable[[str], None] = lambda _: None
    """Told why a request was turned away for want of room."""
    draining: bool = False
    in_flight: int = field(default=0)
    turnstile: Turnstile = field(default_factory=Turnstile)
    _full: dict[bool, Prepared] = field(default_factory=dict)
    """What is told to those for whom there is no room, and whether it is in the words of OAuth."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        came = arrival(request)
        received = asyncio.get_running_loop().time()
        matched = match(came.target.segments)
        route = matched.routes.get(request.method) if matched else None
        noted = Noted()
        NOTED.set(noted)
        self.in_flight += 1
        response: web.StreamResponse | None = None
        try:
            response = await self._answer(request, came, matched, route, received)
        finally:
            self.in_flight -= 1
            if response is None:
                # Whatever fails is answered further out, where nothing is known of the request.
                self._count(Code.INTERNAL, came.request_id)
        elapsed = asyncio.get_running_loop().time() - received
        seen = Seen(
            route.name if route else "none",
            noted.partner,
            self._known(matched.customer if matched else None),
            noted.operation,
            noted.decision,
            response.status,
            response.get(CODE),
            elapsed,
            came.request_id,
            came.correlation_id,
        )
        self.observe(seen)
        return response

    def _known(self, customer: str | None) -> str | None:
        """Keep a name that no customer has out of the log: it may be anything that somebody typed."""
        return customer if customer in self.desk.policy().customers else None

    async def _answer(
        self, request: web.BaseRequest, came: Arrival, matched: Match | None, route: Route | None, received: float
    ) -> web.StreamResponse:
        try:
            self._reach(came, matched, route)
            assert matched is not None, "a path was found"
            assert route is not None, "its method was found"
            await self._have_room()
        except Stop as stop:
            self._note(came, matched, route, stop.code)
            return self._no_token(stop) if route is not None and route.name is Name.TOKEN else self._told(stop)
        try:
            return await self._serve(request, came, matched, route, received)
        finally:
            self.turnstile.leave()

    async def _serve(
        self, request: web.BaseRequest, came: Arrival, matched: Match, route: Route, received: float
    ) -> web.StreamResponse:
        if route.letter is None:
            return await self._open(request, came, matched, route, received)
        identity = await self._authenticate(came, received + self.desk.limits.deadline)
        if isinstance(identity, Stop):
            self._note(came, matched, route, identity.code, "authentication-refused", identity.detail)
            return self.desk.answers.error(identity.code, headers=identity.headers)
        return await Visit(self.desk, request, came, matched, route, identity, received).answer()

    def _reach(self, came: Arrival, matched: Match | None, route: Route | None) -> None:
        if matched is None:
            raise Stop(Code.NOT_FOUND, "There is no such path; GET /{customer}/fhir/metadata tells which there are.")
        if route is None:
            raise Stop(Code.METHOD_NOT_ALLOWED, headers={"Allow": matched.allow})
        # A matter of header syntax, so of step 1; but only a write has a use for the header.
        key = came.head.idempotency_key
        if route.writes and key is not None and not is_idempotency_key(key):
            raise Stop(Code.INVALID_PARAMETER, "Idempotency-Key: 1 to 128 visible ASCII characters are taken.")

    async def _have_room(self) -> None:
        """Step 3, in front of everything that costs: no token is looked at, no body is read."""
        if self.draining:
            raise _draining()
        if self.in_flight > self.desk.limits.in_flight:
            self.shed("in-flight")
            raise Stop(Code.OVERLOADED)
        if not await self.turnstile.enter():
            self.shed("turnstile")
            raise Stop(Code.OVERLOADED)
        if self.draining:  # it began while this one waited
            self.turnstile.leave()
            raise _draining()

    def is_full(self, coming: int) -> bool:
        """Whether one more, behind so many, would be turned away for want of room, if nothing else is wrong with it."""
        crammed = self.turnstile.is_full(coming) or self.in_flight >= self.desk.limits.in_flight
        return crammed and not self.draining

    def turn_away(self, came: Arrival, method: str) -> Prepared | None:
        """Answer one for whom it is full, as `handle` would; None where it fails at an earlier step."""
        matched = match(came.target.segments)
        route = matched.routes.get(method) if matched else None
        try:
            self._reach(came, matched, route)
        except Stop:
            return None
        assert matched is not None, "a path was found"
        assert route is not None, "its method was found"
        if self.in_flight >= self.desk.limits.in_flight:
            self.shed("in-flight")
        else:
            self.turnstile.turn_away()
            self.shed("turnstile")
        self._note(came, matched, route, Code.OVERLOADED)
        is_token = route.name is Name.TOKEN
        answer = self._full.get(is_token)
        if answer is None:
            told = self._no_token(Stop(Code.OVERLOADED)) if is_token else self._told(Stop(Code.OVERLOADED))
            answer = self._full[is_token] = prepared(told, told[CODE])
        customer, operation = self._known(matched.customer), _operation(route)
        about = (route.name, None, customer, operation, "refuse", answer.status, answer.code, 0.0)
        self.observe(Seen(*about, came.request_id, came.correlation_id))
        return answer

    def _no_token(self, stop: Stop) -> web.Response:
        """Say in the words of OAuth what everybody else is told in those of FHIR (RFC 6749, 5.2)."""
        wait = CATALOGUE[stop.code].retry_after
        response = respond(TokenRefused(OAuthError.TEMPORARILY_UNAVAILABLE, Slip.STATE, retry_after=wait))
        response.headers.update(stop.headers)
        response[CODE] = stop.code.value
        return response

    async def _authenticate(self, came: Arrival, deadline: float) -> Identity | Stop:
        realm = 'Bearer realm="pkb-gateway"'
        invalid = {"WWW-Authenticate": f'{realm}, error="invalid_token"'}
        began = time.perf_counter()
        identified = await self.tokens.identify(came.head.authorization, self.desk.clock, deadline)
        self.stages(Stage.AUTHENTICATE, time.perf_counter() - began)
        match identified:
            case Identity() as identity:
                return identity
            case TokenMissing():
                return Stop(Code.TOKEN_MISSING, headers={"WWW-Authenticate": realm})
            case TokenExpired():
                return Stop(Code.TOKEN_EXPIRED, headers=invalid)
            case TokenInvalid(reason=reason):
                return Stop(Code.TOKEN_INVALID, reason.value, headers=invalid)

    async def _open(
        self, request: web.BaseRequest, came: Arrival, matched: Match, route: Route, received: float
    ) -> web.StreamResponse:
        """Answer a route that needs no access token."""
        if route.name is Name.TOKEN:
            return await self._issue_token(request, came, received)
        if route.name is Name.METADATA and not accepts_fhir(came.head.accept):
            stop = Stop(Code.NOT_ACCEPTABLE)
        elif came.head.encoded:
            stop = Stop(Code.UNSUPPORTED_MEDIA_TYPE)
        elif came.target.query:
            stop = Stop(Code.INVALID_PARAMETER, "This path takes no query parameters.")
        else:
            return self.documents.answer(route.name, matched.customer)
        self._note(came, matched, route, stop.code)
        return self._told(stop)

    async def _issue_token(self, request: web.BaseRequest, came: Arrival, received: float) -> web.StreamResponse:
        body = await read_body(request, self.desk.limits.body, received + self.desk.limits.deadline)
        now = self.desk.clock()
        pairs: Pairs | TokenRefused = TokenRefused(OAuthError.INVALID_REQUEST, Slip.NOT_A_FORM)
        if came.target.query:
            pairs = TokenRefused(OAuthError.INVALID_REQUEST, Slip.QUERY)
        elif isinstance(body, bytes) and not came.head.encoded:
            pairs = read_form(came.head.content_type, body)
        if isinstance(pairs, TokenRefused):
            answer: TokenIssued | TokenRefused = pairs
        else:
            deadline = received + self.desk.limits.deadline
            token = self.desk.new_id()
            answer = await self.token_endpoint.answer(pairs, came.head.authorization, now, token, deadline)
        try:
            await self._record_token(came, answer, now)
        except JournalUnavailable:
            return respond(TokenRefused(OAuthError.TEMPORARILY_UNAVAILABLE, Slip.STATE, retry_after=RETRY_AFTER))
        return respond(answer)

    async def _record_token(self, came: Arrival, answer: TokenIssued | TokenRefused, now: datetime) -> None:
        proven = answer.assertion
        record: records.Record = {
            **self._unproven(came, None, None, now),
            "grants_digest": self.desk.policy().digest,
            "partner": answer.partner,
        }
        match answer:
            case TokenIssued(token=token):
                record |= {"event": "token-issued", "decision": "permit"}
                record["token"] = {"iss": token.issuer, "jti": token.jti, "kid": token.kid}
                await self.desk.ledger.write(record)
            case TokenRefused(reason=reason):
                record |= {"event": "authentication-refused", "decision": "refuse", "code": answer.error.value}
                record["checks"] = [[reason.value, False]]
                if proven is None:
                    self.desk.ledger.refused_unauthenticated(record, came.peer)
                    return
                record["token"] = {"iss": answer.partner, "jti": proven.jti, "kid": proven.kid}
                await self.desk.ledger.write(record)

    def _count(self, code: Code, request_id: str) -> None:
        """Tell of an answer to what was no request, or came to none."""
        self.observe(Seen("none", None, None, None, None, CATALOGUE[code].status, code.value, 0.0, request_id, None))

    def malformed(self, reason: str, request_id: str, peer: str) -> bytes:
        """Record bytes that were no request, and give the body of the answer."""
        self._count(Code.MALFORMED_REQUEST, request_id)
        return self._without_request(Code.MALFORMED_REQUEST, reason, request_id, peer)

    def faulted(self, request_id: str, peer: str) -> bytes:
        """Record that the gateway failed, and give the body of the answer."""
        return self._without_request(Code.INTERNAL, "", request_id, peer)

    def _without_request(self, code: Code, detail: str, request_id: str, peer: str) -> bytes:
        record = {
            "event": "refused",
            "request_id": request_id,
            "decision": "refuse",
            "code": code.value,
            "client": peer,
            "now": records.moment(self.desk.clock()),
        }
        self.desk.ledger.refused_unauthenticated(record, peer)
        return self.desk.answers.outcome_body(code, detail)

    def _unproven(self, came: Arrival, matched: Match | None, route: Route | None, now: datetime) -> records.Record:
        return {
            "request_id": came.request_id,
            "correlation_id": came.correlation_id,
            "customer": matched.customer if matched else None,
            "operation": _operation(route),
            "appointment": matched.resource if matched and route and route.name is not Name.TASK else None,
            "client": came.peer,
            "now": records.moment(now),
        }

    def _note(
        self,
        came: Arrival,
        matched: Match | None,
        route: Route | None,
        code: Code,
        event: str = "refused",
        why: str = "",
    ) -> None:
        """Record a refusal of somebody who is not known (yet)."""
        record = self._unproven(came, matched, route, self.desk.clock())
        record |= {"event": event, "decision": "refuse", "code": code.value}
        if why:
            record["checks"] = [[why, False]]
        self.desk.ledger.refused_unauthenticated(record, came.peer)

    def _told(self, stop: Stop) -> web.Response:
        return self.desk.answers.error(stop.code, stop.detail, expression=stop.expression, headers=stop.headers)


def _draining() -> Stop:
    return Stop(Code.DRAINING, headers={"Connection": "close"})


def _operation(route: Route | None) -> str | None:
    """Name the one operation a route is about."""
    return None if route is None or route.operation is None else route.operation.value
