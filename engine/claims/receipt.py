"""Sign and verify a receipt: the proof of a claim that the member keeps.

    version (1 byte) | key id (1) | drop: length (1), text | partition (2) | serial (4) | time, ms (6)
    | request (wire.py) | MAC (16)

in URL-safe base64. It holds all that is needed to write the claim down again if every store were lost.
"""

from functools import lru_cache
from hmac import compare_digest
from typing import NamedTuple

from engine.claims.keyring import MAC_BYTES, Keyring
from engine.claims.ticket import from_text, to_text
from engine.claims.wire import ClaimRequest, unpack_request
from engine.errors import Invalid
from engine.ids import ClaimId, DropId

VERSION = 2
_PURPOSE = b"flashclaim.rcpt"


class ReceiptInvalid(Invalid):
    """Forged, altered, cut off, or signed with a key that is not kept here."""

    code = "receipt-invalid"


class ReceiptBody(NamedTuple):
    """What a receipt says; `item` is the item's number in the drop, from 1."""

    claim_id: ClaimId
    at_ms: int
    request: ClaimRequest


def sign(keyring: Keyring, drop_id: str, partition: int, serial: int, at_ms: int, request: bytes) -> str:
    """The receipt of a claim; `request` is its packed form (wire.py) with item and quantity as they were given."""
    body = _head(keyring.current, drop_id, partition) + (serial << 48 | at_ms).to_bytes(10, "big") + request
    return to_text(body + keyring.mac(keyring.current, _PURPOSE, body))


@lru_cache(maxsize=1_024)
def _head(key_id: int, drop_id: str, partition: int) -> bytes:
    drop = drop_id.encode()
    return bytes((VERSION, key_id, len(drop))) + drop + partition.to_bytes(2, "big")


def verify(keyring: Keyring, text: str) -> ReceiptBody:
    """What a receipt proves; raises `ReceiptInvalid` for any text that was not signed with these keys."""
    signed = from_text(text)
    if signed is None or len(signed) <= MAC_BYTES + 3 or signed[0] != VERSION:
        raise ReceiptInvalid("this is not a receipt")
    body, mac = signed[:-MAC_BYTES], signed[-MAC_BYTES:]
    try:
        expected = keyring.mac(signed[1], _PURPOSE, body)
    except KeyError:
        raise ReceiptInvalid(f"this receipt names key {signed[1]}, which is not kept here") from None
    if not compare_digest(mac, expected):
        raise ReceiptInvalid("this receipt was altered or forged")
    at = 3 + body[2]
    claim_id = ClaimId(
        DropId(body[3:at].decode()),
        int.from_bytes(body[at : at + 2], "big"),
        int.from_bytes(body[at + 2 : at + 6], "big"),
    )
    return ReceiptBody(claim_id, int.from_bytes(body[at + 6 : at + 12], "big"), unpack_request(body, at + 12)[0])
