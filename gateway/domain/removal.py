"""What may be gone from the audit stream: exactly what records that hold say was removed after its time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.chain import FIRST_SEQ, What
from gateway.domain.chain_check import Bad, Named, Removed, Sound, Stretch

Chains = Mapping[str, Sequence[Stretch]]


@dataclass(frozen=True, slots=True)
class Removals:
    """The statements that count, by the chain that they are about."""

    of: Mapping[str, Sequence[Removed]]

    def covers(self, chain: str, seq: int, digest: str) -> bool:
        """Whether all of a chain up to this record was removed, so that it may begin after it."""
        return any((each.last, each.hash) == (seq, digest) for each in self.of.get(chain, ()))

    def whole(self, chain: str, named: Sequence[Named]) -> Sound | Bad:
        """Judge a chain of which nothing is there. `named`: what is said of it elsewhere."""
        end = next((each for each in self.of.get(chain, ()) if each.ends), None)
        beyond = [each for each in named if end is None or each.seq > end.last]
        if end is None or beyond:
            by = beyond[0].by if beyond else "a record of removed files"
            return Bad(chain, FIRST_SEQ, What.MISSING_CHAIN, "", 0, by)
        for each in named:
            if each.seq == end.last and each.hash not in (None, end.hash):
                return Bad(chain, each.seq, What.REPLACED, "", 0, each.by, each.seq)
        return Sound(chain, 0, end.hash, removed=end.last)


def upheld(chains: Chains, *, signed: bool) -> tuple[Removals, frozenset[str]]:
    """Give the statements that count, and the chains that begin where none of these lets them.

    A statement counts where its own chain is whole, or begins where a statement that counts lets it, and, `signed`,
    where a later checkpoint of its chain was signed. What is given of a chain holds as far as it goes.
    """
    whole = set(chains)
    while True:
        removals = _stated({chain: chains[chain] for chain in whole}, signed=signed)
        unfounded = {chain for chain in whole if not _may_begin(chain, chains[chain][0], removals)}
        if not unfounded:
            return removals, frozenset(chains.keys() - whole)
        whole -= unfounded


def _may_begin(chain: str, first: Stretch, removals: Removals) -> bool:
    begin = first.begin
    return begin.seq == FIRST_SEQ or removals.covers(chain, begin.seq - 1, begin.prev)


def _stated(chains: Chains, *, signed: bool) -> Removals:
    found: dict[str, list[Removed]] = {}
    for stretches in chains.values():
        last = max((each.checkpoint or 0 for each in stretches), default=0)
        for stretch in stretches:
            for each in stretch.removed:
                if not signed or each.seq < last:
                    found.setdefault(each.chain, []).append(each)
    return Removals(found)
