"""The claim request and its answer as plain functions: whatever serves the claim path, it calls these."""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeVar

import msgspec

from engine.bounds import CLAIM_BODY_BYTES_MAX
from engine.claims.model import Claim
from engine.claims.service import Claims
from engine.claims.ticket import Ticket, TicketInvalid
from engine.drops.model import Drop, from_ms
from engine.errors import Invalid
from engine.gates.model import Given, Passed
from engine.members.model import Session
from engine.members.predicate import NOTHING_KNOWN, Known
from engine.rates.control import RushControl

_SCHEME = b"ticket "
_W = TypeVar("_W", bound=msgspec.Struct)


class BodyInvalid(Invalid):
    """The body is not what the route takes; `field` names what."""


class TooLarge(Invalid):
    code = "too-large"


class MediaType(Invalid):
    code = "media-type"


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a claim's body may say; nothing is needed when the ticket fixes both."""

    item: str | None = None
    quantity: int | None = None


class TicketWish(Given, frozen=True, forbid_unknown_fields=True):
    """What a ticket request's body may say: a wish, and what the drop's gates ask for."""

    item: str | None = None
    quantity: int | None = None


class Told(msgspec.Struct, frozen=True, gc=False):
    """An answer, before it is written in anybody's way; `headers` holds those that only this answer has."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] | None = None


_decoder = msgspec.json.Decoder(Wish)
_ticket_decoder = msgspec.json.Decoder(TicketWish)
_NO_WISH, _NO_TICKET_WISH = Wish(), TicketWish()


def admitted(
    claims: Claims, control: RushControl, address: Callable[[], str], given: Mapping[bytes, bytes], body: bytes
) -> tuple[Ticket, Wish]:
    """The ticket and the wish of a claim that may go on; `given` holds its headers, `address` tells whence it comes.

    Raises `Denied`, `SlowDown`, `ClientKeyInvalid`, and what `ticket_of` and `wish_of` raise.
    """
    if control.is_watching:
        control.check_arrival(address(), given.get(b"x-client-key"))
    try:
        ticket = claims.open_ticket(ticket_of(given.get(b"authorization")))
    except TicketInvalid:
        control.count_invalid_ticket(address())
        raise
    wish = wish_of(body, given.get(b"content-type"))
    control.check_member(ticket.member)
    return ticket, wish


def ticketed(
    claims: Claims,
    given: Mapping[bytes, bytes],
    body: bytes,
    session: Session,
    drop: Drop,
    known: Known = NOTHING_KNOWN,
) -> Told:
    """The answer to a ticket request that may go on, with arguments as for `admitted`; raises what its parts do.

    `known` is what the ledger says of the member, for a drop that asks for it; the gate leaves such a drop to the app.
    """
    wish = _decoded(_ticket_decoder, body, given.get(b"content-type")) if body else _NO_TICKET_WISH
    issued = claims.issue_ticket(session, drop, wish.item, wish.quantity, wish, known)
    told = (
        f'{{"ticket":"{issued.ticket}","not_before":"{instant(issued.not_before_ms)}"'
        f',"expires_at":"{instant(issued.expires_at_ms)}"{_established(claims, drop, issued.passed)}}}'
    )
    return Told(200, told.encode())


def _established(claims: Claims, drop: Drop, passed: Passed) -> str:
    """What a ticket's gates have established, as more members of its answer."""
    told = ""
    if passed.town and (town := claims.gates.places.towns.numbered(passed.town)) is not None:
        told += f',"town":{json.dumps(town.zh, ensure_ascii=False)}'
    if passed.slogan and (slogan := drop.spec.gates.slogan) is not None:
        told += f',"slogan":"{slogan.choices[passed.slogan - 1].id}"'
    return told


def ticket_of(authorization: bytes | None) -> bytes:
    """The ticket of an `Authorization: Ticket …` header; raises `TicketInvalid`."""
    if authorization is None or authorization[:7].lower() != _SCHEME:
        raise TicketInvalid("send the ticket in the header `Authorization: Ticket <ticket>`")
    return authorization[7:].strip()


def wish_of(body: bytes, content_type: bytes | None) -> Wish:
    """What the body wishes; an empty body wishes nothing. Raises `BodyInvalid`, `MediaType`, `TooLarge`."""
    return _decoded(_decoder, body, content_type) if body else _NO_WISH


def _decoded(decoder: msgspec.json.Decoder[_W], body: bytes, content_type: bytes | None) -> _W:
    if len(body) > CLAIM_BODY_BYTES_MAX:
        raise TooLarge(f"the body has more than {CLAIM_BODY_BYTES_MAX} bytes")
    if content_type is not None and content_type.partition(b";")[0].strip().lower() != b"application/json":
        raise MediaType(f"send the body as application/json, not {content_type[:60].decode('latin-1')}")
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail = str(error)
        field = detail.rpartition("`$.")[2].rstrip("`") if "`$." in detail else None
        raise BodyInvalid(
            f'body: {detail}; expected {{"item": "…", "quantity": 1}}', **({"field": field} if field else {})
        ) from None


def rendered(claim: Claim) -> Told:
    """The answer that tells a claim: 201 the first time, 200 when it is told again."""
    drop_id, serial = claim.drop_id, claim.serial
    # A template, for speed: no text in it holds a sign that JSON escapes.
    body = (
        f'{{"claim_id":"{drop_id}.{claim.partition}.{serial}","drop_id":"{drop_id}","item":"{claim.item}"'
        f',"quantity":{claim.quantity},"serial":{serial},"claimed_at":"{instant(claim.at_ms)}"'
        f',"receipt":"{claim.receipt}"}}'
    )
    return Told(200 if claim.repeated else 201, body.encode())


@lru_cache(maxsize=1_024)
def instant(instant_ms: int) -> str:
    """A time of the store as RFC 3339; a whole batch has the same."""
    return from_ms(instant_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    receipt: str


def receipt_of(body: bytes, content_type: bytes | None) -> str:
    """The receipt in `{"receipt": "…"}`; raises as `wish_of` does."""
    if len(body) > CLAIM_BODY_BYTES_MAX:
        raise TooLarge(f"the body has more than {CLAIM_BODY_BYTES_MAX} bytes")
    if content_type is None or content_type.partition(b";")[0].strip().lower() != b"application/json":
        raise MediaType("send the body as application/json")
    try:
        return msgspec.json.decode(body, type=_Receipt).receipt
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BodyInvalid(f'body: {error}; expected {{"receipt": "…"}}', field="receipt") from None
