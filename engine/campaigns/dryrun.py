"""Whether a member would get a ticket, and a claim with it, and if not, every reason: pure; nothing is used up by it.

A reason is told as the claim path would tell it, with the same code, sentence and facts (docs/reference/answers.md).
What a ticket asks for is decided by the member's session, what a claim asks for by the store; so a reason says which
of the two it stops.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from engine.claims.model import Closed, Decision, NotOpen, Verdict, refusal
from engine.claims.wire import StoredClaim
from engine.drops.figures import LiveFigures
from engine.drops.membership import Period, scopes_from, scopes_text
from engine.drops.model import Drop, Status, from_ms
from engine.errors import FlashclaimError
from engine.gates import GATES
from engine.members.model import Session, refusals
from engine.members.predicate import Known

Stops = Literal["ticket", "claim"]


class Reason(NamedTuple):
    """Why a member gets nothing now, and whether it is the ticket or the claim that they do not get."""

    stops: Stops
    error: FlashclaimError


class Asker(NamedTuple):
    """Who asks, what the ledger says of them as far as a drop asks, and the zone that says which day it is."""

    session: Session
    known: Known
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a member can expect of one drop at a moment; `limits` are the drop's own and the campaign's."""

    drop: Drop
    reasons: tuple[Reason, ...]
    gates: tuple[Mapping[str, object], ...]
    limits: tuple[Mapping[str, object], ...]
    left: Mapping[str, int]

    @property
    def ticket(self) -> bool:
        """Whether a ticket would be given, once what the gates ask is answered."""
        return all(reason.stops != "ticket" for reason in self.reasons)

    @property
    def claim(self) -> bool:
        """Whether one unit could be claimed with it at this moment."""
        return not self.reasons


def outlook(
    drop: Drop, asker: Asker, claims: Mapping[str, Sequence[StoredClaim]], figures: LiveFigures, now_ms: int
) -> Outlook:
    """The outlook of a session's member on a drop; `claims` are their subject's on each drop of the family."""
    held = sum(claim.quantity for claim in claims.get(drop.id, ()) if not claim.released)
    limits = [_own_limit(drop, held), *_campaign_limits(drop, claims, now_ms)]
    reasons = [
        *(Reason("ticket", error) for error in _before_ticket(drop, asker, now_ms)),
        *(Reason("claim", error) for error in _before_claim(drop, limits, figures, now_ms)),
    ]
    return Outlook(
        drop=drop,
        reasons=tuple(reasons),
        gates=tuple(asked(drop)),
        limits=tuple({name: limit[name] for name in _TOLD} for limit in limits),
        left={item.id: item.left for item in figures.items},
    )


_TOLD = ("limit", "limit_per_person", "held", "remaining", "counts_anew_at")


def asked(drop: Drop) -> Iterator[Mapping[str, object]]:
    """What the drop asks of whoever wants a ticket, in the gates' order, and as anybody may read it."""
    parts = drop.spec.gates.public()
    for gate in GATES:
        if gate.stands(drop):
            part = parts[gate.name.replace("-", "_")]
            yield {"gate": gate.name, **(part if isinstance(part, Mapping) else {})}


def _before_ticket(drop: Drop, asker: Asker, now_ms: int) -> Iterator[FlashclaimError]:
    if drop.status is Status.DRAFT:
        yield NotOpen("not launched yet: come back later", opens_at=drop.spec.opens_at, retry_after_s=60)
    if drop.status is Status.CLOSED or now_ms >= drop.closes_ms:
        yield Closed("closed: this drop takes no more claims")
    today = from_ms(now_ms).astimezone(asker.zone).date()
    yield from refusals(drop.spec.eligibility, asker.session, today, asker.known)


def _before_claim(
    drop: Drop, limits: Sequence[Mapping[str, Any]], figures: LiveFigures, now_ms: int
) -> Iterator[FlashclaimError]:
    if drop.status is Status.PAUSED:
        yield refusal(Decision(Verdict.PAUSED), now_ms)
    if drop.status is not Status.DRAFT and now_ms < drop.opens_ms:
        yield refusal(Decision(Verdict.NOT_OPEN, facts=(drop.opens_ms,)), now_ms)
    if not figures.is_ready:
        yield refusal(Decision(Verdict.NOT_READY), now_ms)
    for limit in limits:
        if limit["remaining"] == 0:
            yield refusal(limit["decision"], now_ms)
    if now_ms >= drop.opens_ms and all(item.left <= 0 for item in figures.items):
        coming = [at_ms for wave in drop.spec.releases() if (at_ms := round(wave.at.timestamp() * 1000)) > now_ms]
        yield refusal(Decision(Verdict.SOLD_OUT, facts=(0, min(coming, default=0))), now_ms)


def _own_limit(drop: Drop, held: int) -> dict[str, Any]:
    limit = drop.spec.limit_per_member
    decision = Decision(Verdict.LIMIT_REACHED, facts=(held, limit))
    return _limit("limit_per_member", limit, held, None, decision)


def _campaign_limits(drop: Drop, claims: Mapping[str, Sequence[StoredClaim]], now_ms: int) -> Iterator[dict[str, Any]]:
    family = (drop.id, *drop.relatives)
    theirs = [claim for drop_id in family for claim in claims.get(drop_id, ()) if not claim.released]
    at_ms = max(now_ms, drop.opens_ms)  # before the opening: what will count when it opens
    for scope in scopes_from(scopes_text(drop.spec.campaign, drop.spec.opens_at, drop.spec.closes_at)):
        since_ms, till_ms = scope.at(at_ms)
        held, period = sum(claim.quantity for claim in theirs if claim.at_ms >= since_ms), Period(scope.period)
        decision = Decision(Verdict.CAMPAIGN_LIMIT_REACHED, facts=(scope.period, held, scope.limit, till_ms))
        anew = None if period is Period.IN_ALL or not till_ms else from_ms(till_ms)
        yield _limit(period.name.lower(), scope.limit, held, anew, decision)


def _limit(name: str, limit: int, held: int, anew: datetime | None, decision: Decision) -> dict[str, Any]:
    return {
        "limit": name,
        "limit_per_person": limit,
        "held": held,
        "remaining": max(0, limit - held),
        "counts_anew_at": anew,
        "decision": decision,
    }
