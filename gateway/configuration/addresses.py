"""Addresses: web addresses, hosts and networks. Plain http is taken only where nobody can listen in."""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gateway.configuration.words import echo, text

_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,45}")
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
"""All of IPv4, written as IPv6."""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, whatever a name server says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.casefold() == "localhost"


def web(value: object) -> SplitResult:
    """Read an http or https address without user name, query or fragment. Raises ValueError."""
    written = text(value)
    try:
        parts = urlsplit(written)
        port_is_fine = parts.port != 0
    except ValueError:
        raise ValueError("not a web address such as https://example.org/path") from None
    if "@" in parts.netloc:
        # Not repeated: what stands before the @ may be a password.
        raise ValueError("an address must not hold a user name or a password")
    if parts.scheme not in {"http", "https"} or not port_is_fine or not _HOST.fullmatch(parts.hostname or ""):
        raise ValueError(f"{echo(written)} is not a web address such as https://example.org/path")
    if "*" in written:
        raise ValueError("there are no wildcards: name each address")
    if "?" in written or "#" in written or any(sign.isspace() or ord(sign) > 126 for sign in written):
        raise ValueError("an address here has no ?, #, blank or letter outside ASCII")
    return parts


def is_private(parts: SplitResult) -> bool:
    """Whether what is sent there can be read by nobody on the way."""
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def secure(value: object) -> str:
    """Read an https address; http only on the loopback."""
    parts = web(value)
    if not is_private(parts):
        raise ValueError("must begin with https://: what is read there decides who is let in")
    return parts.geturl()


def host(value: object) -> str:
    """Read a host name or an IP address to listen on."""
    written = text(value)
    if not _HOST.fullmatch(written):
        raise ValueError(f"{echo(written)} is not a host name or an IP address")
    return written


def network(value: object) -> str:
    """Read an IP address or a network of proxies whose word about the caller is believed."""
    written = text(value)
    try:
        found = ipaddress.ip_network(written)
    except ValueError:
        raise ValueError(f'{echo(written)} is not an IP address or a network such as "10.1.2.0/24"') from None
    if found.prefixlen == 0 or (isinstance(found, ipaddress.IPv6Network) and _MAPPED.subnet_of(found)):
        raise ValueError("this trusts the whole internet to say who is calling; name your proxies")
    return str(found)
