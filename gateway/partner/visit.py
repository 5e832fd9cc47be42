"""One request of a partner that has proven who it is: steps 5 to 13, the story, and the answer."""

import asyncio
import math
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.domain.appointment import Write
from gateway.domain.codes import Code
from gateway.domain.grant import Policy
from gateway.flow import records
from gateway.flow.gate import Admitted, Barred
from gateway.flow.orders import Once, Order, Wish
from gateway.flow.ports import JournalUnavailable
from gateway.flow.request import (
    Answer,
    Caller,
    Refused,
    Replayed,
    Shown,
    Taken,
    TokenFacts,
    Unshown,
    milliseconds_since,
)
from gateway.flow.tasks import Task
from gateway.partner.access_tokens import Identity
from gateway.partner.answers import Headers, rate_headers
from gateway.partner.arrival import Arrival, Gone, TimedOut, TooLarge, read_body
from gateway.partner.desk import Desk, Stop
from gateway.partner.headers import (
    Media,
    Preference,
    accepts_fhir,
    content_type_fits,
    fingerprint,
    preference,
    read_if_match,
)
from gateway.partner.search import Pairs
from gateway.partner.searchset import bundle, search
from gateway.partner.table import Match, Name, Route
from gateway.partner.target import Malformed, read_form
from gateway.partner.wire import Misfit, read_command
from gateway.partner.wishes import read_patch, read_resource

_LETTERS: Final = frozenset("rsu")
"""Those that any route asks for."""


def _unsupported(media: Media | None) -> Stop:
    """Refuse a media type; of a patch tell which one is taken, as RFC 5789, 2.2 asks."""
    if media is not Media.JSON_PATCH:
        return Stop(Code.UNSUPPORTED_MEDIA_TYPE)
    (taken,) = media.value
    return Stop(Code.UNSUPPORTED_MEDIA_TYPE, f"PATCH takes {taken} only.", headers={"Accept-Patch": taken})


@dataclass(slots=True)
class Visit:
    """One request of a proven partner, from the gate to its answer."""

    desk: Desk
    request: web.BaseRequest
    came: Arrival
    matched: Match
    route: Route
    identity: Identity
    received: float

    async def answer(self) -> web.StreamResponse:
        """Answer, or say 503 where the answer could not be put on record."""
        try:
            return await self._answer()
        except JournalUnavailable:
            return self.desk.answers.error(Code.AUDIT_UNAVAILABLE)

    async def _answer(self) -> web.StreamResponse:
        caller = self._caller()
        entered = await self.desk.gate.enter(caller, self.route.letter or "", self.route.operations)
        quotas = rate_headers(entered.quotas)
        if isinstance(entered, Barred):
            await self._record(caller, entered.policy, records.refused(entered.refusal, entered.now))
            return self.desk.answers.error(
                entered.refusal.code, entered.refusal.detail, retry_after=entered.retry_after, headers=quotas
            )
        try:
            return await self._serve(caller, entered, quotas)
        except Stop as stop:
            told = records.failed(stop.code, self.desk.clock())
            await self._record(caller, self.desk.policy(), told)
            return self.desk.answers.error(
                stop.code, stop.detail, expression=stop.expression, headers={**quotas, **stop.headers}
            )

    def _caller(self) -> Caller:
        assert self.matched.customer is not None, "every route with a scope letter names a customer"
        return Caller(
            partner=self.identity.partner,
            customer=self.matched.customer,
            scope=self.identity.scopes.letters & _LETTERS,
            token=TokenFacts(self.identity.issuer, self.identity.jti or "", self.identity.kid),
            client=self.came.peer,
            request_id=self.came.request_id,
            correlation_id=self.came.correlation_id,
            received=self.received,
            deadline=self.received + self.desk.limits.deadline,
        )

    async def _serve(self, caller: Caller, entered: Admitted, quotas: Headers) -> web.StreamResponse:
        self._check_head()
        if self.route.name is Name.SEARCH:
            return await self._search(caller, entered, quotas)
        assert self.matched.resource is not None, "every route with a scope letter names a resource"
        resource = self.matched.resource
        match self.route.name:
            case Name.READ:
                return await self._told(await self.desk.looks.show(caller, entered.customer, resource), quotas)
            case Name.ACTIONS:
                offered = await self.desk.looks.actions(caller, entered.customer, resource)
                if isinstance(offered, Refused):
                    return await self._told(offered, quotas)
                return self.desk.answers.actions(offered, quotas)
            case Name.TASK:
                task = await self.desk.looks.task(caller, entered.permit, resource)
                return await self._told(task, quotas)
            case Name.CANCEL | Name.CHANGE | Name.UPDATE | Name.PATCH:
                return await self._write(caller, entered, resource, quotas)
        raise AssertionError(f"{self.route.name} has no handler")

    async def _search(self, caller: Caller, entered: Admitted, quotas: Headers) -> web.StreamResponse:
        found = await search(self.desk, caller, entered, await self._asked())
        if isinstance(found, Refused):
            return await self._told(found, quotas)
        # What a search leaves out is as little to be told by a stopwatch as what a not-found stands for.
        await self._keep_time()
        return bundle(found, quotas)

    async def _asked(self) -> Pairs:
        if self.route.queries:
            return self.came.target.query
        form = read_form(await self._body())
        if isinstance(form, Malformed):
            raise Stop(Code.INVALID_PARAMETER, form.reason)
        return form

    def _check_head(self) -> None:
        """Step 11, but for the length of a body that did not say it."""
        head = self.came.head
        if not accepts_fhir(head.accept):
            raise Stop(Code.NOT_ACCEPTABLE)
        media = self.route.media or (Media.FHIR if self.route.writes else None)
        if head.encoded or (media is not None and not content_type_fits(head.content_type, media)):
            raise _unsupported(media)
        if head.content_length is not None and head.content_length > self.desk.limits.body:
            raise Stop(Code.BODY_TOO_LARGE, f"At most {self.desk.limits.body} bytes are taken.")
        if self.came.target.query and not self.route.queries:
            raise Stop(Code.INVALID_PARAMETER, "This path takes no query parameters.")

    async def _write(self, caller: Caller, entered: Admitted, resource: str, quotas: Headers) -> web.StreamResponse:
        head = self.came.head
        if head.if_match is None and self.route.name in {Name.UPDATE, Name.PATCH}:
            raise Stop(Code.VERSION_REQUIRED)
        expected = read_if_match(head.if_match) if head.if_match is not None else None
        if isinstance(expected, Malformed):
            raise Stop(Code.INVALID_PARAMETER, f"If-Match: {expected.reason}")
        body = await self._body()
        command = self._command(resource, body, patient_required=entered.permit.grant.patient_required)
        if isinstance(command, Misfit):
            raise Stop(command.code, command.detail, expression=command.expression)
        order = Order(
            caller,
            entered.customer,
            resource,
            command,
            expected,
            task=self.desk.new_id(),
            control_id=self.desk.new_control_id(),
            once=self._once(expected, body),
        )
        answer = await self.desk.writes.run(order)
        return await self._told(answer, quotas)

    def _command(self, resource: str, body: bytes, *, patient_required: bool) -> Write | Wish | Misfit:
        match self.route.name:
            case Name.UPDATE:
                return read_resource(body, resource, patient_required=patient_required)
            case Name.PATCH:
                return read_patch(body, patient_required=patient_required)
            case _:
                (operation,) = self.route.operations
                return read_command(operation, body, patient_required=patient_required)

    def _once(self, version: str | None, body: bytes) -> Once | None:
        """Tell a repetition of this request from another one with the same key, where the partner gave a key."""
        head = self.came.head
        if head.idempotency_key is None:
            return None
        path = self.came.target.path
        return Once(head.idempotency_key, fingerprint(self.request.method, path, head.content_type, version, body))

    async def _body(self) -> bytes:
        limits = self.desk.limits
        match await read_body(self.request, limits.body, self.received + limits.deadline):
            case bytes() as body:
                return body
            case TooLarge():
                raise Stop(Code.BODY_TOO_LARGE, f"At most {limits.body} bytes are taken.")
            case Malformed(reason=reason):
                raise Stop(Code.MALFORMED_REQUEST, reason)
            case TimedOut() | Gone():
                raise Stop(Code.REQUEST_TIMEOUT)

    async def _told(self, answer: Answer | Task, quotas: Headers) -> web.StreamResponse:
        answers, customer = self.desk.answers, self.matched.customer or ""
        match answer:
            case Replayed(answer=again):
                return await self._told(again, {**quotas, "Idempotent-Replayed": "true"})
            case Unshown():
                return answers.done(quotas)
            case Shown(sighting=sighting):
                return answers.appointment(sighting, self._preference(), quotas)
            case Taken(task=task):
                return answers.accepted(customer, task, quotas)
            case Task():
                return answers.task(answer, self.desk.clock(), quotas)
            case Refused(code=code, detail=detail, retry_after=wait, task=task_id):
                if code is Code.NOT_FOUND:
                    await self._keep_time()
                where = answers.task_location(customer, task_id) if task_id else {}
                return answers.error(code, detail, retry_after=wait, headers={**quotas, **where})

    def _preference(self) -> Preference:
        if not self.route.writes:
            return Preference.REPRESENTATION
        if not self.identity.scopes.allows("r"):
            return Preference.MINIMAL
        return preference(self.came.head.prefer)

    async def _keep_time(self) -> None:
        """Wait for the next multiple of the step, so that a stopwatch cannot tell one not-found from another."""
        step = self.desk.limits.not_found_step
        if step > 0:
            elapsed = asyncio.get_running_loop().time() - self.received
            await asyncio.sleep(math.ceil(elapsed / step) * step - elapsed)

    async def _record(self, caller: Caller, policy: Policy, told: records.Record) -> None:
        appointment = None if self.route.name is Name.TASK else self.matched.resource
        about = records.about(caller, policy, self.route.operation, appointment)
        await self.desk.ledger.write({**about, **told, "duration_ms": milliseconds_since(self.received)})
