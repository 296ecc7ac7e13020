"""The sockets that `serve` listens on: on every address that its host's name has."""

import errno
import socket
from contextlib import ExitStack
from typing import Any

import structlog

from engine.bounds import BACKLOG
from engine.errors import Misconfigured

# libuv takes in one connection of a listener in each turn of its loop (https://github.com/libuv/libuv/pull/3696). Under
# a flood a turn takes 20 ms: thousands that connect would wait for minutes. So an address has several listeners.
LISTENERS = 16
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}  # such as an IPv6 address where IPv6 is switched off
_log = structlog.get_logger(__name__)
_Place = tuple[socket.AddressFamily, tuple[Any, ...]]  # as `getaddrinfo` tells it


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen, `LISTENERS` for each address of a host: of `localhost` a client may try either kind.

    An address that this machine lacks is left out while it has another. Raises `Misconfigured` where the name has no
    address, the machine has none of them, or another program listens there.
    """
    places = _places(host, port)
    bound: list[socket.socket] = []
    missing: list[str] = []
    with ExitStack() as opened:
        for family, address in places:
            try:
                listener = _bound(family, address, takes_ipv4_too=len(places) == 1)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise Misconfigured(f"cannot listen on {address[0]}, port {port}: {error.strerror}") from None
                missing.append(address[0])
            else:
                bound.append(opened.enter_context(listener))
        if not bound:
            raise Misconfigured(f"host {host!r}: this machine does not have the address {' or '.join(missing)}")
        opened.pop_all()
    if missing:
        _log.warning("this machine lacks an address of its host's name", host=host, addresses=missing)
    _log.info("listening", addresses=[listener.getsockname()[0] for listener in bound], port=port)
    return [*bound, *(listener.dup() for listener in bound for _ in range(LISTENERS - 1))]


def _places(host: str, port: int) -> list[_Place]:
    """Each address of a host once: hosts files name some twice."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise Misconfigured(f"host {host!r}: {getattr(error, 'strerror', None) or error}") from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bound(family: socket.AddressFamily, address: tuple[Any, ...], *, takes_ipv4_too: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6 and not takes_ipv4_too:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # or `::` would bar `0.0.0.0`
        listener.bind(address)
        listener.listen(BACKLOG)  # here: of two that start together both may bind, and the kernel tells only one now
    except OSError:
        listener.close()
        raise
    return listener
