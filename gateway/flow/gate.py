"""The steps between a proven identity and the first byte of the body: partner, rates, scope, grant, operation."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.codes import Code
from gateway.domain.decision import Check, Decision, Permit, Refusal, Shadow
from gateway.domain.grant import Customer, Operation, Policy
from gateway.domain.rules import admit
from gateway.flow.rates import RateLimits
from gateway.flow.request import Caller, Quota


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request may be read; PKB has not been asked yet."""

    permit: Permit
    customer: Customer
    quotas: tuple[Quota, ...]


@dataclass(frozen=True, slots=True)
class Barred:
    """The request ends at the gate."""

    refusal: Refusal
    quotas: tuple[Quota, ...]
    policy: Policy
    now: datetime

    @property
    def retry_after(self) -> int | None:
        """Seconds until the exhausted rate has room for one more, where a rate was the reason."""
        limited = self.refusal.code is Code.RATE_LIMITED
        return self.quotas[-1].reset if limited else None


@dataclass(frozen=True, slots=True)
class Gate:
    """Steps 5 to 10, in their order."""

    policy: Callable[[], Policy]
    clock: Callable[[], datetime]
    rates: RateLimits

    async def enter(self, caller: Caller, letter: str, operations: frozenset[Operation]) -> Admitted | Barred:
        """Let a caller in whose token has the scope letter and whose grant covers any of the operations."""
        policy, now = self.policy(), self.clock()
        decision = admit(caller.who, operations, policy, now)
        if isinstance(decision, Refusal) and decision.code is Code.PARTNER_SUSPENDED:
            return Barred(decision, (), policy, now)

        partner = policy.partners[caller.partner]
        granted, quota = await self.rates.take(f"partner:{partner.id}", "partner", partner.rate)
        if not granted:
            return Barred(_barred(Code.RATE_LIMITED, "partner-rate", decision), (quota,), policy, now)
        if letter not in caller.scope:
            return Barred(_barred(Code.SCOPE_INSUFFICIENT, "scope", decision), (quota,), policy, now)
        if isinstance(decision, Refusal):
            return Barred(decision, (quota,), policy, now)
        return await self._within_grant_rate(decision, quota, policy, now)

    async def _within_grant_rate(
        self, permit: Permit, quota: Quota, policy: Policy, now: datetime
    ) -> Admitted | Barred:
        rate, customer = permit.grant.rate, policy.customers[permit.grant.customer]
        if rate is None:
            return Admitted(permit, customer, (quota,))
        granted, own = await self.rates.take(f"grant:{permit.grant.id}", "grant", rate)
        if not granted:
            checks = (*permit.checks, Check("grant-rate", passed=False))
            # A shadow grant's own rate is not counted, so this is what it says up to here.
            refusal = Refusal(Code.RATE_LIMITED, checks, permit.grant, shadow=permit.shadow)
            return Barred(refusal, (quota, own), policy, now)
        return Admitted(permit, customer, (quota, own))


def _barred(code: Code, rule: str, decision: Decision) -> Refusal:
    """Refuse for a reason that no grant has a say in, and so no shadow grant either."""
    shadow = None if decision.shadow is None else Shadow(decision.shadow.grant, code.value)
    return Refusal(code, (Check("partner-active", passed=True), Check(rule, passed=False)), shadow=shadow)
