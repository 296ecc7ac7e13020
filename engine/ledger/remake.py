"""The state of a drop in one partition, made from what is recorded of it: pure.

What is made equals what the store had, but for claims that never reached the ledger; receipts bring those back.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from types import MappingProxyType

from engine.claims.history import RecordedClaim
from engine.claims.receipt import ReceiptBody
from engine.claims.wire import StoredClaim
from engine.drops.model import Drop, from_ms, shares, to_ms
from engine.drops.spec import DropSpec
from engine.ids import ClaimId, is_pseudonym
from engine.ledger import promises
from engine.ledger.evidence import stored_fact
from engine.ledger.facts import History

Held = Mapping[str, Sequence[StoredClaim]]  # subject → claims


@dataclass(frozen=True, slots=True)
class Made:
    """The state made for one partition; `skipped` are serials (first, last) of which nothing is known."""

    serial: int
    taken: Mapping[int, int]
    claims: Held
    skipped: list[tuple[int, int]] = field(default_factory=list)
    town_taken: Mapping[tuple[int, int], int] = field(default_factory=dict)  # item, town; of the allotments alone
    tallies: Mapping[tuple[int, int], int] = field(default_factory=dict)  # town, slogan
    dealt: int = 0

    def counters(self) -> dict[str, str]:
        """The fields of the drop's hash that an act of an operator does not set."""
        counts = {"serial": self.serial, "dealt": self.dealt}
        counts |= {f"taken:{item}": units for item, units in self.taken.items()}
        counts |= {f"taken:{item}:{town}": units for (item, town), units in self.town_taken.items()}
        return {name: str(count) for name, count in counts.items()}

    def tally_fields(self) -> dict[str, str]:
        """The hash of the drop's tallies."""
        return {f"{town}:{slogan}": str(units) for (town, slogan), units in self.tallies.items()}


def make(recorded: Iterable[RecordedClaim], spec: DropSpec, serial_min: int) -> Made:
    """The state that follows from a partition's recorded claims.

    `serial_min` is the highest serial that anybody was told, recorded or not: no serial is given twice.
    """
    claims: dict[str, list[StoredClaim]] = {}
    items = len(spec.items)
    taken = dict.fromkeys(range(1, items + 1), 0)
    dealt = 0
    numbers = {item.id: number for number, item in enumerate(spec.items, start=1)}
    town_taken = {(numbers[part.item], part.number): 0 for part in spec.allotments}
    tallies: Counter[tuple[int, int]] = Counter()
    serials = []
    for row in sorted(recorded, key=lambda row: row.claim_id.serial):
        serials.append(row.claim_id.serial)
        claims.setdefault(row.subject, []).append(stored_claim(row))
        dealt += spec.instant is not None and row.item != items  # given back or not: no prize is dealt twice
        if row.released_at is None:
            taken[row.item] += row.quantity
            if (row.item, row.town) in town_taken:
                town_taken[row.item, row.town] += row.quantity
            if row.town or row.slogan:
                tallies[row.town, row.slogan] += row.quantity
    serial = max([serial_min, *serials[-1:]])
    return Made(serial, taken, claims, _gaps(serials, serial), town_taken, tallies, dealt)


@dataclass(frozen=True, slots=True)
class Excess:
    """What was told beyond stock and limit: claims that came back after their units were given to others.

    `units` are those of each item that were never released, over all partitions, each against its own share: where one
    is over, the others still give out theirs. `subjects` is how many have claims over the limit of their moment.
    """

    units: dict[str, int]
    subjects: int


def excess(
    drop: Drop,
    made: Mapping[int, Made],
    limits: Sequence[tuple[int, int, int]],
    now_ms: int,
    prizes: Mapping[int, Sequence[tuple[int, int]]] = MappingProxyType({}),
) -> Excess:
    """What the made state holds beyond what may be given out; `limits` are as in `engine.ledger.promises.History`.

    `prizes` is each partition's sequence of an instant win.
    """
    facts = [
        stored_fact(drop.id, partition, subject, claim)
        for partition, state in made.items()
        for subject, held in state.claims.items()
        if len(held) > 1 or held[0].quantity > 1  # one unit is within every limit
        for claim in held
    ]
    # A store's clock that was set back takes no wave back that has been given out.
    claimed = (claim.at_ms for state in made.values() for held in state.claims.values() for claim in held)
    at_ms = max(chain([now_ms], claimed))
    units: Counter[str] = Counter()
    for partition, state in made.items():
        released: Counter[int] = Counter()
        for wave_ms, number, quantity in shares(drop, len(made), partition, prizes.get(partition, ())):
            released[number] += quantity if wave_ms <= at_ms else 0
        for number, taken in state.taken.items():
            if taken > released[number]:
                units[drop.spec.items[number - 1].id] += taken - released[number]
    known = History(drop.spec.limit_per_member, drop.opens_ms, drop.closes_ms, (), stored=facts, limits=limits)
    return Excess(dict(units), len(promises.over_limit(known)))


@dataclass(slots=True)
class Brought:
    """What receipts say beyond what is recorded.

    `restored` are claims that they prove and nobody recorded; `superseded` those whose tickets have got another claim
    since they were lost: their members have theirs. `conflicts` are receipts that contradict what is recorded.
    """

    restored: list[RecordedClaim] = field(default_factory=list)
    superseded: list[ClaimId] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def brought(recorded: Iterable[RecordedClaim], told: Sequence[ReceiptBody]) -> Brought:
    """Sort receipts by what they say beyond what is recorded."""
    by_id = {row.claim_id: row for row in recorded}
    by_ticket = {(row.member_id, row.nonce): row.claim_id for row in by_id.values()}
    erased = {row.nonce for row in by_id.values() if is_pseudonym(row.member_id)}
    found = Brought()
    for body in told:
        row = _proved(body)
        known = by_id.get(row.claim_id)
        if known is not None:
            if is_pseudonym(known.member_id):  # whose it was is not known any more, the receipt is theirs all the same
                row = row._replace(member_id=known.member_id, subject=known.subject)
            if known._replace(released_at=None) != row:
                found.conflicts.append(f"{row.claim_id}: a receipt says {_shown(row)}, recorded is {_shown(known)}")
        elif (row.member_id, row.nonce) in by_ticket or row.nonce in erased:
            found.superseded.append(row.claim_id)
        else:
            found.restored.append(row)
            by_id[row.claim_id] = row
            by_ticket[row.member_id, row.nonce] = row.claim_id
    return found


@dataclass(frozen=True, slots=True)
class Difference:
    """How what is made differs from what the store had: claims by id, at most a few of each kind are named."""

    only_in_store: list[ClaimId]
    only_made: list[ClaimId]
    other: list[ClaimId]


def compare(drop_id: str, partition: int, made: Held, stored: Held) -> Difference:
    """Compare claim by claim; a release that only one side knows makes a claim `other`."""
    ours, theirs = _by_serial(made), _by_serial(stored)

    def ids(serials: Iterable[int]) -> list[ClaimId]:
        return [ClaimId.parse(f"{drop_id}.{partition}.{serial}") for serial in sorted(serials)]

    both = ours.keys() & theirs.keys()
    return Difference(
        only_in_store=ids(theirs.keys() - ours.keys()),
        only_made=ids(ours.keys() - theirs.keys()),
        other=ids(serial for serial in both if ours[serial] != theirs[serial]),
    )


def _by_serial(held: Held) -> dict[int, tuple[str, StoredClaim]]:
    return {claim.serial: (subject, claim) for subject, claims in held.items() for claim in claims}


def _gaps(serials: Sequence[int], last: int) -> list[tuple[int, int]]:
    edges = [0, *serials, last + 1]
    return [(before + 1, after - 1) for before, after in pairwise(edges) if after - before > 1]


def stored_claim(row: RecordedClaim) -> StoredClaim:
    """A recorded claim as the store keeps it."""
    is_released = row.released_at is not None
    serial, at_ms = row.claim_id.serial, to_ms(row.claimed_at)
    return StoredClaim(row.nonce, serial, row.item, row.quantity, is_released, at_ms, row.town, row.slogan)


def _proved(body: ReceiptBody) -> RecordedClaim:
    request = body.request
    return RecordedClaim(
        body.claim_id,
        request.item,
        request.quantity,
        request.member,
        request.subject,
        request.nonce,
        from_ms(body.at_ms),
        None,
        request.town,
        request.slogan,
    )


def _shown(row: RecordedClaim) -> str:
    return f"{row.quantity} × item {row.item} for {row.subject} at {row.claimed_at.isoformat()}"
