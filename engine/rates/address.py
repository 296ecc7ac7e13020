"""What an address is counted as, and what a deny list compares it by."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from engine.bounds import ADDRESS_CHARS_MAX, ADDRESSES_KNOWN_MAX

V6_NETWORK_BITS = 64  # one household or one phone gets so much, RFC 6177: each address in it is as good as another


class Address(NamedTuple):
    """A client's address; `ip` is None for a text that a proxy sent and that is none, `bucket` is its bucket's key."""

    ip: IPv4Address | IPv6Address | None
    bucket: str


def address(text: str) -> Address:
    """The address that a text says: a mapped IPv4 address is the IPv4 one, IPv6 is counted by /64."""
    return _address(text[:ADDRESS_CHARS_MAX])


@lru_cache(maxsize=ADDRESSES_KNOWN_MAX)
def _address(text: str) -> Address:
    try:
        ip = ip_address(text)
    except ValueError:
        return Address(None, text)
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return Address(ip.ipv4_mapped, str(ip.ipv4_mapped))
        return Address(ip, str(IPv6Network((int(ip), V6_NETWORK_BITS), strict=False)))
    return Address(ip, text)
