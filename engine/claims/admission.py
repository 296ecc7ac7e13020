"""What happens before and after the store: which question a ticket asks, and how its answer is told. Pure."""

from collections.abc import Sequence
from typing import ClassVar
from zoneinfo import ZoneInfo

from engine.bounds import QUANTITY_MAX
from engine.claims.keyring import Keyring
from engine.claims.model import Claim, Closed, Decision, NotOpen, Verdict, refusal
from engine.claims.receipt import sign
from engine.claims.ticket import Ticket, TicketInvalid
from engine.claims.wire import FIXED_BYTES, ITEM_AT, WINDOW_BYTES
from engine.drops.model import Drop, Status, from_ms
from engine.errors import FlashclaimError, Invalid
from engine.ids import partition_of
from engine.members.model import Session, check
from engine.members.predicate import NOTHING_KNOWN, Known

_ITEM_BYTE = WINDOW_BYTES + ITEM_AT
_MEMBER_LENGTH_BYTE = WINDOW_BYTES + FIXED_BYTES


class ClaimInvalid(Invalid):
    """The item or the quantity does not fit the drop or the ticket; `field` names which."""

    code: ClassVar[str] = "claim-invalid"


def check_asker(drop: Drop, session: Session, now_ms: int, zone: ZoneInfo, known: Known = NOTHING_KNOWN) -> None:
    """Whether a member may have a ticket, apart from what gates ask; raises `NotOpen`, `Closed`, `NotEligible`.

    `zone` says which day it is, for birthdays; `known` is what the ledger says of the member.
    """
    if drop.status is Status.DRAFT:
        raise NotOpen("not launched yet: come back later", opens_at=drop.spec.opens_at, retry_after_s=60)
    if drop.status is Status.CLOSED or now_ms >= drop.closes_ms:
        raise Closed("closed: this drop takes no more claims")
    if not drop.spec.eligibility.is_empty:
        check(drop.spec.eligibility, session, from_ms(now_ms).astimezone(zone).date(), known)


def item_number(drop: Drop, item: str | None) -> int:
    """The number of an item by its id; 0 for none. Raises `ClaimInvalid` for an item that the drop has not."""
    if item is None:
        return 0
    number = drop.item_index(item)
    if number is None:
        known = ", ".join(known.id for known in drop.spec.items)
        raise ClaimInvalid(f"item: drop {drop.id!r} has no {item[:64]!r}; it has {known}", field="item")
    return number


def checked_quantity(quantity: int | None) -> int:
    """A quantity as the wire takes it, 0 for none; raises `ClaimInvalid` when it is out of bounds."""
    if quantity is None:
        return 0
    if not 1 <= quantity <= QUANTITY_MAX:
        raise ClaimInvalid(f"quantity: {quantity} is not from 1 to {QUANTITY_MAX}", field="quantity")
    return quantity


def wish(drop: Drop, item: str | None, quantity: int | None) -> tuple[int, int]:
    """The item's number and the quantity that are asked for, 0 for none; a play of an instant win is one of the blank,
    and the store says what it got. Raises `ClaimInvalid`."""
    if drop.spec.instant is None:
        return item_number(drop, item), checked_quantity(quantity)
    if item is not None:
        raise ClaimInvalid(f"item: drop {drop.id!r} is an instant win: what a play wins is not chosen", field="item")
    if quantity not in (None, 1):
        raise ClaimInvalid(f"quantity: {quantity} is not 1: one ticket of {drop.id!r} is one play", field="quantity")
    return len(drop.spec.items), 1


def argument(drop: Drop, ticket: Ticket, item: str | None, quantity: int | None) -> bytes:
    """What the claim script is asked: the ticket's own bytes, with item and quantity fixed.

    Raises `TicketInvalid` for a ticket of another drop, `ClaimInvalid` when item or quantity are unknown, missing, or
    other than the ticket says.
    """
    if ticket.drop_id != drop.id:
        raise TicketInvalid(f"this ticket is for drop {ticket.drop_id!r}: take one for {drop.id!r}")
    asked = ticket.argument
    fixed_item = asked[_ITEM_BYTE]
    fixed_quantity = asked[_ITEM_BYTE + 1] << 8 | asked[_ITEM_BYTE + 2]
    if item is None and quantity is None and fixed_item and fixed_quantity:
        return asked
    wanted_item, wanted_quantity = wish(drop, item, quantity)
    if fixed_item and wanted_item not in (0, fixed_item):
        held = drop.spec.items[fixed_item - 1].id
        raise ClaimInvalid(f"item: this ticket is for {held!r}; take another for {item!r}", field="item")
    if fixed_quantity and wanted_quantity not in (0, fixed_quantity):
        raise ClaimInvalid(f"quantity: this ticket is for {fixed_quantity}, not {wanted_quantity}", field="quantity")
    number = fixed_item or wanted_item or (1 if len(drop.spec.items) == 1 else 0)
    if not number:
        known = ", ".join(known.id for known in drop.spec.items)
        raise ClaimInvalid(f"item: say which one: {known}", field="item")
    units = fixed_quantity or wanted_quantity or 1
    return _with(asked, number, units)


def partition(asked: bytes, partitions: int) -> int:
    """Which partition decides a claim script's argument."""
    member_at = _MEMBER_LENGTH_BYTE + 1
    subject_at = member_at + asked[member_at - 1] + 1
    return partition_of(asked[subject_at:] or asked[member_at : subject_at - 1], partitions)


class Answers:
    """The answers of a decided batch, by place; each is worked out when it is asked for.

    `decisions` holds for each argument the serial of a claim that was accepted now, or else the whole decision.
    """

    def __init__(
        self,
        keyring: Keyring,
        drop: Drop,
        in_partition: int,
        arguments: Sequence[bytes],
        decisions: Sequence[int | Decision],
        now_ms: int,
    ) -> None:
        self._keyring = keyring
        self._drop_id = drop.id
        self._items = [item.id for item in drop.spec.items]
        self._partition = in_partition
        self._arguments = arguments
        self._decisions = decisions
        self._now_ms = now_ms

    def __call__(self, place: int) -> Claim | FlashclaimError:
        """The claim with its receipt, or the refusal where the decision is one."""
        asked, decision = self._arguments[place], self._decisions[place]
        if isinstance(decision, int):
            return self._claim(asked, decision, self._now_ms, repeated=False)
        if decision.verdict not in (Verdict.REPEATED, Verdict.ACCEPTED):
            return refusal(decision, self._now_ms)
        # What the play got, or the ticket the first time; this time it may have asked for something else.
        got, is_repeated = _with(asked, decision.item, decision.quantity), decision.verdict is Verdict.REPEATED
        at_ms = decision.at_ms if is_repeated else self._now_ms
        return self._claim(got, decision.serial, at_ms, repeated=is_repeated)

    def _claim(self, asked: bytes, serial: int, at_ms: int, *, repeated: bool) -> Claim:
        drop_id, partition = self._drop_id, self._partition
        item, quantity = asked[_ITEM_BYTE], asked[_ITEM_BYTE + 1] << 8 | asked[_ITEM_BYTE + 2]
        receipt = sign(self._keyring, drop_id, partition, serial, at_ms, asked[WINDOW_BYTES:])
        return Claim(drop_id, partition, serial, self._items[item - 1], quantity, at_ms, receipt, repeated)


def _with(asked: bytes, item: int, quantity: int) -> bytes:
    return asked[:_ITEM_BYTE] + bytes((item, quantity >> 8, quantity & 255)) + asked[_ITEM_BYTE + 3 :]
