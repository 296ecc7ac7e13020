"""The claims of an outbox entry as rows of PostgreSQL's binary COPY, straight from the bytes that the script wrote.

Source: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format". Through Python values and the driver's
encoders a row costs five times as much.
"""

import struct
from itertools import count

from engine.bounds import MEMBER_ID_BYTES_MAX, QUANTITY_MAX, SERIAL_MAX
from engine.claims.outbox import ClaimsEntry, EntryUnreadable
from engine.claims.wire import FIXED_BYTES, ITEM_AT, NONCE_BYTES

COLUMNS = [
    "drop_id", "partition", "serial", "item", "quantity", "member_id", "subject", "nonce", "epoch", "claimed_at",
    "town", "slogan",
]  # fmt: skip
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_EPOCH_MS = 946_684_800_000  # PostgreSQL counts from 2000-01-01
_LENGTHS = [struct.pack(">i", size) for size in range(256)]  # a field is its length, then its bytes

_AT_MS_END = 253_402_300_800_000  # the year 10,000
_QUANTITY_BYTE_MAX = QUANTITY_MAX >> 8  # the higher byte; the ledger keeps two bytes with a sign

assert len(_LENGTHS) > MEMBER_ID_BYTES_MAX


def rows(partition: int, entry: ClaimsEntry) -> bytes:
    """The rows of all claims of an entry, in the order of COLUMNS.

    Raises `EntryUnreadable` when bytes are missing, or say what no script writes.
    """
    numbers = entry.first_serial, entry.epoch, entry.at_ms
    if not (numbers[0] >= 1 and 0 < numbers[1] < 2**31 and 0 < numbers[2] < _AT_MS_END):
        raise EntryUnreadable(f"serial, epoch or time is out of bounds: {numbers}")
    drop_id, packed = entry.drop_id.encode(), entry.packed
    before = struct.pack(">hi", len(COLUMNS), len(drop_id)) + drop_id + struct.pack(">ihi", 2, partition, 4)
    # An item, a town and a slogan are one byte on the wire and two in the ledger.
    to_byte, to_quantity, to_nonce = _LENGTHS[2] + b"\0", _LENGTHS[2], _LENGTHS[NONCE_BYTES]
    to_town = struct.pack(">iiiq", 4, entry.epoch, 8, (entry.at_ms - _EPOCH_MS) * 1000) + to_byte
    found: list[bytes] = []
    at, size = 0, len(packed)
    for serial in count(entry.first_serial):
        if at == size:
            break
        member_at = at + FIXED_BYTES + 1
        subject_at = member_at + (packed[member_at - 1] if member_at <= size else 0) + 1
        end = subject_at + (packed[subject_at - 1] if subject_at <= size else 0)
        if member_at > size or subject_at > size or end > size:
            raise EntryUnreadable(f"a claim is cut off at byte {size}")
        if packed[at + ITEM_AT + 1] > _QUANTITY_BYTE_MAX:
            raise EntryUnreadable(f"a claim has {packed[at + ITEM_AT + 1] << 8} units or more")
        member = _LENGTHS[subject_at - 1 - member_at] + packed[member_at : subject_at - 1]
        subject = _LENGTHS[end - subject_at] + packed[subject_at:end] if end > subject_at else member
        item_at = at + ITEM_AT
        found += (
            before, serial.to_bytes(4, "big"), to_byte, packed[item_at : item_at + 1],
            to_quantity, packed[item_at + 1 : item_at + 3], member, subject, to_nonce, packed[at:item_at],
            to_town, packed[item_at + 3 : item_at + 4], to_byte, packed[item_at + 4 : item_at + 5],
        )  # fmt: skip
        at = end
    if serial - 1 > SERIAL_MAX:
        raise EntryUnreadable(f"serial {serial - 1} is out of bounds")
    return b"".join(found)
