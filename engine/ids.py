"""Typed identifiers and their text forms.

A claim's id is drop, partition and serial, joined by dots: `lychee-2025.0.17`. Nothing is looked up to read it.
"""

import re
from binascii import crc_hqx
from typing import NamedTuple, NewType

from engine.bounds import DROP_ID_CHARS_MAX, MEMBER_ID_BYTES_MAX, PARTITIONS_MAX, SERIAL_MAX
from engine.errors import Invalid

DropId = NewType("DropId", str)
ItemId = NewType("ItemId", str)
MemberId = NewType("MemberId", str)
Subject = NewType("Subject", str)

_NAME = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{DROP_ID_CHARS_MAX - 1}}}", re.ASCII)
_MEMBER = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._:@-]{{0,{MEMBER_ID_BYTES_MAX - 1}}}", re.ASCII)

_ERASED = "~"


class IdInvalid(Invalid):
    """A name that cannot be an identifier; the sentence says which characters can."""

    code = "id-invalid"


def name(text: str, field: str) -> str:
    """Check the text of a drop's, an item's or an organisation's id, and return it."""
    if not _NAME.fullmatch(text):
        raise IdInvalid(
            f"{field}: {text[:80]!r} is not an id: use a to z, 0 to 9 and -, at most {DROP_ID_CHARS_MAX} characters",
            field=field,
        )
    return text


def member_id(text: str) -> MemberId:
    """Check the text of a member's id or of a subject, and return it."""
    if not _MEMBER.fullmatch(text):
        raise IdInvalid(
            f"{text[:80]!r} is not a member id: use letters, digits and . _ : @ -,"
            f" at most {MEMBER_ID_BYTES_MAX} characters",
            field="member_id",
        )
    return MemberId(text)


def is_name(text: str) -> bool:
    """Whether a text can be a drop's, an item's or an organisation's id."""
    return _NAME.fullmatch(text) is not None


def pseudonym(chance: bytes) -> str:
    """What stands in the place of a member, and of a subject, that was erased; no id of anybody's begins as it does."""
    return f"{_ERASED}{chance.hex()}"


def is_pseudonym(text: str) -> bool:
    """Whether a member or a subject was erased."""
    return text.startswith(_ERASED)


class ClaimId(NamedTuple):
    """Which claim: the drop, the partition that decided it, and its serial number there."""

    drop_id: DropId
    partition: int
    serial: int

    def __str__(self) -> str:
        return f"{self.drop_id}.{self.partition}.{self.serial}"

    @classmethod
    def parse(cls, text: str) -> "ClaimId":
        """Read the text form; raises `IdInvalid` for anything else."""
        drop, _, rest = text.partition(".")
        partition, _, serial = rest.partition(".")
        digits = (partition + serial).isascii() and partition.isdigit() and serial.isdigit() and len(rest) < 20
        if not _NAME.fullmatch(drop) or not digits:
            raise IdInvalid(f"{text[:80]!r} is not a claim id: expected DROP.PARTITION.SERIAL", field="claim_id")
        claim = cls(DropId(drop), int(partition), int(serial))
        if str(claim) != text or claim.partition >= PARTITIONS_MAX or claim.serial > SERIAL_MAX:
            raise IdInvalid(f"{text[:80]!r} is not a claim id: expected DROP.PARTITION.SERIAL", field="claim_id")
        return claim


def partition_of(subject: bytes, partitions: int) -> int:
    """The partition that decides for a subject: CRC-16 of the subject, modulo the number of partitions.

    Fixed when the system is set up: changing `partitions` would move people away from their limits.
    CRC-16/XMODEM as Redis Cluster uses for its slots: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
    """
    assert 1 <= partitions <= PARTITIONS_MAX
    return crc_hqx(subject, 0) % partitions
