"""What an amendment would change, and for whom, told before it is done: pure.

The review's token stands for the campaign at one revision and for one change: the amendment is done only with it, so
that what was reviewed is what is done.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any, ClassVar, NamedTuple

from engine.campaigns.model import Campaign, Step
from engine.campaigns.spec import CampaignSpec
from engine.drops.membership import Period, Scope, runs
from engine.drops.model import Verb, from_ms, to_ms
from engine.errors import Invalid


class ReviewRequired(Invalid):
    """An amendment without its review, or with that of another change or revision."""

    code: ClassVar[str] = "review-required"


class Difference(NamedTuple):
    """A field that changes, by its place such as `limits.per_day`; None where there is nothing before or after."""

    field: str
    before: Any
    after: Any


class LimitChange(NamedTuple):
    """A limit after the amendment, and since when what is held counts for it now; `till` is None for ever."""

    period: Period
    before: int | None
    after: int
    since: datetime
    till: datetime | None


def token(campaign_id: str, revision: int, change: Mapping[str, Any]) -> str:
    """The token of a review: anybody can work it out, it keeps nobody out but a mistake."""
    text = json.dumps([campaign_id, revision, change], sort_keys=True, ensure_ascii=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def check(given: str | None, campaign_id: str, revision: int, change: Mapping[str, Any]) -> None:
    """Raise `ReviewRequired` unless the token is that of this change of this revision."""
    if given != token(campaign_id, revision, change):
        what = "no review was sent" if given is None else "the review is of another change or another revision"
        raise ReviewRequired(f"{what}: ask with `?dry_run=true`, read it, and send its `review` with the same body")


def differences(before: CampaignSpec, after: CampaignSpec) -> list[Difference]:
    """Each field that changes; a drop's fields by its id, such as `drops.goose.closes_at`."""
    return list(_differences("", _by_id(before), _by_id(after)))


def limit_changes(before: CampaignSpec, after: CampaignSpec, now: datetime) -> list[LimitChange]:
    """The limits that become lower, are new, or count more drops: those that somebody may hold more than."""
    old = dict(before.limits.stated())
    is_wider = not set(after.counting) <= set(before.counting)
    found = []
    for period, limit in after.limits.stated():
        if is_wider or before.time_zone != after.time_zone or limit < old.get(period, limit + 1):
            scope = Scope(int(period), limit, tuple(runs(period, after.time_zone, now, now)))
            since, till = scope.at(to_ms(now))
            ends = None if period is Period.IN_ALL else from_ms(till)
            found.append(LimitChange(period, old.get(period), limit, from_ms(since), ends))
    return found


def told(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """What each drop is told, in the order in which it is told; a drop that joins comes first, and is launched last."""
    return [
        {"drop_id": step.drop.id, "act": str(step.verb), "fields": sorted(step.change)}
        for step in steps
        if step.verb is not Verb.AMEND or step.change
    ]


def window_changes(campaign: Campaign, after: CampaignSpec, claims: Mapping[str, int]) -> list[dict[str, Any]]:
    """The drops whose window changes, with the claims that members hold on them."""
    found = []
    for drop in after.drops:
        old = campaign.spec.drop(drop.id)
        if old is not None and (old.opens_at, old.closes_at) != (drop.opens_at, drop.closes_at):
            found.append(
                {
                    "drop_id": drop.id,
                    "before": [old.opens_at, old.closes_at],
                    "after": [drop.opens_at, drop.closes_at],
                    "claims_held": claims.get(drop.id, 0),
                }
            )
    return found


def _by_id(spec: CampaignSpec) -> dict[str, Any]:
    whole = spec.model_dump(by_alias=True)
    return {**whole, "drops": {drop["id"]: drop for drop in whole["drops"]}}


def _differences(place: str, before: Any, after: Any) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            yield from _differences(f"{place}.{name}" if place else str(name), before.get(name), after.get(name))
    elif before != after:
        yield Difference(place, before, after)
