"""How the store decides a claim, as one pure function on the state of a partition.

`decide_batch` is the model that the scripts are held against: the property tests run both on the same random history,
and the simulation uses it in the script's place. When the two differ, one of them is wrong.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.claims.model import Decision, Verdict
from engine.claims.wire import ClaimRequest, Prize, StoredClaim
from engine.drops.membership import Scope


class Allotted(NamedTuple):
    """Units of an item that are reserved for a town until a moment."""

    item: int
    town: int
    units: int
    until_ms: int


@dataclass(slots=True)
class DropState:
    """The store's state of one drop in one partition, for the pure decision: what the HASHes of a drop hold."""

    status: str
    epoch: int
    opens_ms: int
    closes_ms: int
    limit: int
    waves: list[tuple[int, int, int]]  # at ms, item, quantity
    taken: dict[int, int]
    serial: int = 0
    claims: dict[str, list[StoredClaim]] = field(default_factory=dict)
    revision: int = 0
    act: str = ""
    fenced: bool = False
    allotments: list[Allotted] = field(default_factory=list)
    town_taken: dict[tuple[int, int], int] = field(default_factory=dict)  # item, town; of the allotments alone
    tallies: dict[tuple[int, int], int] = field(default_factory=dict)  # town, slogan
    family: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] = ()
    prizes: tuple[Prize, ...] = ()
    dealt: int = 0

    def left(self, item: int, now_ms: int, town: int = 0) -> int:
        """Units released so far and in nobody's hands, nor in reserve for another town."""
        released = sum(quantity for at, of, quantity in self.waves if of == item and at <= now_ms)
        reserved = sum(
            max(0, allotted.units - self.town_taken[item, allotted.town])
            for allotted in self.allotments
            if allotted.item == item and allotted.town != town and now_ms < allotted.until_ms
        )
        return released - self.taken.get(item, 0) - reserved

    def more(self, item: int, now_ms: int) -> int:
        """When more may come, in ms: with the next wave, or from what is in reserve for a town; 0 when neither."""
        moments = [at for at, of, _ in self.waves if of == item and at > now_ms]
        moments += [allotted.until_ms for allotted in self.allotments if allotted.item == item]
        return min((at for at in moments if at > now_ms), default=0)


@dataclass(slots=True)
class PartitionState:
    """The store's state of one partition.

    `home` is the store that was last compared with the ledger, None when none was; `told` holds for a drop the highest
    serial that somebody was told and its state does not know; `made` its claims while a rebuild makes them.
    """

    home: str | None = None
    drops: dict[str, DropState] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    made: dict[str, dict[str, list[StoredClaim]]] = field(default_factory=dict)

    def at_home(self, drop_id: str, home: str) -> DropState | None:
        """A drop's state as a caller may use it who has reached the store `home`."""
        return self.drops.get(drop_id) if home == self.home else None


class Window(NamedTuple):
    """When a ticket may claim, in ms: from `not_before_ms` on, before `expires_at_ms`."""

    not_before_ms: int
    expires_at_ms: int


class Caller(NamedTuple):
    """What a caller believes: which store it has reached, the drop's epoch, the highest serial that it was told, and
    the other drops of the family."""

    home: str
    epoch: int
    told: int
    relatives: tuple[str, ...] = ()


def decide_batch(
    partition: PartitionState,
    drop_id: str,
    caller: Caller,
    requests: Sequence[tuple[ClaimRequest, Window]],
    now_ms: int,
) -> list[Decision]:
    """Decide a batch as `lua/claim.lua` does, changing the partition where something is accepted."""
    state = partition.at_home(drop_id, caller.home)
    told = max(caller.told, partition.told.get(drop_id, 0))
    if state is None or told > state.serial:
        partition.told[drop_id] = told
        return [Decision(Verdict.NOT_READY)] * len(requests)
    family = _family(partition, state) if caller.relatives == state.family else None
    shut = _shut(state, caller, now_ms)
    if shut is None and family is None:
        shut = Decision(Verdict.NOT_READY)
    return [decide(state, request, window, shut, family or [], now_ms) for request, window in requests]


def _family(partition: PartitionState, state: DropState) -> list[DropState] | None:
    """The other drops whose claims count together with this one's; None where one of them is not there."""
    found = []
    for drop_id in state.family:
        other = partition.drops.get(drop_id)
        if other is None or other.fenced or partition.told.get(drop_id, 0) > other.serial:
            return None
        found.append(other)
    return found


def decide(
    state: DropState,
    request: ClaimRequest,
    window: Window,
    shut: Decision | None,
    family: Sequence[DropState],
    now_ms: int,
) -> Decision:
    """Decide one request, changing `state` where it is accepted. `shut` holds for every new claim, whoever asks."""
    held = state.claims.get(request.subject, [])
    for known in held:
        if known.nonce == request.nonce:
            if known.released:
                return Decision(Verdict.CLAIM_RELEASED)
            return Decision(Verdict.REPEATED, known.serial, known.item, known.quantity, known.at_ms)
    if shut is not None:
        return shut
    if now_ms >= window.expires_at_ms:
        return Decision(Verdict.TICKET_EXPIRED, facts=(window.expires_at_ms,))
    if now_ms < window.not_before_ms:
        return Decision(Verdict.NOT_OPEN, facts=(window.not_before_ms,))
    quantity = 1 if state.prizes else request.quantity
    units = _units(held)
    if units + quantity > state.limit:
        return Decision(Verdict.LIMIT_REACHED, facts=(units, state.limit))
    passed = _passed_scope([state, *family], request.subject, quantity, now_ms)
    if passed is not None:
        return passed
    item = _dealt(state, now_ms) if state.prizes else request.item
    left = state.left(item, now_ms, request.town)
    if left < quantity:
        return Decision(Verdict.SOLD_OUT, facts=(max(0, left), state.more(item, now_ms)))
    _take(state, request, item, quantity, now_ms)
    return Decision(Verdict.ACCEPTED, state.serial, item, quantity, now_ms)


def _passed_scope(drops: Sequence[DropState], subject: str, quantity: int, now_ms: int) -> Decision | None:
    """The limit over all drops of a campaign, the first of which decides, that a claim would pass."""
    claims = [claim for drop in drops for claim in drop.claims.get(subject, ())]
    for scope in drops[0].scopes:
        since_ms, till_ms = scope.at(now_ms)
        units = _units(claim for claim in claims if claim.at_ms >= since_ms)
        if units + quantity > scope.limit:
            return Decision(Verdict.CAMPAIGN_LIMIT_REACHED, facts=(scope.period, units, scope.limit, till_ms))
    return None


def _units(claims: Iterable[StoredClaim]) -> int:
    return sum(claim.quantity for claim in claims if not claim.released)


def _dealt(state: DropState, now_ms: int) -> int:
    """What a play gets: the next prize, if its moment has come and a unit is left, else the last item, the blank."""
    blank = len(state.taken)
    if state.dealt >= len(state.prizes):
        return blank
    at_ms, item = state.prizes[state.dealt]
    released = sum(quantity for at, of, quantity in state.waves if of == item and at <= now_ms)
    return item if at_ms <= now_ms and released > state.taken.get(item, 0) else blank


def _take(state: DropState, request: ClaimRequest, item: int, quantity: int, now_ms: int) -> None:
    state.serial += 1
    state.dealt += bool(state.prizes) and item != len(state.taken)
    state.taken[item] += quantity
    _count(state, request.town, request.slogan, item, quantity)
    stored = StoredClaim(
        request.nonce,
        state.serial,
        item,
        quantity,
        released=False,
        at_ms=now_ms,
        town=request.town,
        slogan=request.slogan,
    )
    state.claims.setdefault(request.subject, []).append(stored)


def _count(state: DropState, town: int, slogan: int, item: int, units: int) -> None:
    """Count units for their town and slogan."""
    if (item, town) in state.town_taken:
        state.town_taken[item, town] += units
    if town or slogan:
        state.tallies[town, slogan] = state.tallies.get((town, slogan), 0) + units


def _shut(state: DropState, caller: Caller, now_ms: int) -> Decision | None:
    """The verdict that holds for every new claim, whoever asks; None when claims are taken."""
    if caller.epoch != state.epoch or state.fenced or caller.relatives != state.family:
        return Decision(Verdict.STALE_EPOCH, facts=(state.epoch,))
    if state.status == "paused":
        return Decision(Verdict.PAUSED)
    if state.status == "closed":
        return Decision(Verdict.CLOSED)
    if state.status != "launched" or now_ms < state.opens_ms:
        return Decision(Verdict.NOT_OPEN, facts=(state.opens_ms,))
    if now_ms >= state.closes_ms:
        return Decision(Verdict.CLOSED)
    return None


def release(state: DropState | None, subject: str, serial: int, epoch: int) -> str:
    """Give a claim back as `lua/release.lua` does; the same words as the script's replies, without the time."""
    if state is None:
        return "not-ready"
    if epoch != state.epoch or state.fenced:
        return "stale-epoch"
    held = state.claims.get(subject, [])
    for at, known in enumerate(held):
        if known.serial == serial:
            if known.released:
                return "already"
            held[at] = known._replace(released=True)
            state.taken[known.item] -= known.quantity
            _count(state, known.town, known.slogan, known.item, -known.quantity)
            return "released"
    return "unknown"
