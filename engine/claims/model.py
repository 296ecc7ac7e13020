"""What the store decides about a claim, and what each refusal is called and says: pure."""

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import IntEnum
from typing import ClassVar, NamedTuple

import msgspec

from engine.drops.membership import Period
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


def _campaign_limit_reached(facts: tuple[int, ...], _now_ms: int) -> FlashclaimError:
    kind, held, limit, until_ms = facts
    period = Period(kind)
    ends = None if period is Period.IN_ALL else from_ms(until_ms)
    return CampaignLimitReached(
        f"the limit of this campaign is {limit} for each person {period.words}, and you hold {held}"
        + (f"; it counts anew from {ends.isoformat()}" if ends else ""),
        limit=period.name.lower(),
        limit_per_person=limit,
        held=held,
        remaining=max(0, limit - held),
        counts_anew_at=ends,
    )


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
