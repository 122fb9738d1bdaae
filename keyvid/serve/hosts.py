"""By which names the server is called: web pages of others come under a name of theirs.

A page that makes its own name mean this machine (DNS rebinding) reads what it likes, as the browser
takes the server for a part of that page. An address in place of a name cannot be redirected.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

ANY = "*"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{0,5})?")


@dataclass(frozen=True)
class Hosts:
    """The names that a `Host` header may hold.

    Attributes:
        names: in lower case and without ports; `ANY` allows all.
        any_address: whether each IP address is one, not only those of this machine alone.
    """

    names: frozenset[str] = frozenset({"localhost"})
    any_address: bool = False

    @classmethod
    def of(cls, listens_at: str, more: Iterable[str] = ()) -> "Hosts":
        """Those of a server that listens at an address or name, and more that it is known by."""
        address = _address(listens_at)
        everywhere = address is not None and address.is_unspecified
        names = {"localhost", listens_at, *more}
        return cls(frozenset(name.strip("[]").lower() for name in names), everywhere)

    def know(self, host: str) -> bool:
        """Whether a `Host` header is one of them."""
        matched = _HOST.fullmatch(host.lower())
        if matched is None:
            return False
        name = matched[1].strip("[]")
        if name in self.names or ANY in self.names:
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or self.any_address)


def is_loopback(listens_at: str) -> bool:
    """Whether only this machine reaches who listens at an address or name."""
    address = _address(listens_at)
    return listens_at == "localhost" or (address is not None and address.is_loopback)


def is_same_origin(origin: str, host: str) -> bool:
    """Whether an `Origin` header speaks of the site that a `Host` header names.

    The scheme is left out: a proxy may speak TLS in place of the server.
    """
    try:
        ours, theirs = urlsplit(f"//{host}"), urlsplit(origin)
        port = _DEFAULT_PORTS.get(theirs.scheme)
        return theirs.hostname == ours.hostname and (theirs.port or port) == (ours.port or port)
    except ValueError:
        return False


def network_of(address: str) -> str:
    """What one client has of addresses, by which it is counted: one of IPv4, 2**64 of IPv6."""
    parsed = _address(address)
    if isinstance(parsed, IPv6Address) and not parsed.ipv4_mapped:
        return str(ip_network((parsed, 64), strict=False))
    return address


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
