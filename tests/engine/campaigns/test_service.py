"""The promise: an act that was cut off, wherever, is finished by the same command, and done once.

Each act is cut off before and behind each of its steps on the drops; then the store or the ledger has half of it.
"""

from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from engine.campaigns import review
from engine.campaigns.model import Campaign
from engine.campaigns.service import Campaigns
from engine.campaigns.spec import CampaignSpec
from engine.claims.model import NotReady
from engine.drops.model import Drop, Status, Verb
from engine.drops.service import Drops
from engine.ledger import actions
from engine.members.service import Members
from engine.organisations.service import Organisations
from engine.runtime.connections import Stores
from engine.towns import load
from tests.factories.campaigns import campaign_spec, part
from tests.factories.ledger import record_all

NAMES = ("goose", "mooncake")
CHANGE = {"limits": {"in_all": 2}, "drops": [part("goose"), part("mooncake"), part("meat")]}


class Cut(Exception):
    """The process dies here."""


class Dying(Drops):
    """The drop service of a process that dies at its n-th act, before it or right behind it."""

    def __init__(self, stores: Stores, at: int, *, is_behind: bool) -> None:
        super().__init__(stores.redis, stores.scripts, stores.ledger, 1)
        self._acts = count(1)
        self._at = at
        self._is_behind = is_behind

    async def _act(self, *given: Any, **more: Any) -> Drop:
        is_last = next(self._acts) == self._at
        if is_last and not self._is_behind:
            raise Cut
        drop = await super()._act(*given, **more)
        if is_last:
            raise Cut
        return drop


def process(stores: Stores, drops: Drops | None = None) -> Campaigns:
    drops = drops or Drops(stores.redis, stores.scripts, stores.ledger, 1)
    members = Members(stores.ledger, Organisations(stores.ledger), load())
    return Campaigns(stores.redis, stores.ledger, drops, members, 1, load(), ZoneInfo("Asia/Shanghai"))


def amend(campaigns: Campaigns) -> Awaitable[Campaign]:
    return campaigns.amend("autumn", CHANGE, 2, review.token("autumn", 2, CHANGE), "boss")


ACTS: dict[str, Callable[[Campaigns, CampaignSpec], Awaitable[Campaign]]] = {
    "create": lambda campaigns, spec: campaigns.create(spec, "boss"),
    "launch": lambda campaigns, _: campaigns.act("autumn", Verb.LAUNCH, "boss"),
    "amend": lambda campaigns, _: amend(campaigns),
    "pause": lambda campaigns, _: campaigns.act("autumn", Verb.PAUSE, "boss"),
    "resume": lambda campaigns, _: campaigns.act("autumn", Verb.RESUME, "boss"),
    "close": lambda campaigns, _: campaigns.act("autumn", Verb.CLOSE, "boss"),
}
STEPS = {"create": 2, "launch": 2, "amend": 4, "pause": 3, "resume": 3, "close": 3}
AFTER = {"create": Status.DRAFT, "launch": Status.LAUNCHED, "amend": Status.LAUNCHED, "pause": Status.PAUSED,
         "resume": Status.LAUNCHED, "close": Status.CLOSED}  # fmt: skip


def cuts() -> Iterator[tuple[str, int, bool]]:
    for act, steps in STEPS.items():
        for at in range(1, steps + 1):
            yield from ((act, at, is_behind) for is_behind in (False, True))


@pytest.mark.parametrize(("act", "at", "is_behind"), list(cuts()))
async def test_an_act_that_was_cut_off_is_finished(stores: Stores, act: str, at: int, is_behind: bool) -> None:
    spec, campaigns = campaign_spec(*NAMES), process(stores)
    for before in list(ACTS)[: list(ACTS).index(act)]:
        await ACTS[before](campaigns, spec)
    with pytest.raises(Cut):
        await ACTS[act](process(stores, Dying(stores, at, is_behind=is_behind)), spec)
    done = await ACTS[act](process(stores), spec)
    assert done == await campaigns.read("autumn")
    drops = await campaigns.drops(done)
    assert {drop.status for drop in drops} == {done.status} == {AFTER[act]}
    assert [drop.spec for drop in drops] == list(done.spec.placed())
    again = await ACTS[act](process(stores), spec)
    assert again == done
    assert await campaigns.drops(done) == drops
    async with stores.ledger.connect() as connection:
        chain = await actions.chain(connection)
    verbs = [link.action.verb for link in chain if link.action.object == "campaign:autumn"]
    assert verbs == list(ACTS)[: list(ACTS).index(act) + 1]


async def test_a_step_that_only_the_store_has_is_recorded_by_the_worker_and_not_done_again(stores: Stores) -> None:
    """The process dies between the store and the ledger; sent too early, the command says to send it again."""
    spec, campaigns = campaign_spec(*NAMES), process(stores)
    await campaigns.create(spec, "boss")
    dying = Drops(stores.redis, stores.scripts, stores.ledger, 1)

    async def die(*_: Any) -> Drop:
        raise Cut

    dying._record = die  # type: ignore[assignment]
    with pytest.raises(Cut):
        await process(stores, dying).act("autumn", Verb.LAUNCH, "boss")
    with pytest.raises(NotReady, match="send it again"):
        await campaigns.act("autumn", Verb.LAUNCH, "boss")
    await record_all(stores)
    done = await campaigns.act("autumn", Verb.LAUNCH, "boss")
    assert [(drop.status, drop.revision) for drop in await campaigns.drops(done)] == [(Status.LAUNCHED, 2)] * 2


async def test_while_an_amendment_is_cut_off_no_new_drop_gives_out_uncounted(stores: Stores) -> None:
    """A new drop is launched last: until all others know of it, it is a draft."""
    campaigns = process(stores)
    spec = campaign_spec(*NAMES)
    await campaigns.create(spec, "boss")
    await campaigns.act("autumn", Verb.LAUNCH, "boss")
    for at in (1, 2, 3, 4):
        with pytest.raises(Cut):
            await amend(process(stores, Dying(stores, 1, is_behind=True)))
        found = {str(drop.id): drop for drop in await campaigns.drops(await campaigns.read("autumn"))}
        told = [name for name in NAMES if "meat" in found[name].relatives]
        assert len(told) == min(2, at - 1)
        assert (found["meat"].status is Status.LAUNCHED) == (at == 4)


async def test_two_operators_do_an_act_once(stores: Stores) -> None:
    """What one has begun another one finishes: a step has the same id whoever does it."""
    campaigns, spec = process(stores), campaign_spec(*NAMES)
    with pytest.raises(Cut):
        await process(stores, Dying(stores, 1, is_behind=True)).create(spec, "first")
    await campaigns.create(spec, "second")
    async with stores.ledger.connect() as connection:
        actors = [(link.action.object, link.action.actor) for link in await actions.chain(connection)]
    assert actors == [("campaign:autumn", "first"), ("drop:goose", "first"), ("drop:mooncake", "second")]
