import pytest

from gateway.domain.grant import Rate
from gateway.storage.journal_budget import Budget, prefix


def test_a_client_cannot_use_up_what_others_need() -> None:
    budget = Budget(Rate(20, 1), Rate(5, 1))
    assert [budget.admits("192.0.2.1", 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert [budget.admits(f"192.0.2.{n}", 0.0) for n in range(2, 18)] == [True] * 15 + [False]


def test_both_budgets_refill_evenly_up_to_their_size() -> None:
    budget = Budget(Rate(20, 1), Rate(5, 1))
    assert sum(budget.admits("192.0.2.1", 100.0) for _ in range(9)) == 5
    assert sum(budget.admits("192.0.2.1", 100.4) for _ in range(9)) == 2
    assert sum(budget.admits("192.0.2.1", 900.0) for _ in range(9)) == 5
    assert sum(budget.admits("192.0.2.1", 800.0) for _ in range(9)) == 0


def test_a_flood_of_addresses_does_not_fill_the_memory() -> None:
    budget = Budget(Rate(1, 1), Rate(1, 1))
    for n in range(11_000):
        budget.admits(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 0.0)
        budget.suppress("token-missing", f"10.{n >> 8}.{n & 255}.1")
    assert len(budget._clients) == 10_000
    counts = budget.take()
    assert len(counts) == 501
    assert counts[0] == {"code": "token-missing", "client": "elsewhere", "count": 10_500}
    assert budget.take() == []


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("unix:", "unknown"),
    ],
    ids=["IPv4", "IPv6", "IPv4 in IPv6", "with a zone", "none", "no address"],
)
def test_an_address_is_told_by_its_network(address: str, network: str) -> None:
    assert prefix(address) == network
