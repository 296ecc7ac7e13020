"""The bytes of a claim request, written once: tickets carry them, `lua/claim.lua` reads them, the outbox keeps them.

    window:  not before, ms (6 bytes) | expiry, ms (6)
    request: nonce (8) | item (1) | quantity (2) | member: length (1), text | subject: length (1), text

Numbers are big-endian. Item 0 and quantity 0 mean "not fixed by the ticket"; a subject of length 0 is the member.
A ticket's window and request, cut out as they stand, are the argument of the script: nothing is packed again.
"""

from typing import NamedTuple

NONCE_BYTES = 8
WINDOW_BYTES = 12
ITEM_AT = NONCE_BYTES
FIXED_BYTES = NONCE_BYTES + 3
ENTRY_BYTES = 22  # a claim as the store keeps it, see StoredClaim


class ClaimRequest(NamedTuple):
    """Who asks for what; also an accepted claim as the outbox tells it."""

    nonce: bytes
    item: int
    quantity: int
    member: str
    subject: str


class StoredClaim(NamedTuple):
    """A claim in the store: 22 bytes in the value of its subject."""

    nonce: bytes
    serial: int
    item: int
    quantity: int
    released: bool
    at_ms: int


def pack_request(request: ClaimRequest) -> bytes:
    member = request.member.encode()
    subject = b"" if request.subject == request.member else request.subject.encode()
    return b"".join(
        (
            request.nonce,
            bytes((request.item,)),
            request.quantity.to_bytes(2, "big"),
            bytes((len(member),)),
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
    request = ClaimRequest(nonce, data[at + ITEM_AT], quantity, member, data[subject_at:end].decode() or member)
    return request, end


def unpack_stored(value: bytes) -> list[StoredClaim]:
    """A subject's claims as the store keeps them; raises `ValueError` when the value has a broken length."""
    if len(value) % ENTRY_BYTES:
        raise ValueError(f"{len(value)} bytes are not a number of {ENTRY_BYTES}-byte claims")
    return [_stored(value[at : at + ENTRY_BYTES]) for at in range(0, len(value), ENTRY_BYTES)]


def pack_stored(claim: StoredClaim) -> bytes:
    """A claim as the store keeps it, the reverse of `unpack_stored`."""
    return b"".join(
        (
            claim.nonce,
            claim.serial.to_bytes(4, "big"),
            bytes((claim.item,)),
            claim.quantity.to_bytes(2, "big"),
            bytes((claim.released,)),
            claim.at_ms.to_bytes(6, "big"),
        )
    )


def _stored(entry: bytes) -> StoredClaim:
    return StoredClaim(
        nonce=entry[:8],
        serial=int.from_bytes(entry[8:12], "big"),
        item=entry[12],
        quantity=int.from_bytes(entry[13:15], "big"),
        released=entry[15] == 1,
        at_ms=int.from_bytes(entry[16:22], "big"),
    )
