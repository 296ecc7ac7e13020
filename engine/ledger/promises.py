"""The promises as functions over a recorded history: the audit and every kind of test call the same ones. Pure.

Each function returns the differences that it found, one sentence each; a kept promise returns none.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.ids import ClaimId


class Fact(NamedTuple):
    """What one side says of one claim; `item` is the item's number in the drop."""

    claim_id: ClaimId
    subject: str
    nonce: bytes
    item: int
    quantity: int
    at_ms: int
    is_released: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """All that is known of one drop: what clients were told, what the store holds, what waits, what was recorded.

    `counters` is the store's own count of units taken per item, None while claims are coming in; `serials` is the last
    serial given in each partition. `waves` are (at ms, item, quantity).
    """

    limit: int
    opens_ms: int
    closes_ms: int
    waves: Sequence[tuple[int, int, int]]
    told: Sequence[Fact] = ()
    stored: Sequence[Fact] = ()
    waiting: Sequence[Fact] = ()
    recorded: Sequence[Fact] = ()
    counters: Mapping[int, int] | None = None
    serials: Mapping[int, int] = field(default_factory=dict)


def oversold(history: History) -> list[str]:
    """Units in members' hands never exceed the stock released so far, at any moment of the history, per item.

    A claim that was given back counts as if it had never been: its time of release is not part of every side.
    """
    found = []
    for side, facts in (("store", history.stored), ("ledger", history.recorded)):
        for item in {fact.item for fact in facts}:
            held, released = 0, 0
            moments = [(at, 0, quantity) for at, of, quantity in history.waves if of == item]
            moments += [(f.at_ms, 1, f.quantity) for f in facts if f.item == item and not f.is_released]
            worst = 0
            for _, is_claim, quantity in sorted(moments):
                if is_claim:
                    held += quantity
                    worst = max(worst, held - released)
                else:
                    released += quantity
            if worst > 0:
                found.append(f"{side}: item {item} is oversold by {worst} units")
    return found


def over_limit(history: History) -> list[str]:
    """No subject holds more units than the limit."""
    found = []
    for side, facts in (("store", history.stored), ("ledger", history.recorded)):
        units: Counter[str] = Counter()
        for fact in facts:
            if not fact.is_released:
                units[fact.subject] += fact.quantity
        found += [
            f"{side}: {subject} holds {held} units, the limit is {history.limit}"
            for subject, held in units.items()
            if held > history.limit
        ]
    return found


def lost(history: History) -> list[str]:
    """Each claim that a client was told of, and each that the store holds, is in the ledger or on its way there."""
    safe = {fact.claim_id for fact in history.recorded} | {fact.claim_id for fact in history.waiting}
    found = [f"{fact.claim_id}: a client was told, the ledger has nothing" for fact in _missing(history.told, safe)]
    told = {fact.claim_id for fact in history.told}
    found += [
        f"{fact.claim_id}: the store has it, the ledger has nothing" for fact in _missing(history.stored, safe | told)
    ]
    return found


def unknown_to_store(history: History) -> list[str]:
    """Each claim that a client was told of, and each in the ledger, is in the store."""
    stored = {fact.claim_id for fact in history.stored}
    found = [f"{f.claim_id}: a client was told, the store has nothing" for f in _missing(history.told, stored)]
    found += [f"{f.claim_id}: the ledger has it, the store has nothing" for f in _missing(history.recorded, stored)]
    return found


def duplicate_serials(history: History) -> list[str]:
    """A serial of a partition stands for one claim only."""
    found = []
    for side, facts in (("store", history.stored), ("ledger", history.recorded)):
        counts = Counter(fact.claim_id for fact in facts)
        found += [f"{side}: {claim_id} stands for {count} claims" for claim_id, count in counts.items() if count > 1]
    owners: dict[ClaimId, bytes] = {}
    for fact in history.told:
        if owners.setdefault(fact.claim_id, fact.nonce) != fact.nonce:
            found.append(f"told: {fact.claim_id} was told to two tickets")
    return found


def serial_gaps(history: History) -> list[str]:
    """Serials run from one to the last one given, without a gap."""
    found = []
    for partition, last in history.serials.items():
        seen = {fact.claim_id.serial for fact in history.stored if fact.claim_id.partition == partition}
        missing = sorted(set(range(1, last + 1)) - seen)
        beyond = sorted(serial for serial in seen if serial > last)
        if missing:
            found.append(f"store: partition {partition} misses serials {missing[:20]}")
        if beyond:
            found.append(f"store: partition {partition} has serials {beyond[:20]} beyond the last one, {last}")
    return found


def one_ticket_one_claim(history: History) -> list[str]:
    """A ticket has at most one claim."""
    found = []
    for side, facts in (("store", history.stored), ("ledger", history.recorded), ("told", history.told)):
        claims: dict[tuple[str, bytes], ClaimId] = {}
        for fact in facts:
            first = claims.setdefault((fact.subject, fact.nonce), fact.claim_id)
            if first != fact.claim_id:
                found.append(f"{side}: one ticket has {first} and {fact.claim_id}")
    return found


def mismatched(history: History) -> list[str]:
    """Client, store and ledger say the same of a claim: subject, ticket, item, quantity, time, given back or not."""
    stored = {fact.claim_id: fact for fact in history.stored}
    recorded = {fact.claim_id: fact for fact in history.recorded}
    found = []
    for fact in history.told:
        for side, known in (("store", stored), ("ledger", recorded)):
            other = known.get(fact.claim_id)
            if other is not None and other._replace(is_released=False) != fact:
                found.append(f"{fact.claim_id}: the client was told {_shown(fact)}, the {side} has {_shown(other)}")
    # A release that is on its way to the ledger is no difference.
    releasing = {fact.claim_id for fact in history.waiting if fact.is_released}
    for claim_id in stored.keys() & recorded.keys():
        ours, theirs = stored[claim_id], recorded[claim_id]
        if claim_id in releasing:
            ours, theirs = ours._replace(is_released=True), theirs._replace(is_released=True)
        if ours != theirs:
            found.append(f"{claim_id}: the store has {_shown(ours)}, the ledger has {_shown(theirs)}")
    return found


def counters_off(history: History) -> list[str]:
    """The store's counters say what its claims say."""
    if history.counters is None:
        return []
    held: Counter[int] = Counter()
    for fact in history.stored:
        if not fact.is_released:
            held[fact.item] += fact.quantity
    return [
        f"store: item {item} is counted as {count} taken, its claims sum to {held[item]}"
        for item, count in history.counters.items()
        if held[item] != count
    ]


def outside_window(history: History) -> list[str]:
    """No claim is dated outside the drop's window, by the store's clock."""
    return [
        f"{fact.claim_id}: dated {fact.at_ms}, outside the window {history.opens_ms} to {history.closes_ms}"
        for fact in history.stored
        if not history.opens_ms <= fact.at_ms < history.closes_ms
    ]


PROMISES = (
    oversold,
    over_limit,
    lost,
    unknown_to_store,
    duplicate_serials,
    serial_gaps,
    one_ticket_one_claim,
    mismatched,
    counters_off,
    outside_window,
)


def broken(history: History) -> list[str]:
    """Every difference that any promise finds."""
    return [difference for promise in PROMISES for difference in promise(history)]


def _missing(facts: Iterable[Fact], known: set[ClaimId]) -> list[Fact]:
    return [fact for fact in facts if fact.claim_id not in known]


def _shown(fact: Fact) -> str:
    state = ", given back" if fact.is_released else ""
    return f"{fact.quantity} × item {fact.item} for {fact.subject} at {fact.at_ms}{state}"
