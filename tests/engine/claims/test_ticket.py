"""The promise: only what was sealed with our keys opens; everything comes out as it went in; keys rotate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bounds import QUANTITY_MAX, TICKET_CHARS_MAX
from engine.claims import receipt, ticket
from engine.claims.keyring import Keyring
from engine.claims.wire import ClaimRequest, pack_request, unpack_request
from engine.errors import Misconfigured
from engine.ids import ClaimId, DropId

KEYS = Keyring(1, {1: b"k" * 32})
names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}", fullmatch=True)
members = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}", fullmatch=True)
times = st.integers(0, 2**48 - 1)
requests = st.builds(
    ClaimRequest,
    nonce=st.binary(min_size=8, max_size=8),
    item=st.integers(0, 64),
    quantity=st.integers(0, QUANTITY_MAX),
    member=members,
    subject=members,
    town=st.integers(0, 255),
    slogan=st.integers(0, 255),
)


@given(names, requests, times, times)
def test_a_ticket_opens_to_what_was_sealed(drop: str, request: ClaimRequest, opens: int, expires: int) -> None:
    text = ticket.seal(KEYS, drop, request, opens, expires)
    assert len(text) <= TICKET_CHARS_MAX
    opened = ticket.open_(KEYS, text)
    assert (opened.drop_id, opened.request) == (drop, request)
    assert (opened.not_before_ms, opened.expires_at_ms) == (opens, expires)


@given(names, requests, times, st.integers(0, 1023), st.integers(1, 2**32 - 1))
def test_a_receipt_verifies_to_what_was_signed(
    drop: str, request: ClaimRequest, at_ms: int, partition: int, serial: int
) -> None:
    claim_id = ClaimId(DropId(drop), partition, serial)
    text = receipt.sign(KEYS, *claim_id, at_ms, pack_request(request))
    assert receipt.verify(KEYS, text) == (claim_id, at_ms, request)


@given(st.one_of(st.text(), st.binary().map(ticket.to_text)))
def test_no_other_text_opens(text: str) -> None:
    with pytest.raises(ticket.TicketInvalid):
        ticket.open_(KEYS, text)
    with pytest.raises(receipt.ReceiptInvalid):
        receipt.verify(KEYS, text)


@given(requests, st.data())
def test_a_ticket_with_any_bit_changed_does_not_open(request: ClaimRequest, data: st.DataObject) -> None:
    sealed = ticket.from_text(ticket.seal(KEYS, "drop", request, 1, 2))
    assert sealed is not None
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    changed = bytearray(sealed)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ticket.TicketInvalid):
        ticket.open_(KEYS, ticket.to_text(bytes(changed)))


@given(requests)
def test_a_ticket_is_no_receipt_and_a_receipt_no_ticket(request: ClaimRequest) -> None:
    with pytest.raises(receipt.ReceiptInvalid):
        receipt.verify(KEYS, ticket.seal(KEYS, "drop", request, 1, 2))
    claim_id = ClaimId(DropId("drop"), 0, 1)
    with pytest.raises(ticket.TicketInvalid):
        ticket.open_(KEYS, receipt.sign(KEYS, *claim_id, 1, pack_request(request)))


def test_an_old_key_opens_as_long_as_it_is_kept() -> None:
    request = ClaimRequest(b"n" * 8, 1, 1, "m-1", "m-1")
    text = ticket.seal(KEYS, "drop", request, 1, 2)
    rotated = Keyring(2, {1: b"k" * 32, 2: b"n" * 32})
    assert ticket.open_(rotated, text).request == request
    newer = ticket.seal(rotated, "drop", request, 1, 2)
    for ring, sealed in ((KEYS, newer), (Keyring(2, {2: b"n" * 32}), text)):
        with pytest.raises(ticket.TicketInvalid):
            ticket.open_(ring, sealed)


@pytest.mark.parametrize(
    ("current", "keys"),
    [(1, {}), (2, {1: b"k" * 32}), (1, {1: b"short"}), (1, {1: b"k" * 65}), (256, {256: b"k" * 32})],
)
def test_a_keyring_that_cannot_work_is_refused(current: int, keys: dict[int, bytes]) -> None:
    with pytest.raises(Misconfigured):
        Keyring(current, keys)


@given(requests, st.data())
def test_a_request_that_is_cut_off_is_an_error(request: ClaimRequest, data: st.DataObject) -> None:
    packed = pack_request(request)
    with pytest.raises(ValueError, match="cut off"):
        unpack_request(packed[: data.draw(st.integers(0, len(packed) - 1))])
