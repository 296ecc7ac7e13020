"""Whether store and ledger say the same of a drop in one partition, and what may be done where they do not: pure.

issued    units in members' hands
held      units of waves that are still to come
returned  units that were given back and that nobody has taken again
free      released units that nobody ever took
issued + held + returned + free = total, in the store and in the ledger, at all times
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from engine.claims.history import RecordedClaim
from engine.claims.wire import StoredClaim
from engine.drops.model import to_ms


class Remedy(StrEnum):
    """What is done about a difference."""

    REAPPLY = "reapply"  # the store missed an act that the ledger has
    RECOUNT = "recount"  # a counter of the store is not what its claims, and the ledger's, sum to
    PUT_BACK = "put-back"  # the ledger has a claim that the store has forgotten
    PAUSE = "pause"  # nothing that is certainly right: the drop is paused, and people are told


class Finding(NamedTuple):
    remedy: Remedy
    detail: str


@dataclass(frozen=True, slots=True)
class Books:
    """What the store says at one moment `at_ms` of its clock; `waves` are (at ms, item, quantity)."""

    at_ms: int
    revision: int
    serial: int
    taken: Mapping[int, int]
    waves: Sequence[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Record:
    """What the ledger says of claims up to the books' serial and moment, once it has all of them.

    `claims` is how many there are, `skipped` how many serials a rebuild left out; `claimed` and `returned` are units.
    `returned_later` are units of releases that are dated later than the books: they came later, or the store's clock
    was set back since.
    """

    revision: int
    claims: int
    skipped: int
    claimed: Mapping[int, int]
    returned: Mapping[int, int]
    returned_later: Mapping[int, int] = field(default_factory=dict)

    def issued(self, item: int) -> int:
        """Units in members' hands, as of all that is recorded."""
        return self.claimed.get(item, 0) - self.returned.get(item, 0) - self.returned_later.get(item, 0)


class Units(NamedTuple):
    """Where the units of an item are; they sum to its stock."""

    issued: int
    held: int
    returned: int
    free: int


def units(books: Books, record: Record) -> dict[int, Units]:
    """Where each item's units are."""
    found = {}
    for item, issued in books.taken.items():
        held = sum(quantity for at, of, quantity in books.waves if of == item and at > books.at_ms)
        left = sum(quantity for at, of, quantity in books.waves if of == item and at <= books.at_ms) - issued
        returned = max(0, min(left, record.returned.get(item, 0)))
        found[item] = Units(issued, held, returned, left - returned)
    return found


def compare(books: Books, record: Record) -> list[Finding]:
    """Every difference, with what is to be done about it."""
    found = []
    if books.revision < record.revision:
        found.append(
            Finding(Remedy.REAPPLY, f"the store is at revision {books.revision}, the ledger at {record.revision}")
        )
    if record.claims != books.serial - record.skipped:
        found.append(
            Finding(
                Remedy.PAUSE,
                f"the store gave {books.serial - record.skipped} serials up to {books.serial},"
                f" the ledger has {record.claims} claims",
            )
        )
    else:
        for item, taken in books.taken.items():
            issued = record.issued(item)
            if taken not in (issued, issued + record.returned_later.get(item, 0)):
                found.append(
                    Finding(Remedy.RECOUNT, f"item {item}: the store counts {taken} taken, the ledger {issued}")
                )
    for item, where in units(books, record).items():
        if where.free < 0:
            found.append(Finding(Remedy.PAUSE, f"item {item} is oversold by {-where.free} units"))
    return found


def compare_claims(
    rows: Sequence[RecordedClaim], held: Mapping[str, Sequence[StoredClaim]]
) -> list[tuple[RecordedClaim, Finding]]:
    """Each recorded claim that the store has forgotten, or has otherwise.

    The rows were read before the store: what is given back in the ledger must be so in the store, not the other way.
    """
    found = []
    for row in rows:
        stored = next((claim for claim in held.get(row.subject, ()) if claim.serial == row.claim_id.serial), None)
        if stored is None:
            found.append((row, Finding(Remedy.PUT_BACK, f"{row.claim_id}: the store has forgotten it")))
            continue
        theirs = (stored.nonce, stored.item, stored.quantity, stored.at_ms, stored.town, stored.slogan)
        is_other = theirs != (row.nonce, row.item, row.quantity, to_ms(row.claimed_at), row.town, row.slogan)
        if is_other or (row.released_at is not None and not stored.released):
            found.append((row, Finding(Remedy.PAUSE, f"{row.claim_id}: store and ledger have it otherwise")))
    return found
