"""Whether store and ledger say the same of a drop in one partition, and what may be done where they do not: pure.

issued    units in members' hands
held      units of waves that are still to come
returned  units that were given back and that nobody has taken again
free      released units that nobody ever took
issued + held + returned + free = total, in the store and in the ledger, at all times
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import reduce
from typing import NamedTuple

from engine.claims.history import Group, RecordedClaim
from engine.claims.wire import StoredClaim
from engine.drops.model import to_ms


class Remedy(StrEnum):
    """What is done about a difference."""

    REAPPLY = "reapply"  # the store missed an act that the ledger has
    RECOUNT = "recount"  # a counter of the store is not what its claims, and the ledger's, sum to
    RECOUNT_TALLIES = "recount-tallies"  # the same of its tallies by town and slogan
    PUT_BACK = "put-back"  # the ledger has a claim that the store has forgotten
    PAUSE = "pause"  # nothing that is certainly right: the drop is paused, and people are told


class Finding(NamedTuple):
    remedy: Remedy
    detail: str


class Flow(NamedTuple):
    """Units that were claimed, and those of them that were given back.

    `returned_later` are units of releases that are dated later than the books: they came later, or the store's clock
    was set back since.
    """

    claimed: int = 0
    returned: int = 0
    returned_later: int = 0

    def plus(self, other: "Flow") -> "Flow":
        return Flow(*map(sum, zip(self, other, strict=True)))

    @property
    def issued(self) -> int:
        """Units in members' hands, as of all that is recorded."""
        return self.claimed - self.returned - self.returned_later

    def explains(self, count: int) -> bool:
        """Whether a counter of the books may be so: as of all that is recorded, or as of the books' own moment."""
        return count in (self.issued, self.issued + self.returned_later)


@dataclass(frozen=True, slots=True)
class Books:
    """What the store says at one moment `at_ms` of its clock; `waves` are (at ms, item, quantity)."""

    at_ms: int
    revision: int
    serial: int
    taken: Mapping[int, int]
    waves: Sequence[tuple[int, int, int]]
    town_taken: Mapping[tuple[int, int], int] = field(default_factory=dict)  # item, town; of the allotments alone
    tallies: Mapping[tuple[int, int], int] = field(default_factory=dict)  # town, slogan
    dealt: int | None = None  # of an instant drop


@dataclass(frozen=True, slots=True)
class Record:
    """What the ledger says of claims up to the books' serial and moment, once it has all of them.

    `claims` is how many there are, `skipped` how many serials a rebuild left out.
    """

    revision: int
    claims: int
    skipped: int
    flows: Mapping[Group, Flow]

    def of_item(self, item: int) -> Flow:
        return self._sum(lambda group: group.item == item)

    def of_town(self, item: int, town: int) -> Flow:
        return self._sum(lambda group: (group.item, group.town) == (item, town))

    def of_tally(self, town: int, slogan: int) -> Flow:
        return self._sum(lambda group: (group.town, group.slogan) == (town, slogan))

    def dealt(self, blank: int) -> int:
        """Prizes that plays got, given back or not; `blank` is the item that is none."""
        return self._sum(lambda group: group.item != blank).claimed

    def tallies(self) -> set[tuple[int, int]]:
        """Towns and slogans that claims were made for."""
        return {(group.town, group.slogan) for group in self.flows if group.town or group.slogan}

    def _sum(self, belongs: Callable[[Group], bool]) -> Flow:
        return reduce(Flow.plus, (flow for group, flow in self.flows.items() if belongs(group)), Flow())


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
        returned = max(0, min(left, record.of_item(item).returned))
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
            flow = record.of_item(item)
            if not flow.explains(taken):
                words = f"item {item}: the store counts {taken} taken, the ledger {flow.issued}"
                found.append(Finding(Remedy.RECOUNT, words))
        found += _compare_towns(books, record)
    for item, where in units(books, record).items():
        if where.free < 0:
            found.append(Finding(Remedy.PAUSE, f"item {item} is oversold by {-where.free} units"))
    return found


def _compare_towns(books: Books, record: Record) -> list[Finding]:
    found = []
    for (item, town), taken in books.town_taken.items():
        flow = record.of_town(item, town)
        if not flow.explains(taken):
            words = f"item {item} for town {town}: the store counts {taken} taken, the ledger {flow.issued}"
            found.append(Finding(Remedy.RECOUNT, words))
    for town, slogan in sorted(books.tallies.keys() | record.tallies()):
        tally, flow = books.tallies.get((town, slogan), 0), record.of_tally(town, slogan)
        if not flow.explains(tally):
            words = f"town {town}, slogan {slogan}: the store's tally is {tally}, the ledger's {flow.issued}"
            found.append(Finding(Remedy.RECOUNT_TALLIES, words))
    dealt = record.dealt(blank=len(books.taken))
    if books.dealt is not None and books.dealt != dealt:
        found.append(Finding(Remedy.RECOUNT, f"the store has dealt {books.dealt} prizes, the ledger {dealt}"))
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
