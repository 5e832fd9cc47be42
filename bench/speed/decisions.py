"""What a decision costs with ten grants in memory, and with a hundred thousand."""

import gc
import time
from collections import defaultdict
from collections.abc import Sequence

from bench.speed.figures import Figure
from bench.speed.findings import DecisionCost
from bench.speed.turns import in_turns
from gateway.domain.decision import Permit
from gateway.domain.grant import Policy
from gateway.domain.rules import Claimant, decide
from tests.makers import NOW, appointment, cancel, customer, grant, owned_by, partner, policy

SIZES = (10, 2_000, 5_000, 20_000, 100_000)
FEW, MANY = 10, 1_000
PARTNERS = 10
DECISIONS = 2_000

Pair = tuple[Claimant, str]


def policy_of(count: int) -> Policy:
    """So many grants: each customer has granted something to ten partners."""
    partners = [partner(f"p{number}") for number in range(PARTNERS)]
    customers = [customer(f"c{number}") for number in range(-(-count // PARTNERS))]
    grants = [
        grant(id=f"g{number}", customer=f"c{number // PARTNERS}", partner=f"p{number % PARTNERS}")
        for number in range(count)
    ]
    return policy(*grants, customers=customers, partners=partners)


def pairs(count: int, wanted: int) -> list[Pair]:
    """Claimants spread over all grants of a policy, and the owner of the appointment that each asks for."""
    step = max(1, count // wanted)
    return [
        (Claimant(f"p{number % PARTNERS}", f"c{number // PARTNERS}"), f"Organization/c{number // PARTNERS}")
        for number in range(0, count, step)
    ][:wanted]


def costs(rounds: int, sizes: Sequence[int] = SIZES, decisions: int = DECISIONS) -> list[DecisionCost]:
    """Measure every size in turns."""
    policies = {count: policy_of(count) for count in sizes}
    few: dict[int, list[float]] = defaultdict(list)
    many: dict[int, list[float]] = defaultdict(list)
    gc.collect()
    gc.freeze()
    try:
        for count in in_turns(sizes, rounds):
            for wanted, found in ((FEW, few), (MANY, many)):
                found[count].append(_cost(policies[count], pairs(count, wanted), decisions))
    finally:
        gc.unfreeze()
    return [DecisionCost(count, Figure.of(few[count]), Figure.of(many[count])) for count in sizes]


def _cost(known: Policy, asked: Sequence[Pair], decisions: int) -> float:
    command = cancel()
    cases = [(who, appointment(provenance=owned_by(owner))) for who, owner in asked]
    for who, held in cases:
        assert isinstance(decide(who, command, held, known, NOW), Permit), "a refusal would cost less"
    rounds = max(1, decisions // len(cases))
    begun = time.process_time()
    for _ in range(rounds):
        for who, held in cases:
            decide(who, command, held, known, NOW)
    return 1e6 * (time.process_time() - begun) / (rounds * len(cases))
