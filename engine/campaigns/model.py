"""What a campaign may do next, and what its drops still lack to be as it says: pure, without a clock.

An act on a campaign is written down first, and then done on its drops, one by one. What is left to do follows from the
campaign and the drops alone (`plan`), so whoever sends the act again after it was cut off goes on where it ended.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, NamedTuple

from engine.campaigns.spec import CampaignSpec, differences
from engine.drops.model import (
    Actor,
    Control,
    Drop,
    DuplicateDrop,
    StaleRevision,
    Status,
    Verb,
    WrongStatus,
)
from engine.drops.model import after as drop_after
from engine.drops.spec import DropSpec
from engine.errors import Refused

# verb: the statuses it may start from, and the status after it (None: unchanged). From the latter it may be sent again.
_STEPS: Mapping[Verb, tuple[frozenset[Status], Status | None]] = {
    Verb.LAUNCH: (frozenset({Status.DRAFT}), Status.LAUNCHED),
    Verb.PAUSE: (frozenset({Status.LAUNCHED}), Status.PAUSED),
    Verb.RESUME: (frozenset({Status.PAUSED}), Status.LAUNCHED),
    Verb.AMEND: (frozenset({Status.DRAFT, Status.LAUNCHED, Status.PAUSED}), None),
    Verb.CLOSE: (frozenset({Status.LAUNCHED, Status.PAUSED}), Status.CLOSED),
}


class NoSuchCampaign(Refused):
    code: ClassVar[str] = "no-such-campaign"


class DuplicateCampaign(Refused):
    code: ClassVar[str] = "duplicate-campaign"


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as the ledger records it; `revision` counts the acts on it."""

    spec: CampaignSpec
    status: Status
    revision: int

    @property
    def id(self) -> str:
        return self.spec.id


def acted(campaign: Campaign, verb: Verb) -> Campaign:
    """The campaign after an act; itself where it is so already. Raises `WrongStatus`."""
    starts, ends = _STEPS[verb]
    if campaign.status is ends:
        return campaign
    if campaign.status not in starts:
        raise WrongStatus(
            f"campaign {campaign.id!r} is {campaign.status}: {verb} needs it to be {' or '.join(sorted(starts))}",
            status=str(campaign.status),
            allowed_from=sorted(starts),
        )
    return replace(campaign, status=ends or campaign.status, revision=campaign.revision + 1)


def amended(campaign: Campaign, spec: CampaignSpec, expected_revision: int) -> Campaign:
    """The campaign with another definition; itself where this very amendment was the last act on it.

    Raises `WrongStatus`, and `StaleRevision` when it is not at the revision that the operator saw.
    """
    if campaign.revision == expected_revision + 1 and campaign.spec == spec:
        return campaign
    if campaign.revision != expected_revision:
        raise StaleRevision(
            f"campaign {campaign.id!r} is at revision {campaign.revision}, not {expected_revision}: read it again",
            revision=campaign.revision,
        )
    return replace(acted(campaign, Verb.AMEND), spec=spec)


class Step(NamedTuple):
    """One act on one drop; `revision` is the drop's that it follows, 0 where there is none yet."""

    verb: Verb
    drop: DropSpec
    revision: int
    change: Mapping[str, Any]

    def actor(self, member_id: str, campaign: Campaign) -> Actor:
        """The operator with this step's id: the same whoever does it, so that it is done once."""
        whole = f"campaign:{campaign.id}:{campaign.revision}"
        return Actor(member_id, part_of=f"{whole}:{self.drop.id}:{self.revision}:{self.verb}")


def plan(campaign: Campaign, verb: Verb, drops: Mapping[str, Drop]) -> list[Step]:
    """What is left to do for the drops to be as the campaign says, in order; `verb` is the act on the campaign.

    First all drops are there and know their whole family, then they are launched: a launched drop whose relative is
    not there decides nothing, and one that does not know of another would not count it. Raises `DuplicateDrop` for a
    drop of somebody else's that has one of the ids.
    """
    specs = campaign.spec.placed()
    for spec in specs:
        found = drops.get(spec.id)
        if found is not None and (found.spec.campaign is None or found.spec.campaign.id != campaign.id):
            raise DuplicateDrop(f"there is a drop {spec.id!r} already: choose another id", drop_id=spec.id)
    creates = [Step(Verb.CREATE, spec, 0, {}) for spec in specs if spec.id not in drops]
    there = [(spec, drops[spec.id]) for spec in specs if spec.id in drops]
    changes = [(spec, drop, _change(spec, drop)) for spec, drop in there]
    amends = [Step(Verb.AMEND, spec, drop.revision, change) for spec, drop, change in changes if change]
    told = {step.drop.id: step.revision + 1 for step in (*creates, *amends)}
    statuses = [(spec, told.get(spec.id, 0) or drops[spec.id].revision, _status(drops.get(spec.id))) for spec in specs]
    moves = [
        Step(move, spec, revision, {})
        for spec, revision, status in statuses
        if (move := _move(campaign.status, verb, status)) is not None
    ]
    return [*creates, *amends, *moves]


def check(steps: Iterable[Step], drops: Mapping[str, Drop], now: datetime) -> None:
    """Raise what a drop would answer to its amendment now, such as that it has opened already; before any is done."""
    for step in steps:
        if step.verb is Verb.AMEND:
            control = Control(Verb.AMEND, step.revision + 1, "", now, "", {"spec": step.change})
            drop_after(drops[step.drop.id], control)


def _status(drop: Drop | None) -> Status:
    return Status.DRAFT if drop is None else drop.status


def _change(spec: DropSpec, drop: Drop) -> Mapping[str, Any]:
    """What a drop must be told; a closed one decides nothing any more, and is left as it is."""
    if drop.status is Status.CLOSED or drop.spec == spec:
        return {}
    if drop.status is not Status.DRAFT:
        return differences(drop.spec, spec)
    names = {name for name in DropSpec.model_fields if getattr(drop.spec, name) != getattr(spec, name)}
    return spec.model_dump(mode="json", by_alias=True, include={*names, "waves"})


def _move(wanted: Status, verb: Verb, status: Status) -> Verb | None:
    """The act that brings a drop to where the campaign is; a drop that was paused alone is resumed by resuming all."""
    match wanted, status:
        case Status.LAUNCHED, Status.DRAFT:
            return Verb.LAUNCH
        case Status.LAUNCHED, Status.PAUSED if verb is Verb.RESUME:
            return Verb.RESUME
        case Status.PAUSED, Status.LAUNCHED:
            return Verb.PAUSE
        case Status.CLOSED, Status.LAUNCHED | Status.PAUSED:
            return Verb.CLOSE
        case _:
            return None
