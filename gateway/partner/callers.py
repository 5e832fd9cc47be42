"""Who calls, where proxies stand in between: an address is believed only from those whom the settings name."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from gateway.partner.headers import Lines

Network = IPv4Network | IPv6Network

MOST_HOPS: Final = 32
"""Of a list; what stands further to the left is further from what a trusted proxy wrote."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Finds the address of a caller. Without trusted proxies no header says anything."""

    trusted: tuple[Network, ...] = ()

    def caller(self, peer: str, lines: Lines) -> str:
        """Give the nearest hop that is none of ours, from `Forwarded` (RFC 7239) or `X-Forwarded-For`.

        A proxy passes on unread the one of the two that it does not write. So where both came and differ, neither is
        believed, and the caller is the proxy.
        """
        if not self._is_trusted(peer):
            return peer
        found = {self._walk(peer, hops) for hops in (_forwarded(lines), _x_forwarded_for(lines)) if hops}
        return found.pop() if len(found) == 1 else peer

    def _walk(self, peer: str, hops: Sequence[str]) -> str:
        nearest = peer
        for hop in reversed(hops[-MOST_HOPS:]):
            if not (address := plain(hop)):
                return nearest
            nearest = address
            if not self._is_trusted(address):
                return nearest
        return nearest

    def _is_trusted(self, text: str) -> bool:
        if not self.trusted or not text:
            return False
        address = _parsed(text)
        return any(address in network for network in self.trusted)


NOBODY_BETWEEN: Final = Callers()
"""Every caller is whoever is at the other end of the socket."""


@lru_cache(maxsize=1024)
def _parsed(text: str) -> IPv4Address | IPv6Address:
    """Parse an address in its one spelling; the few proxies there are come with every request."""
    return ip_address(text)


def plain(text: str) -> str:
    """An address in its one spelling, without zone; IPv4 written as IPv6 is IPv4. Empty for anything else."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def networks(written: Sequence[str]) -> tuple[Network, ...]:
    """Read networks; those of IPv4 written as IPv6 are IPv4, as the addresses are. Raises ValueError."""
    return tuple(_network(each) for each in written)


def _network(text: str) -> Network:
    head, _, length = text.partition("/")
    address = ip_address(head)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if mapped is not None and int(length or 128) >= 96:
        return IPv4Network((int(mapped), int(length or 128) - 96))
    if isinstance(address, IPv4Address):
        return IPv4Network((int(address), int(length or 32)))
    return IPv6Network((int(address), int(length or 128)))


def _x_forwarded_for(lines: Lines) -> list[str]:
    joined = ",".join(lines.known.get("X-Forwarded-For", ()))
    return [_address(each) for each in joined.split(",")] if joined else []


def _forwarded(lines: Lines) -> list[str]:
    """Every `for` in order; an element without one, or in a form nobody can be sure of, is a hop that is unknown."""
    joined = ",".join(lines.known.get("Forwarded", ()))
    return [_for(each) for each in joined.split(",")] if joined else []


def _for(element: str) -> str:
    pairs = [part.strip(" \t").partition("=") for part in element.split(";")]
    named = [value for name, _, value in pairs if name.lower() == "for"]
    if len(named) != 1:
        return ""
    value = named[0]
    return _address(value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value)


def _address(text: str) -> str:
    """Take off brackets and a port."""
    text = text.strip(" \t")
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
