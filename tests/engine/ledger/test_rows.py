"""The promise: the bytes that the script wrote become the same rows as by way of Python values."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bounds import MEMBER_ID_BYTES_MAX, QUANTITY_MAX
from engine.claims.outbox import ClaimsEntry, EntryUnreadable
from engine.claims.wire import ClaimRequest, pack_request
from engine.ledger.rows import COLUMNS, rows

names = st.text("abcXYZ0189._:@-", min_size=1, max_size=MEMBER_ID_BYTES_MAX)


@st.composite
def requests(draw: st.DrawFn) -> ClaimRequest:
    member = draw(names)
    return ClaimRequest(
        nonce=draw(st.binary(min_size=8, max_size=8)),
        item=draw(st.integers(1, 64)),
        quantity=draw(st.integers(1, QUANTITY_MAX)),
        member=member,
        subject=draw(st.one_of(st.just(member), names)),
        town=draw(st.integers(0, 255)),
        slogan=draw(st.integers(0, 255)),
    )


def read_rows(data: bytes) -> list[list[bytes]]:
    """The fields of each row, by PostgreSQL's description of the format."""
    found, at = [], 0
    while at < len(data):
        (columns,) = struct.unpack_from(">h", data, at)
        at += 2
        row = []
        for _ in range(columns):
            (size,) = struct.unpack_from(">i", data, at)
            row.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        found.append(row)
    return found


@given(st.lists(requests(), max_size=8), st.integers(1, 2**31 - 9), st.integers(0, 1_023))
def test_every_field_of_every_claim_is_there(batch: list[ClaimRequest], first: int, partition: int) -> None:
    entry = ClaimsEntry("trial", 3, 1_750_000_000_123, first, b"".join(map(pack_request, batch)))
    found = read_rows(rows(partition, entry))
    assert [len(row) for row in found] == [len(COLUMNS)] * len(batch)
    for number, (row, request) in enumerate(zip(found, batch, strict=True)):
        drop_id, in_partition, serial, item, quantity, member, subject, nonce, epoch, at, town, slogan = row
        assert (drop_id, member, subject, nonce) == (
            b"trial", request.member.encode(), request.subject.encode(), request.nonce,
        )  # fmt: skip
        assert struct.unpack(">h", in_partition) == (partition,)
        assert struct.unpack(">i", serial) == (first + number,)
        assert struct.unpack(">h", item) == (request.item,)
        assert struct.unpack(">h", quantity) == (request.quantity,)
        assert struct.unpack(">i", epoch) == (3,)
        assert struct.unpack(">hh", town + slogan) == (request.town, request.slogan)
        assert struct.unpack(">q", at) == ((1_750_000_000_123 - 946_684_800_000) * 1_000,)


@given(requests(), st.data())
def test_an_entry_that_is_cut_off_is_unreadable(request: ClaimRequest, data: st.DataObject) -> None:
    packed = pack_request(request)
    entry = ClaimsEntry("trial", 1, 1, 1, packed + packed[: data.draw(st.integers(1, len(packed) - 1))])
    with pytest.raises(EntryUnreadable):
        rows(0, entry)
    with pytest.raises(EntryUnreadable):
        entry.claims()
