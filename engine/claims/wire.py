"""The bytes of a claim request, written once: tickets carry them, `lua/claim.lua` reads them, the outbox keeps them.

    window:  not before, ms (6 bytes) | expiry, ms (6)
    request: nonce (8) | item (1) | quantity (2) | town (1) | slogan (1)
             | member: length (1), text | subject: length (1), text

Numbers are big-endian. Item 0 and quantity 0 mean "not fixed by the ticket"; a subject of length 0 is the member.
Town and slogan are what the drop's gates found out, 0 where it counts by neither.
A ticket's window and request, cut out as they stand, are the argument of the script: nothing is packed again.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

NONCE_BYTES = 8
WINDOW_BYTES = 12
ITEM_AT = NONCE_BYTES
FIXED_BYTES = NONCE_BYTES + 5
PRIZE_BYTES = 7
ENTRY_BYTES = 24  # a claim as the store keeps it, see StoredClaim
_STORED = struct.Struct(">8sIBHBHIBB")  # the time in two parts


class ClaimRequest(NamedTuple):
    """Who asks for what; also an accepted claim as the outbox tells it."""

    nonce: bytes
    item: int
    quantity: int
    member: str
    subject: str
    town: int = 0
    slogan: int = 0


class StoredClaim(NamedTuple):
    """A claim in the store: 24 bytes in the value of its subject."""

    nonce: bytes
    serial: int
    item: int
    quantity: int
    released: bool
    at_ms: int
    town: int = 0
    slogan: int = 0


class Prize(NamedTuple):
    """A prize of an instant drop, and from when on a play can get it; seven bytes in the store."""

    at_ms: int
    item: int


def pack_request(request: ClaimRequest) -> bytes:
    member = request.member.encode()
    subject = b"" if request.subject == request.member else request.subject.encode()
    return b"".join(
        (
            request.nonce,
            bytes((request.item,)),
            request.quantity.to_bytes(2, "big"),
            bytes((request.town, request.slogan, len(member))),
            member,
            bytes((len(subject),)),
            subject,
        )
    )


def unpack_request(data: bytes, at: int = 0) -> tuple[ClaimRequest, int]:
    """The request that starts at a byte, and the byte after it; raises `ValueError` when bytes are missing."""
    member_at = at + FIXED_BYTES + 1
    if member_at > len(data):
        raise ValueError(f"a request is cut off at byte {len(data)}")
    subject_at = member_at + data[member_at - 1] + 1
    if subject_at > len(data):
        raise ValueError(f"a request is cut off at byte {len(data)}")
    end = subject_at + data[subject_at - 1]
    if end > len(data):
        raise ValueError(f"a request is cut off at byte {len(data)}")
    member = data[member_at : subject_at - 1].decode()
    nonce = data[at : at + NONCE_BYTES]
    quantity = int.from_bytes(data[at + ITEM_AT + 1 : at + ITEM_AT + 3], "big")
    subject = data[subject_at:end].decode() or member
    town, slogan = data[member_at - 3], data[member_at - 2]
    return ClaimRequest(nonce, data[at + ITEM_AT], quantity, member, subject, town, slogan), end


def unpack_stored(value: bytes) -> list[StoredClaim]:
    """A subject's claims as the store keeps them; raises `ValueError` when the value has a broken length."""
    if len(value) % ENTRY_BYTES:
        raise ValueError(f"{len(value)} bytes are not a number of {ENTRY_BYTES}-byte claims")
    return [
        StoredClaim(nonce, serial, item, quantity, released == 1, high << 32 | low, town, slogan)
        for nonce, serial, item, quantity, released, high, low, town, slogan in _STORED.iter_unpack(value)
    ]


def pack_stored(claim: StoredClaim) -> bytes:
    """A claim as the store keeps it, the reverse of `unpack_stored`."""
    nonce, serial, item, quantity, released, at_ms, town, slogan = claim
    return _STORED.pack(nonce, serial, item, quantity, released, at_ms >> 32, at_ms & 0xFFFFFFFF, town, slogan)


def pack_prizes(prizes: Iterable[Prize]) -> bytes:
    """An instant drop's sequence as the store keeps it."""
    return b"".join(at_ms.to_bytes(6, "big") + bytes((item,)) for at_ms, item in prizes)


def unpack_prizes(packed: bytes) -> tuple[Prize, ...]:
    """The reverse of `pack_prizes`."""
    return tuple(
        Prize(int.from_bytes(packed[at : at + 6], "big"), packed[at + 6]) for at in range(0, len(packed), PRIZE_BYTES)
    )


def unpack_tallies(hashes: Iterable[Mapping[bytes, bytes]]) -> Counter[tuple[int, int]]:
    """The units by town and slogan that the tallies of some partitions say together."""
    found: Counter[tuple[int, int]] = Counter()
    for fields in hashes:
        for name, units in fields.items():
            town, slogan = map(int, name.split(b":"))
            found[town, slogan] += int(units)
    return found
