"""One chain from its first record on, judged as `audit verify` judges it."""

from collections.abc import Iterable, Mapping, Sequence

from gateway.domain.chain_check import Bad, Line, Link, Named, SignatureCheck, Sound, follow, joined


def verify_chain(
    chain: str,
    lines: Iterable[Line],
    *,
    named: Sequence[Named] = (),
    torn: Mapping[tuple[str, int], int] | None = None,
    signature_holds: SignatureCheck | None = None,
) -> Sound | Bad:
    stretch = follow(chain, lines, Link(), named=named, torn=torn, signature_holds=signature_holds)
    return stretch if isinstance(stretch, Bad) else joined(chain, [stretch], named)
