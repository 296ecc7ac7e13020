"""The promises as functions over a recorded history: the audit and every kind of test call the same ones. Pure.

Each function returns the differences that it found, one sentence each; a kept promise returns none.
"""

from collections import Counter
from collections.abc import Iterable

from engine.ids import ClaimId, is_pseudonym
from engine.ledger.by_town import Left, from_reserve, tallies_off, town_counters_off
from engine.ledger.facts import Fact, History

_SAID = len(Fact._fields) - 1  # what a client is told: all but whether it was given back later


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
    """No claim ever brought a subject over the limit that held at its moment.

    A limit that is lowered takes nothing away. A claim that was given back counts as if it had never been.
    """
    found = []
    for side, facts in (("store", history.stored), ("ledger", history.recorded)):
        units: Counter[str] = Counter()
        for fact in facts:
            if not fact.is_released:
                units[fact.subject] += fact.quantity
        lowest = min((limit for _, _, limit in history.limits), default=history.limit)
        suspects = {subject for subject, held in units.items() if held > lowest}
        over: dict[str, tuple[int, int]] = {}
        units.clear()
        held_now = [fact for fact in facts if fact.subject in suspects and not fact.is_released]
        for fact in sorted(held_now, key=lambda fact: fact.at_ms):
            units[fact.subject] += fact.quantity
            if units[fact.subject] > (limit := _limit_at(history, fact.at_ms)):
                over[fact.subject] = units[fact.subject], limit
        found += [
            f"{side}: {subject} holds {held} units, the limit is {limit}" for subject, (held, limit) in over.items()
        ]
    return found


def _limit_at(history: History, at_ms: int) -> int:
    """The highest limit that held at a moment: while an act changes it, both do."""
    return max((limit for since, until, limit in history.limits if since <= at_ms <= until), default=history.limit)


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
    """Serials run from one to the last one given; where there is a gap, a rebuild has said so."""
    found = []
    for partition, last in history.serials.items():
        seen = {fact.claim_id.serial for fact in history.stored if fact.claim_id.partition == partition}
        gaps = {serial for first, end in history.skipped.get(partition, ()) for serial in range(first, end + 1)}
        missing = sorted(set(range(1, last + 1)) - seen - gaps)
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
    """Client, store and ledger say the same of a claim: subject, ticket, item, quantity, time, given back or not.

    A member who was erased since keeps their receipts: those name a subject where store and ledger have a pseudonym.
    """
    stored = {fact.claim_id: fact for fact in history.stored}
    recorded = {fact.claim_id: fact for fact in history.recorded}
    found = []
    for fact in history.told:
        for side, known in (("store", stored), ("ledger", recorded)):
            other = known.get(fact.claim_id)
            if other is None:
                continue
            said = fact._replace(subject=other.subject) if is_pseudonym(other.subject) else fact
            if other[:_SAID] != said[:_SAID]:
                found.append(f"{fact.claim_id}: the client was told {_shown(fact)}, the {side} has {_shown(other)}")
    # A release that is on its way to the ledger is no difference.
    releasing = {fact.claim_id for fact in history.waiting if fact.is_released}
    for claim_id, ours in stored.items():
        theirs = recorded.get(claim_id, ours)
        if ours == theirs:
            continue
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
    ] + town_counters_off(history)


def outside_window(history: History) -> list[str]:
    """No claim is dated outside the drop's window, by the store's clock."""
    return [
        f"{fact.claim_id}: dated {fact.at_ms}, outside the window {history.opens_ms} to {history.closes_ms}"
        for fact in history.stored
        if not history.opens_ms <= fact.at_ms < history.closes_ms
    ]


def unbalanced(history: History) -> list[str]:
    """Issued, held, returned and free units sum to the total: none is taken that was not released, on either side."""
    if history.counters is None:
        return []
    total: Counter[int] = Counter()
    for _, item, quantity in history.waves:
        total[item] += quantity
    found = [
        f"store: {count} units of item {item} are taken, it has {total[item]}"
        for item, count in history.counters.items()
        if not 0 <= count <= total[item]
    ]
    if history.waiting:
        return found
    recorded: Counter[int] = Counter()
    for fact in history.recorded:
        recorded[fact.item] += 0 if fact.is_released else fact.quantity
    return found + [
        f"item {item}: the store has issued {count} units, the ledger {recorded[item]}"
        for item, count in history.counters.items()
        if recorded[item] != count
    ]


def while_shut(history: History) -> list[str]:
    """No claim is dated inside a pause, before the launch or after the close."""
    return [
        f"{fact.claim_id}: dated {fact.at_ms}, while the drop gave nothing out ({since} to {until})"
        for fact in history.stored
        for since, until in history.shut
        if since < fact.at_ms < until
    ]


def false_sold_out(history: History) -> list[str]:
    """Who was told "sold out" was told the truth: at some moment between question and answer too little was left.

    Claims that were given back count as held: when that happened is not part of every side.
    """
    found = []
    left_of = {told.item: Left(history, told.item) for told in history.sold_out}
    for told in history.sold_out:
        # Between two of these moments units only go; what another town has in reserve counts as gone.
        moments = [told.answered_ms]
        moments += [at - 1 for at, item, _ in history.waves if item == told.item and at > told.sent_ms]
        moments += [part.until_ms - 1 for part in history.allotments if part.until_ms > told.sent_ms]
        least = min(left_of[told.item].at(at, told.town) for at in moments if at <= told.answered_ms)
        if least >= told.quantity:
            found.append(f"item {told.item} was told to be sold out at {told.answered_ms}, {least} were left")
    return found


def accepted_when_fenced(history: History) -> list[str]:
    """A fenced store accepts nothing: no claim of an epoch is dated after the next one began."""
    return [f"{claim_id}: accepted under an epoch that was over" for claim_id in history.fenced]


def unread(history: History) -> list[str]:
    """Every entry of the outbox could be written; what could not lies in the dead letters, and is told."""
    return [f"dead letter: {reason}" for reason in history.buried]


def over_campaign_limit(history: History) -> list[str]:
    """No claim ever brought a person over a limit of the campaign, over all its drops and in its own time zone."""
    return list(history.over_campaign)


def altered_actions(history: History) -> list[str]:
    """The record of operators' actions is as it was written."""
    return list(history.altered)


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
    unbalanced,
    while_shut,
    false_sold_out,
    accepted_when_fenced,
    unread,
    altered_actions,
    tallies_off,
    from_reserve,
    over_campaign_limit,
)


def broken(history: History) -> list[str]:
    """Every difference that any promise finds."""
    return [difference for promise in PROMISES for difference in promise(history)]


def _missing(facts: Iterable[Fact], known: set[ClaimId]) -> list[Fact]:
    return [fact for fact in facts if fact.claim_id not in known]


def _shown(fact: Fact) -> str:
    state = ", given back" if fact.is_released else ""
    return f"{fact.quantity} × item {fact.item} for {fact.subject} at {fact.at_ms}{state}"
