"""What must hold at the end of a run, when everything has healed: the promises, and that it came to rest."""

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.claims.outbox import GROUP
from engine.drops.model import Status, to_ms
from engine.ids import ClaimId, DropId
from engine.ledger import promises
from engine.ledger.evidence import recorded_fact, stored_fact
from engine.ledger.facts import Fact, History
from tests.simulation.people import DROP_ID
from tests.simulation.plan import Kind
from tests.simulation.queries import skipped

if TYPE_CHECKING:
    from tests.simulation.world import World


# A limit or a stock that somebody changes by hand holds again when the reconciler has seen it, not before.
_UNSAFE_BY_HAND = (promises.oversold, promises.over_limit, promises.one_ticket_one_claim)
_UNSAFE_BY_RECEIPTS = (promises.oversold, promises.unbalanced)
_UNSAFE_BY_HASTE = (promises.over_limit,)  # who claims anew after a hasty resume, and then brings a receipt, keeps both


def is_quiet(world: "World") -> bool:
    return not what_waits(world)


def what_waits(world: "World") -> str:
    """What has not come to rest yet; nothing when all has."""
    if not (world.store.is_up and world.ledger.is_up):
        return "a server is down"
    for number, part in enumerate(world.store.parts):
        if part.state.home != world.store.replication_id:
            return f"partition {number} is not at home"
        group = part.outbox.groups.get(GROUP)
        if group is None or group.pending or any(at > group.delivered for at in part.outbox.entries):
            return f"the outbox of partition {number} is not in the ledger: {group}"
    return ""


def look(world: "World") -> None:
    history = history_of(world)
    is_paused = world.ledger.drops[DROP_ID].status is Status.PAUSED
    epochs = {part.state.drops[DROP_ID].epoch for part in world.store.parts if DROP_ID in part.state.drops}
    is_fenced = max(epochs, default=0) > world.ledger.drops[DROP_ID].epoch
    is_seen_to = bool(world.tampered) and (is_paused or is_fenced)  # people are told
    for promise in promises.PROMISES:
        is_excused = is_seen_to or (bool(world.tampered) and promise in _UNSAFE_BY_HAND)
        # A claim that a receipt brings back may stand on a release or a restock that is lost: people are told.
        is_excused = is_excused or (promise in _UNSAFE_BY_RECEIPTS and world.has_brought_back)
        is_hasty = world.has_brought_back and any(event.what == "resume" for event in world.plan.events)
        is_excused = is_excused or (promise in _UNSAFE_BY_HASTE and is_hasty)
        for difference in promise(_filled(world, history) if promise is promises.serial_gaps else history):
            if not is_excused:
                world.breaks(promise.__name__, difference)
    if world.ledger.dead_letters and not world.tampered:
        world.breaks("no dead letters", str(world.ledger.dead_letters))
    done = [act.control.revision for act in world.ledger.done[DROP_ID]]
    if done != list(range(1, len(done) + 1)):
        world.breaks("each act has its row", str(done))
    _look_at_repairs(world)


def history_of(world: "World") -> History:
    drop = world.ledger.drops[DROP_ID]
    stored: list[Fact] = []
    counters, serials = Counter[int](), {}
    for number, part in enumerate(world.store.parts):
        state = part.state.drops.get(DROP_ID)
        if state is None:
            world.breaks("all recovers within a minute", f"the drop is missing in partition {number}")
            continue
        counters.update(state.taken)
        serials[number] = state.serial
        stored += [
            stored_fact(DropId(DROP_ID), number, subject, claim)
            for subject, held in state.claims.items()
            for claim in held
        ]
    recorded = [recorded_fact(row) for rows in world.ledger.claims.values() for row in rows.values()]
    return History(
        limit=max(world.limits),
        opens_ms=drop.opens_ms,
        closes_ms=drop.closes_ms,
        waves=[
            (to_ms(wave.at), drop.item_index(item) or 0, quantity)
            for wave in drop.spec.releases()
            for item, quantity in wave.stock.items()
        ],
        told=world.told.facts,
        stored=stored,
        recorded=recorded,
        counters=counters,
        serials=serials,
    )


def _filled(world: "World", history: History) -> History:
    """With something in the place of the serials that a rebuild left out for good."""
    known = {fact.claim_id for fact in history.stored}
    left_out = [
        Fact(_id(partition, serial), "", b"", 0, 0, 0)
        for partition, first, last in skipped(world.ledger, DROP_ID)
        for serial in range(first, last + 1)
        if _id(partition, serial) not in known
    ]
    return replace(history, stored=[*history.stored, *left_out])


def _carries_on(said: str) -> bool:
    return said.startswith(("drop rebuilt", "drop missing")) or "remedy=reapply" in said


def _look_at_repairs(world: "World") -> None:
    """Nothing to repair where nobody did anything by hand."""
    kind = world.plan.kind
    # An act that was cut off between two partitions is applied again; a rebuild in its middle is carried on; and who
    # saw that a drop is behind may rebuild it once more when the operator has just done so.
    is_cut = world.plan.partitions > 1 or any(event.what == "rebuild" for event in world.plan.events)
    is_cut = is_cut or kind in (Kind.FAILOVER, Kind.EMPTIED)
    wrong = [said for said in world.repairs if not (is_cut and _carries_on(said))]
    if world.has_lost_writes:
        wrong = [said for said in wrong if "oversold" not in said]  # see `look`
    if kind is not Kind.TAMPERED and wrong:
        world.breaks("the reconciler finds nothing wrong", "; ".join(wrong))


def _id(partition: int, serial: int) -> ClaimId:
    return ClaimId(DropId(DROP_ID), partition, serial)
