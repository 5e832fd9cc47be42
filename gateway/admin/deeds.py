"""What a person does in the console: log in and out, end an open write, block and unblock, have a decision explained.

All but the first needs a named operator, wherever the console is asked from, and goes on record.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast, get_args
from urllib.parse import urlencode, urlsplit

import structlog
from aiohttp import web
from multidict import MultiMapping

from gateway.admin.access import COOKIE, LOGIN, OPERATOR, local_path
from gateway.admin.console import Console, write_values
from gateway.admin.dossier import decision_of, rules_of
from gateway.admin.sessions import LIFETIME, Failures
from gateway.admin.sources import Answered, Asked, Missing, Undone
from gateway.admin.words import rule_sentence
from gateway.domain.appointment import CANCEL_REASONS
from gateway.domain.codes import CATALOGUE
from gateway.domain.decision import Refusal
from gateway.domain.grant import Field, Operation
from gateway.flow import records

Outcome = Literal["applied", "rejected"]
TOKEN_LENGTH: Final = 4096
TEXTS: Final = (Field.COMMENT, Field.LOCATION, Field.MANAGEMENT_URL)

_KEPT: Final = ("partner", "customer", "operation", "appointment", "at", "reason", "start", "end", "version")
"""What the form shows again; what was said of the patient never is."""

_log = structlog.get_logger("pkb_gateway")


@dataclass(frozen=True, slots=True)
class Deeds:
    """The pages with forms that do something."""

    console: Console
    failures: Failures = field(default_factory=Failures)

    def routes(self) -> list[web.RouteDef]:
        """List them."""
        return [
            web.get(LOGIN, self.login_page),
            web.post(LOGIN, self.login),
            web.post("/logout", self.logout),
            web.get("/outcomes/{task}", self.resolve_page),
            web.post("/outcomes/{task}", self.resolve),
            web.post("/blocks", self.block),
            web.get("/explain", self.explain_page),
            web.post("/explain", self.explain),
        ]

    async def login_page(self, request: web.Request) -> web.Response:
        """Ask for a token."""
        return await self._login(request, local_path(request.query.get("next", "/")))

    async def login(self, request: web.Request) -> web.StreamResponse:
        """Give a session for an operator's token."""
        form = await request.post()
        going_to = local_path(_text(form, "next"))
        address = request.remote or ""
        if self.failures.too_many(address):
            _log.warning("console login refused", client=address, why="too many")
            return await self._login(request, going_to, "Too many log-ins have failed. Wait a minute.", 429)
        cookie = self.console.access.sessions.begin(_text(form, "token").strip()[:TOKEN_LENGTH])
        if cookie is None:
            self.failures.add(address)
            _log.warning("console login refused", client=address, why="not a token")
            return await self._login(request, going_to, "That is no operator's token.", 403)
        _log.info("console login", client=address, operator=self.console.access.sessions.holder(cookie))
        answer = web.HTTPSeeOther(going_to)
        # Behind a proxy only the browser knows that it speaks https.
        secure = request.secure or urlsplit(request.headers.get("Origin", "")).scheme == "https"
        seconds = int(LIFETIME.total_seconds())
        answer.set_cookie(COOKIE, cookie, max_age=seconds, httponly=True, samesite="Strict", secure=secure)
        raise answer

    async def logout(self, request: web.Request) -> web.StreamResponse:
        """End the session in this browser."""
        del request
        answer = web.HTTPSeeOther("/")
        answer.del_cookie(COOKIE)
        raise answer

    async def resolve_page(self, request: web.Request) -> web.Response:
        """Show an open write, and ask how it ended."""
        return await self._resolve_page(request, "")

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        """End an open write as a person saw it in PKB."""
        by = _named(request)
        form, task = await request.post(), request.match_info["task"]
        outcome = _text(form, "outcome")
        if outcome not in get_args(Outcome):
            return await self._resolve_page(request, "Choose what PKB shows.", 400)
        try:
            await self.console.sources.deeds.resolve(task, cast("Outcome", outcome), by)
        except Undone as undone:
            return await self._resolve_page(request, str(undone), 409)
        raise self._done("/outcomes", f"{task} is on record as {outcome}, said {by}.")

    async def block(self, request: web.Request) -> web.StreamResponse:
        """Shut a partner out, or let it in again."""
        by = _named(request)
        form, deeds = await request.post(), self.console.sources.deeds
        partner, customer = _text(form, "partner").strip(), _text(form, "customer").strip() or None
        where = f"{partner} at {customer}" if customer else f"{partner} at every customer"
        try:
            if _text(form, "what") == "unblock":
                lifted = await deeds.unblock(partner, customer, by)
                done = f"{where} is no longer blocked." if lifted else f"{where} was not blocked."
            else:
                new = await deeds.block(partner, customer, by)
                done = f"{where} is blocked{'' if new else ', as before'}. Every gateway refuses it within a second."
        except Undone as undone:
            raise web.HTTPConflict(reason=_one_line(str(undone))) from undone
        raise self._done("/blocks", done)

    async def explain_page(self, request: web.Request) -> web.Response:
        """Ask what is to be explained."""
        given = {name: request.query.get(name, "")[:200] for name in _KEPT}
        return await self._explain(request, given, frozenset(), None, "")

    async def explain(self, request: web.Request) -> web.Response:
        """Say what would be decided on PKB's present copy, and every rule."""
        by = _named(request)
        form = await request.post()
        given = {name: _text(form, name).strip()[:200] for name in _KEPT}
        fields = frozenset(str(each) for each in form.getall("fields", ()))
        asked = Asked(
            **given, fields=fields, patient=_text(form, "patient").strip(), birth_date=_text(form, "birth_date").strip()
        )
        try:
            answered = await self.console.sources.deeds.explain(asked, by)
        except Undone as undone:
            return await self._explain(request, given, fields, None, str(undone), 400)
        return await self._explain(request, given, fields, answer_values(answered), "")

    def _done(self, path: str, words: str) -> web.HTTPSeeOther:
        """Go on to a page that says what was done."""
        mark = self.console.access.sessions.vouch(words)
        return web.HTTPSeeOther(f"{path}?{urlencode({'done': words, 'mark': mark})}")

    async def _login(self, request: web.Request, going_to: str, trouble: str = "", status: int = 200) -> web.Response:
        return await self.console.show(request, "login.html", {"next": going_to, "trouble": trouble}, status)

    async def _resolve_page(self, request: web.Request, trouble: str, status: int = 200) -> web.Response:
        task = request.match_info["task"]
        try:
            found = await self.console.sources.open_writes()
        except Missing as missing:
            return await self.console.show(request, "resolve.html", {"write": None, "trouble": str(missing)}, 503)
        now = self.console.sources.clock()
        write = next((write_values(each, now) for each in found if each.task.id == task), None)
        if write is None and not trouble:
            trouble, status = "There is no open write of this id: it has ended, or never was.", 404
        return await self.console.show(request, "resolve.html", {"write": write, "trouble": trouble}, status)

    async def _explain(
        self,
        request: web.Request,
        given: Mapping[str, str],
        fields: frozenset[str],
        answer: Mapping[str, Any] | None,
        trouble: str,
        status: int = 200,
    ) -> web.Response:
        policy = self.console.sources.policy()
        values = {
            "given": given,
            "fields": fields,
            "answer": answer,
            "trouble": trouble,
            "partners": sorted(policy.partners),
            "customers": sorted(policy.customers),
            "operations": [each.value for each in Operation],
            "texts": [each.value for each in TEXTS],
            "reasons": sorted(CANCEL_REASONS),
        }
        return await self.console.show(request, "explain.html", values, status)


def answer_values(answered: Answered) -> dict[str, Any]:
    """Lay out a live decision as the page of a request does."""
    decision = answered.decision
    told = {"event": "explained", **records.decided(decision, answered.now)}
    refusal = decision if isinstance(decision, Refusal) else None
    return {
        "view": decision_of(told),
        "rules": rules_of(told["checks"]),
        "told": refusal.code.value if refusal else "",
        "advice": " ".join(filter(None, (CATALOGUE[refusal.code].advice, refusal.detail))) if refusal else "",
        "unasked": answered.unasked,
        "unasked_words": rule_sentence(answered.unasked or "", passed=True),
        "patient_wanted": answered.patient_wanted,
        "now": answered.now,
        "digest": answered.digest,
    }


def _named(request: web.Request) -> str:
    """Name the person who goes on record. Raises HTTPForbidden."""
    operator: str = request.get(OPERATOR, "")
    if not operator:
        raise web.HTTPForbidden(reason="log in first: this goes on record under a person's name")
    return operator


def _text(form: MultiMapping[Any], name: str) -> str:
    given = form.get(name, "")
    return given if isinstance(given, str) else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
