"""Who called, where proxies stand in between."""

import json

import pytest

from gateway.configuration import addresses
from gateway.partner.callers import Callers, networks
from gateway.partner.headers import Lines, sort_lines
from tests.edges.raw_requests import get
from tests.edges.wire_bench import serving, wire

OURS = Callers(networks(["10.1.0.0/16", "192.0.2.7", "2001:db8::/32"]))


def lines(*headers: tuple[str, str]) -> Lines:
    return sort_lines([(name.encode(), value.encode("latin-1")) for name, value in headers])


def forwarded_for(*values: str) -> Lines:
    return lines(*(("X-Forwarded-For", value) for value in values))


@pytest.mark.parametrize(
    ("peer", "headers", "caller"),
    [
        pytest.param("198.51.100.1", forwarded_for("203.0.113.9"), "198.51.100.1", id="a stranger says nothing"),
        pytest.param("10.1.2.3", forwarded_for("203.0.113.9"), "203.0.113.9", id="our proxy is believed"),
        pytest.param("10.1.2.3", forwarded_for("6.6.6.6, 203.0.113.9"), "203.0.113.9", id="what came with it is not"),
        pytest.param("10.1.2.3", forwarded_for("6.6.6.6", "203.0.113.9"), "203.0.113.9", id="in two lines"),
        pytest.param(
            "10.1.2.3", forwarded_for("6.6.6.6, 203.0.113.9, 192.0.2.7, 10.1.9.9"), "203.0.113.9", id="three proxies"
        ),
        pytest.param("10.1.2.3", forwarded_for("192.0.2.7, 10.1.9.9"), "192.0.2.7", id="nobody but proxies"),
        pytest.param("10.1.2.3", forwarded_for("203.0.113.9, unknown"), "10.1.2.3", id="an unknown hop ends the way"),
        pytest.param(
            "10.1.2.3", forwarded_for("203.0.113.9, unknown, 10.1.9.9"), "10.1.9.9", id="beyond another proxy"
        ),
        pytest.param("10.1.2.3", forwarded_for(""), "10.1.2.3", id="an empty line"),
        pytest.param("10.1.2.3", forwarded_for("203.0.113.9,"), "10.1.2.3", id="an empty hop"),
        pytest.param("10.1.2.3", forwarded_for("203.0.113.9:4711"), "203.0.113.9", id="with a port"),
        pytest.param("10.1.2.3", forwarded_for("[2001:DB9::1]:4711"), "2001:db9::1", id="IPv6 with a port"),
        pytest.param("10.1.2.3", forwarded_for("2001:DB9:0::1"), "2001:db9::1", id="IPv6 in its one spelling"),
        pytest.param("2001:db8::5", forwarded_for("203.0.113.9"), "203.0.113.9", id="a proxy on IPv6"),
        pytest.param("10.1.2.3", lines(("Forwarded", "for=203.0.113.9;proto=https")), "203.0.113.9", id="Forwarded"),
        pytest.param(
            "10.1.2.3",
            lines(("forwarded", 'for=6.6.6.6, For="[2001:db9::1]:80";by=10.1.2.3')),
            "2001:db9::1",
            id="Forwarded in quotation marks",
        ),
        pytest.param("10.1.2.3", lines(("Forwarded", "for=_hidden")), "10.1.2.3", id="a hidden name"),
        pytest.param("10.1.2.3", lines(("Forwarded", "by=1.2.3.4")), "10.1.2.3", id="an element without for"),
        pytest.param(
            "10.1.2.3", lines(("Forwarded", "for=6.6.6.6;for=203.0.113.9")), "10.1.2.3", id="an element with two"
        ),
        pytest.param(
            "10.1.2.3",
            lines(("Forwarded", "for=6.6.6.6"), ("X-Forwarded-For", "203.0.113.9")),
            "10.1.2.3",
            id="the two headers differ",
        ),
        pytest.param(
            "10.1.2.3",
            lines(("Forwarded", "for=203.0.113.9"), ("X-Forwarded-For", "203.0.113.9")),
            "203.0.113.9",
            id="the two headers agree",
        ),
        pytest.param("10.1.2.3", lines(("X-Real-IP", "203.0.113.9")), "10.1.2.3", id="another header says nothing"),
        pytest.param("", forwarded_for("203.0.113.9"), "", id="no address at all"),
        pytest.param("10.1.2.3", forwarded_for(", ".join(["10.1.1.1"] * 99)), "10.1.1.1", id="a hundred proxies"),
    ],
)
def test_the_caller_is_the_nearest_that_is_none_of_ours(peer: str, headers: Lines, caller: str) -> None:
    assert OURS.caller(peer, headers) == caller


def test_without_proxies_of_ours_nothing_is_believed() -> None:
    assert Callers().caller("10.1.2.3", forwarded_for("203.0.113.9")) == "10.1.2.3"


def test_an_ipv4_address_in_ipv6_is_the_ipv4_address() -> None:
    assert OURS.caller("10.1.2.3", forwarded_for("::ffff:203.0.113.9")) == "203.0.113.9"
    assert OURS.caller("10.1.2.3", forwarded_for("203.0.113.9, ::ffff:10.1.9.9")) == "203.0.113.9"


def test_a_proxy_is_known_by_either_form_of_its_address() -> None:
    mapped = Callers(networks(["::ffff:10.1.0.0/112", "::ffff:192.0.2.7"]))
    assert mapped.trusted == networks(["10.1.0.0/16", "192.0.2.7"])
    assert mapped.caller("10.1.2.3", forwarded_for("203.0.113.9")) == "203.0.113.9"


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96", "::/64"])
def test_a_network_of_everybody_is_refused(everybody: str) -> None:
    with pytest.raises(ValueError, match="the whole internet"):
        addresses.network(everybody)


async def test_a_trusted_proxy_tells_who_called_and_a_stranger_does_not() -> None:
    spoofed, bad = get("X-Forwarded-For: 203.0.113.9"), get("X-Forwarded-For: 203.0.113.9", target="/a/../b")
    for callers, caller in ((Callers(), "127.0.0.1"), (Callers(networks(["127.0.0.1"])), "203.0.113.9")):
        async with serving(callers=callers) as bench, wire(bench) as open_:
            await open_.send(spoofed)
            assert json.loads((await open_.answer()).body)["peer"] == caller
            await open_.send(bad)
            await open_.answer()
            assert [peer for _, _, peer in bench.malformed] == [caller]
