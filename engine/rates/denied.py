"""Deny lists: addresses and members that an operator shuts out, from a file that is read again when it changes.

    address 203.0.113.0/24   # a farm
    member m-4711            # sells claims

A list is used whole or not at all: with a fault in it the start is stopped, and later the last good list stays.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import ClassVar

import structlog

from engine import ids
from engine.bounds import DENY_ENTRIES_MAX, DENY_LOOK_S
from engine.errors import Misconfigured, Refused
from engine.rates.address import Address

_FAULTS_SHOWN = 5
_log = structlog.get_logger(__name__)


class Denied(Refused):
    """This address or this member is on the deny list; `whose` says which."""

    code: ClassVar[str] = "denied"


@dataclass(frozen=True, slots=True)
class DenyList:
    """Members, and networks by version and prefix length: however long the list, a look-up is a few set look-ups."""

    members: frozenset[bytes] = frozenset()
    networks: Mapping[tuple[int, int], frozenset[int]] = field(default_factory=dict)

    def check_address(self, found: Address) -> None:
        """Raises `Denied` for an address in one of the networks."""
        if found.ip is None:
            return
        number, version, bits = int(found.ip), found.ip.version, found.ip.max_prefixlen
        for (of_version, length), prefixes in self.networks.items():
            if of_version == version and number >> (bits - length) in prefixes:
                raise Denied("this address is shut out by the operator: ask them why", whose="address")

    def check_member(self, member: bytes) -> None:
        """Raises `Denied` for a member on the list."""
        if member in self.members:
            raise Denied("this member is shut out by the operator: ask them why", whose="member")


def read(path: Path) -> DenyList:
    """The list in a file; raises `Misconfigured` with the lines that are not of it."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"deny_file {path}: {error}") from None


def parse(text: str, source: str) -> DenyList:
    """The list that a text says; `source` names it in the faults. Raises `Misconfigured`."""
    members: set[bytes] = set()
    networks: dict[tuple[int, int], set[int]] = {}
    faults: list[str] = []
    lines = text.splitlines()
    if len(lines) > DENY_ENTRIES_MAX:
        raise Misconfigured(f"deny_file {source}: more than {DENY_ENTRIES_MAX} lines")
    for number, line in enumerate(lines, start=1):
        entry = line.partition("#")[0].split()
        try:
            match entry:
                case []:
                    pass
                case ["address", value]:
                    network = ip_network(value)
                    shift = network.max_prefixlen - network.prefixlen
                    prefix = int(network.network_address) >> shift
                    networks.setdefault((network.version, network.prefixlen), set()).add(prefix)
                case ["member", value]:
                    members.add(ids.member_id(value).encode())
                case _:
                    raise ValueError(f"{line.strip()[:80]!r} is neither `address NETWORK` nor `member ID`")
        except ids.IdInvalid as error:
            faults.append(f"line {number}: {error.detail}")
        except ValueError as error:
            faults.append(f"line {number}: {error}")
    if faults:
        more = f"; and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
        raise Misconfigured(f"deny_file {source}: {'; '.join(faults[:_FAULTS_SHOWN])}{more}")
    return DenyList(frozenset(members), {key: frozenset(found) for key, found in networks.items()})


async def watch(path: Path, use: Callable[[DenyList], None], stop: asyncio.Event) -> None:
    """Hand over the list anew whenever its file has changed, until `stop` is set; the last good list stays."""
    seen = _mark(path)
    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), DENY_LOOK_S)
        if (now := _mark(path)) == seen:
            continue
        seen = now
        try:
            found = await asyncio.to_thread(read, path)
        except Misconfigured as error:
            _log.error("deny list not read: the last good one stays", error=error.detail[:500])
            continue
        use(found)
        _log.info("deny list read", members=len(found.members), networks=sum(map(len, found.networks.values())))


def _mark(path: Path) -> tuple[int, ...]:
    """What differs when the file was written anew, also in place."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino
