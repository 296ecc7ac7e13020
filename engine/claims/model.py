"""What the store decides about a claim, what each refusal is called, and the decision itself as one pure function.

`decide` is the model that the scripts are held against: the property tests run both on the same random history, and
the simulation uses it in the script's place. When the two differ, one of them is wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import ClassVar, NamedTuple

import msgspec

from engine.claims.wire import ClaimRequest, StoredClaim
from engine.drops.model import from_ms
from engine.errors import FlashclaimError, Refused, Unavailable
from engine.ids import ClaimId, DropId


class Verdict(IntEnum):
    """What the script says about one request; numbered as in `lua/includes/_verdict.lua`."""

    ACCEPTED = 0
    REPEATED = 1
    NOT_READY = 2
    CLAIM_RELEASED = 3
    STALE_EPOCH = 4
    TICKET_EXPIRED = 5
    NOT_OPEN = 6
    PAUSED = 7
    CLOSED = 8
    LIMIT_REACHED = 9
    SOLD_OUT = 10
    CAMPAIGN_LIMIT_REACHED = 11


class Decision(NamedTuple):
    """A verdict and its facts.

    For ACCEPTED and REPEATED `serial`, `item`, `quantity` and `at_ms` tell the claim. For a refusal `facts` holds
    the script's numbers: (held, limit), (left, more at), (opens at,) and so on, see `lua/claim.lua`.
    """

    verdict: Verdict
    serial: int = 0
    item: int = 0
    quantity: int = 0
    at_ms: int = 0
    facts: tuple[int, ...] = ()


class Claim(msgspec.Struct, frozen=True, gc=False):
    """An accepted claim, as its member is told of it; `repeated` when this ticket had been accepted before."""

    drop_id: DropId
    partition: int
    serial: int
    item: str
    quantity: int
    at_ms: int
    receipt: str
    repeated: bool

    @property
    def claim_id(self) -> ClaimId:
        return ClaimId(self.drop_id, self.partition, self.serial)


class ClaimReleased(Refused):
    code: ClassVar[str] = "claim-released"


class TicketExpired(Refused):
    code: ClassVar[str] = "ticket-expired"


class NotOpen(Refused):
    code: ClassVar[str] = "not-open"


class Paused(Refused):
    code: ClassVar[str] = "paused"


class Closed(Refused):
    code: ClassVar[str] = "closed"


class LimitReached(Refused):
    code: ClassVar[str] = "limit-reached"


class CampaignLimitReached(Refused):
    """The drop's own limit would allow it, but one that counts over the campaign's drops does not."""

    code: ClassVar[str] = "campaign-limit-reached"


class SoldOut(Refused):
    code: ClassVar[str] = "sold-out"


class NoSuchClaim(Refused):
    code: ClassVar[str] = "no-such-claim"


class Overloaded(Unavailable):
    """Too many claims wait already; this one was not sent to the store."""

    code: ClassVar[str] = "overloaded"


class OutcomeUnknown(Unavailable):
    """The store was asked and did not answer: only the same ticket, sent again, learns what happened."""

    code: ClassVar[str] = "outcome-unknown"


class StoreUnavailable(Unavailable):
    """The store could not be asked, or said that it does nothing now; nothing has happened."""

    code: ClassVar[str] = "store-unavailable"


class NotReady(Unavailable):
    """The drop's state is not in the store, or of another epoch; nothing is decided without it."""

    code: ClassVar[str] = "not-ready"


def refusal(decision: Decision, now_ms: int) -> FlashclaimError:
    """The error that tells a refusing decision to a person, with the facts that help."""
    return _REFUSALS[decision.verdict](decision.facts, now_ms)


def _time(instant_ms: int) -> datetime | None:
    return from_ms(instant_ms) if instant_ms else None


def _not_open(facts: tuple[int, ...], now_ms: int) -> FlashclaimError:
    (opens_ms,) = facts
    opens_at = from_ms(opens_ms)
    wait_s = max(1, -(-(opens_ms - now_ms) // 1000))
    return NotOpen(
        f"not open yet: it opens at {opens_at.isoformat()}; send the same ticket then",
        opens_at=opens_at,
        retry_after_s=wait_s,
    )


def _limit_reached(facts: tuple[int, ...], _now_ms: int) -> FlashclaimError:
    held, limit = facts
    return LimitReached(
        f"the limit is {limit} for each member on this drop, and you hold {held}",
        limit="limit_per_member",
        limit_per_member=limit,
        held=held,
        remaining=max(0, limit - held),
    )


def _campaign_limit_reached(facts: tuple[int, ...], now_ms: int) -> FlashclaimError:
    kind, held, limit, until_ms = facts
    period, ends = Period(kind), _ends(Period(kind), until_ms)
    return CampaignLimitReached(
        f"the limit of this campaign is {limit} for each person {period.words}, and you hold {held}"
        + (f"; it counts anew from {ends.isoformat()}" if ends else ""),
        limit=period.name.lower(),
        limit_per_person=limit,
        held=held,
        remaining=max(0, limit - held),
        counts_anew_at=ends,
        **({"retry_after_s": max(1, -(-(until_ms - now_ms) // 1000))} if ends else {}),
    )


def _ends(period: Period, until_ms: int) -> datetime | None:
    return None if period is Period.IN_ALL else from_ms(until_ms)


def _sold_out(facts: tuple[int, ...], _now_ms: int) -> FlashclaimError:
    left, more_ms = facts
    more = _time(more_ms)
    now_left = f"only {left} left, fewer than you asked for" if left else "sold out"
    later = f"; more is released at {more.isoformat()}" if more else ""
    return SoldOut(now_left + later, left=left, next_release_at=more)


_REFUSALS: Mapping[Verdict, Callable[[tuple[int, ...], int], FlashclaimError]] = {
    Verdict.NOT_READY: lambda _f, _n: NotReady("the drop is being made ready: send the same ticket again"),
    Verdict.STALE_EPOCH: lambda _f, _n: NotReady("the drop is being rebuilt: send the same ticket again"),
    Verdict.CLAIM_RELEASED: lambda _f, _n: ClaimReleased(
        "this ticket's claim was given back: it cannot be claimed with the same ticket again"
    ),
    Verdict.TICKET_EXPIRED: lambda facts, _n: TicketExpired(
        f"this ticket expired at {from_ms(facts[0]).isoformat()} and was never used: take a new one",
        expired_at=from_ms(facts[0]),
    ),
    Verdict.NOT_OPEN: _not_open,
    Verdict.PAUSED: lambda _f, _n: Paused("paused by the operator: keep your ticket and try again soon"),
    Verdict.CLOSED: lambda _f, _n: Closed("closed: this drop takes no more claims"),
    Verdict.LIMIT_REACHED: _limit_reached,
    Verdict.SOLD_OUT: _sold_out,
    Verdict.CAMPAIGN_LIMIT_REACHED: _campaign_limit_reached,
}


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

    def left(self, item: int, now_ms: int) -> int:
        """Units released so far and in nobody's hands."""
        released = sum(quantity for at, of, quantity in self.waves if of == item and at <= now_ms)
        return released - self.taken.get(item, 0)

    def next_wave(self, item: int, now_ms: int) -> int:
        """When the item's next wave comes, in ms; 0 when none does."""
        return min((at for at, of, _ in self.waves if of == item and at > now_ms), default=0)


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
    """What a caller believes: which store it has reached, the drop's epoch, the highest serial that it was told."""

    home: str
    epoch: int
    told: int


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
    return [decide(state, request, window, caller.epoch, now_ms) for request, window in requests]


def decide(state: DropState, request: ClaimRequest, window: Window, epoch: int, now_ms: int) -> Decision:
    """Decide one request, changing `state` where it is accepted."""
    held = state.claims.get(request.subject, [])
    for known in held:
        if known.nonce == request.nonce:
            if known.released:
                return Decision(Verdict.CLAIM_RELEASED)
            return Decision(Verdict.REPEATED, known.serial, known.item, known.quantity, known.at_ms)
    shut = _shut(state, epoch, now_ms)
    if shut is not None:
        return shut
    if now_ms >= window.expires_at_ms:
        return Decision(Verdict.TICKET_EXPIRED, facts=(window.expires_at_ms,))
    if now_ms < window.not_before_ms:
        return Decision(Verdict.NOT_OPEN, facts=(window.not_before_ms,))
    units = sum(claim.quantity for claim in held if not claim.released)
    if units + request.quantity > state.limit:
        return Decision(Verdict.LIMIT_REACHED, facts=(units, state.limit))
    left = state.left(request.item, now_ms)
    if left < request.quantity:
        return Decision(Verdict.SOLD_OUT, facts=(left, state.next_wave(request.item, now_ms)))
    state.serial += 1
    state.taken[request.item] += request.quantity
    stored = StoredClaim(
        request.nonce,
        state.serial,
        request.item,
        request.quantity,
        released=False,
        at_ms=now_ms,
        town=request.town,
        slogan=request.slogan,
    )
    state.claims.setdefault(request.subject, []).append(stored)
    return Decision(Verdict.ACCEPTED, state.serial, request.item, request.quantity, now_ms)


def _shut(state: DropState, epoch: int, now_ms: int) -> Decision | None:
    """The verdict that holds for every new claim, whoever asks; None when claims are taken."""
    if epoch != state.epoch or state.fenced:
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
            return "released"
    return "unknown"
