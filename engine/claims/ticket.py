"""Seal and open a ticket: signed, short-lived admission for one claim by one member on one drop.

    version (1 byte) | key id (1) | drop: length (1), text | window | request (both in wire.py) | MAC (16)

in URL-safe base64 without padding. The MAC covers all bytes before it. Opening is one MAC in constant time: no
database, no JSON. Whether the ticket has expired is not judged here but by the store's clock, because an expired ticket
may still ask what became of it.
"""

from binascii import Error, a2b_base64, b2a_base64
from hmac import compare_digest

import msgspec

from engine.bounds import TICKET_CHARS_MAX
from engine.claims.keyring import MAC_BYTES, Keyring
from engine.claims.wire import FIXED_BYTES, WINDOW_BYTES, ClaimRequest, pack_request, unpack_request
from engine.errors import Invalid

VERSION = 2
_MEMBER_AT = WINDOW_BYTES + FIXED_BYTES + 1
_PURPOSE = b"flashclaim.tckt"
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE = bytes.maketrans(b"-_+/", b"+/!!")  # the standard alphabet's own signs are not accepted
_URL_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_LAST_CHARACTERS = (_URL_SAFE, b"", _URL_SAFE[::16], _URL_SAFE[::4])  # by the length of the text modulo four
_PADDING = (b"", b"", b"==", b"=")


class TicketInvalid(Invalid):
    """Forged, altered, cut off, or sealed with a key that is no longer kept."""

    code = "ticket-invalid"


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """An opened ticket; `argument` is the window and the request as the claim script takes them."""

    drop_id: str
    argument: bytes

    @property
    def not_before_ms(self) -> int:
        return int.from_bytes(self.argument[:6], "big")

    @property
    def expires_at_ms(self) -> int:
        return int.from_bytes(self.argument[6:WINDOW_BYTES], "big")

    @property
    def member(self) -> bytes:
        """The member's id as it stands in the ticket."""
        return self.argument[_MEMBER_AT : _MEMBER_AT + self.argument[_MEMBER_AT - 1]]

    @property
    def request(self) -> ClaimRequest:
        return unpack_request(self.argument, WINDOW_BYTES)[0]


def seal(keyring: Keyring, drop_id: str, request: ClaimRequest, not_before_ms: int, expires_at_ms: int) -> str:
    """The text of a new ticket. Times are in milliseconds since 1970; the nonce in `request` must be new."""
    drop = drop_id.encode()
    body = b"".join(
        (
            bytes((VERSION, keyring.current, len(drop))),
            drop,
            not_before_ms.to_bytes(6, "big"),
            expires_at_ms.to_bytes(6, "big"),
            pack_request(request),
        )
    )
    return to_text(body + keyring.mac(keyring.current, _PURPOSE, body))


def open_(keyring: Keyring, text: str | bytes) -> Ticket:
    """The ticket that a text stands for; raises `TicketInvalid` for any text that was not sealed with these keys."""
    sealed = from_text(text)
    if sealed is None or len(sealed) <= MAC_BYTES + 3 or sealed[0] != VERSION:
        raise TicketInvalid("this is not a ticket: take a new one from the drop's page")
    body = sealed[:-MAC_BYTES]
    try:
        expected = keyring.mac(sealed[1], _PURPOSE, body)
    except KeyError:
        raise TicketInvalid("this ticket was sealed with a key that is no longer in use: take a new one") from None
    if not compare_digest(sealed[-MAC_BYTES:], expected):
        raise TicketInvalid("this ticket was altered or forged: take a new one from the drop's page")
    window_at = 3 + body[2]
    return Ticket(body[3:window_at].decode(), body[window_at:])


def to_text(data: bytes) -> str:
    """URL-safe base64 without padding (RFC 4648, section 5)."""
    return b2a_base64(data, newline=False).translate(_TO_URL_SAFE).rstrip(b"=").decode()


def from_text(text: str | bytes) -> bytes | None:
    """The bytes of URL-safe base64 without padding; None for any other text, so that each ticket has one spelling."""
    raw = text.encode() if isinstance(text, str) else text
    rest = len(raw) & 3
    # The last character of a text that is not a multiple of four long has bits to spare: they must be zero.
    if len(raw) > TICKET_CHARS_MAX or raw[-1:] not in _LAST_CHARACTERS[rest]:
        return None
    try:
        return a2b_base64(raw.translate(_FROM_URL_SAFE) + _PADDING[rest], strict_mode=True)
    except Error:
        return None
