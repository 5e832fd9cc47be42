"""Who calls, where proxies stand in between: an address is believed only from those whom the settings name."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Network = IPv4Network | IPv6Network
Lines = Sequence[tuple[bytes, bytes]]
"""Header lines in the order of the wire, names as written."""

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
        return bool(text) and any(ip_address(text) in network for network in self.trusted)


NOBODY_BETWEEN: Final = Callers()
"""Every caller is whoever is at the other end of the socket."""


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


def _values(lines: Lines, name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in lines if key.lower() == name)


def _x_forwarded_for(lines: Lines) -> list[str]:
    joined = _values(lines, b"x-forwarded-for")
    return [_address(each) for each in joined.split(",")] if joined else []


def _forwarded(lines: Lines) -> list[str]:
    """Every `for` in order; an element without one, or in a form nobody can be sure of, is a hop that is unknown."""
    joined = _values(lines, b"forwarded")
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
