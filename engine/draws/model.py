"""What a draw is between its commitment and its last prize, who is offered what, and what winners are told: pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from itertools import chain, repeat
from typing import ClassVar, NamedTuple

from engine.claims.wire import NONCE_BYTES
from engine.drops.draw_rules import PRIZES_SUFFIX, DrawRules
from engine.drops.model import to_ms
from engine.drops.spec import DropSpec, parse
from engine.errors import Refused, Unavailable
from engine.ids import is_pseudonym
from engine.notices.model import Message


class State(StrEnum):
    COMMITTED = "committed"
    CLOSED = "closed"
    REVEALED = "revealed"
    VOID = "void"  # there will be no result: commit a new draw


class AwardState(StrEnum):
    WAITING = "waiting"  # on the waiting list
    OFFERED = "offered"
    CLAIMED = "claimed"  # the prize's claim is in the ledger
    LAPSED = "lapsed"  # not claimed until `confirm_by`
    DECLINED = "declined"  # by the member, or by giving the entry back


class NoSuchDraw(Refused):
    code: ClassVar[str] = "no-such-draw"


class WrongStage(Refused):
    """The act does not fit the draw's stage: what is not closed cannot be revealed."""

    code: ClassVar[str] = "wrong-stage"


class NoAward(Refused):
    """No prize is offered to this member: they did not win, or it was declined, or its time is over."""

    code: ClassVar[str] = "no-award"


class DrawAltered(Refused):
    """What the ledger holds of a draw is not what was published: somebody wrote into it."""

    code: ClassVar[str] = "draw-altered"


class BeaconUnavailable(Unavailable):
    """The beacon's value cannot be read at its address now."""

    code: ClassVar[str] = "beacon-unavailable"


@dataclass(frozen=True, slots=True)
class Draw:
    """A draw as anybody may see it: its secret and its document are not in it."""

    drop_id: str
    state: State
    commitment: str
    root: str | None
    entrants: int | None
    committed_at: datetime
    closed_at: datetime | None
    revealed_at: datetime | None


class Award(NamedTuple):
    """A place of a revealed draw; `prize` is none, and so are the times, while its person waits."""

    draw_id: str
    place: int
    entrant: str
    member_id: str
    subject: str
    prize: str | None
    state: AwardState
    offered_at: datetime | None
    confirm_by: datetime | None


class Offer(NamedTuple):
    """What a member may take a ticket for, and until when."""

    prize: str
    confirm_by: datetime


def granted(offer: Offer | None, item: str | None, expires_ms: int) -> tuple[str, int, int]:
    """Item, quantity and expiry of a ticket for what is offered; raises `NoAward` for anything else."""
    if offer is None:
        raise NoAward("no prize of this draw is offered to you now: see GET /v1/me/awards")
    if item not in (None, offer.prize):
        raise NoAward(f"what is offered to you is {offer.prize!r}: ask for that, or for no item", prize=offer.prize)
    return offer.prize, 1, min(expires_ms, to_ms(offer.confirm_by))


def prizes_id(draw_id: str) -> str:
    """The drop that gives out a draw's prizes."""
    return draw_id + PRIZES_SUFFIX


def draw_of(prizes_drop_id: str) -> str:
    """The reverse of `prizes_id`."""
    return prizes_drop_id.removesuffix(PRIZES_SUFFIX)


def rules_of(spec: DropSpec) -> DrawRules:
    """The rules of a draw drop; raises `NoSuchDraw` for any other drop."""
    if spec.draw is None:
        raise NoSuchDraw(f"drop {spec.id!r} is no draw: its allocation is {spec.allocation}", drop_id=spec.id)
    return spec.draw


def prizes_spec(spec: DropSpec) -> DropSpec:
    """The drop that gives out the prizes: by it they are claimed, recorded, audited and released as all else is."""
    rules = rules_of(spec)
    return parse(
        {
            "id": prizes_id(spec.id),
            "title": spec.title,
            "organisation": spec.organisation,
            "allocation": "grant",
            "opens_at": spec.opens_at,  # it is launched at the reveal, and by then that is past
            "closes_at": rules.collect_until,
            "limit_per_member": 1,  # one prize a person, over all levels
            "items": [prize.model_dump() for prize in rules.prizes],
        },
        "prizes",
    )


def nonce(draw_id: str, place: int) -> bytes:
    """The nonce of the one ticket by which the service itself claims a prize for its winner."""
    return blake2b(f"{draw_id}\0{place}".encode(), digest_size=NONCE_BYTES).digest()


def confirm_by(rules: DrawRules, offered_at: datetime, closes_at: datetime) -> datetime:
    """Until when an offer stands; `closes_at` is when the prizes' drop closes."""
    if rules.confirm is None:
        return closes_at
    return min(offered_at + timedelta(hours=rules.confirm.within_hours), closes_at)


def replacements(
    stock: Iterable[tuple[str, int]], held: Mapping[str, int], waiting: Sequence[int]
) -> Iterator[tuple[int, str]]:
    """Who of the waiting list is offered what is free now: places and prizes, both in order.

    `stock` are the units of each prize, the first level first; `held` are those that are claimed, or may be.
    """
    free = chain.from_iterable(repeat(prize, max(0, units - held.get(prize, 0))) for prize, units in stock)
    return zip(waiting, free, strict=False)


_KINDS: Mapping[AwardState, str] = {
    AwardState.OFFERED: "draw-won",
    AwardState.CLAIMED: "prize-arrived",
    AwardState.WAITING: "draw-waiting",
    AwardState.LAPSED: "draw-lapsed",
    AwardState.DECLINED: "draw-declined",
}


def messages_for(spec: DropSpec, awards: Iterable[Award]) -> list[Message]:
    """What the people of these awards are told (engine/notices/kinds.py); the same award in the same state once.

    Where nobody has to confirm, a prize that is offered is told of once it has arrived.
    """
    rules = rules_of(spec)
    prizes: dict[str, Mapping[str, str]] = {prize.id: dict(prize.title.items()) for prize in rules.prizes}
    return [
        _message(spec, award, prizes.get(award.prize or "", {}))
        for award in awards
        if (rules.confirm is not None or award.state is not AwardState.OFFERED) and not is_pseudonym(award.member_id)
    ]


def _message(spec: DropSpec, award: Award, prize: Mapping[str, str]) -> Message:
    facts: dict[str, object] = {"draw": dict(spec.title.items()), "draw_id": award.draw_id}
    if prize:
        facts |= {"prize": dict(prize), "prize_id": award.prize}
    if award.confirm_by is not None:
        facts["until"] = f"{award.confirm_by.astimezone(spec.closes_at.tzinfo):%Y-%m-%d %H:%M}"
    return Message(award.member_id, _KINDS[award.state], facts, f"draw:{award.draw_id}:{award.place}:{award.state}")
