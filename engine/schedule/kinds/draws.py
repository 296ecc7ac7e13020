"""What is done for a draw at its times: entries are closed, the result is revealed, offers lapse and are made anew.

Each step of engine/draws/ may be cut off and done again; so these only call them when the time has come, and look again
where it has not. A beacon without an address is read by people, who reveal the draw themselves.
"""

from collections.abc import Sequence
from datetime import datetime

from engine.bounds import BEACON_AGAIN_S
from engine.draws import beacon, store
from engine.draws.model import AwardState, BeaconUnavailable, Draw, NoSuchDraw, State, WrongStage, prizes_id, rules_of
from engine.draws.service import Draws
from engine.drops.model import Actor
from engine.schedule.handler import Work
from engine.schedule.kinds.drops import ACTOR
from engine.schedule.model import Job, Later


async def closes(jobs: Sequence[Job], work: Work) -> None:
    """Close a draw's entries and publish them, once its drop's end has come."""
    (job,) = jobs
    draws, draw = await _draw(job, work)
    if draw is None or draw.state is not State.COMMITTED:
        return
    await _when_due(datetime.fromisoformat(job.name), work)
    try:
        await draws.close(draw.drop_id, Actor(ACTOR, job.key))
    except WrongStage as error:
        raise Later(BEACON_AGAIN_S, error.detail) from None  # an earlier draw, whose misses count, is not revealed yet


async def reveals(jobs: Sequence[Job], work: Work) -> None:
    """Reveal a draw with a round of its beacon; past the time for which it is waited for, the next round's job does."""
    (job,) = jobs
    draws, draw = await _draw(job, work)
    if draw is None or draw.state not in (State.COMMITTED, State.CLOSED):
        return
    rules = rules_of((await work.drops.read(draw.drop_id)).spec)
    found = next((each for each in rules.beacon.rounds if str(each.round) == job.name), None)
    if found is None or rules.beacon.url is None:
        return
    now = await _when_due(found.due_at, work)
    if now > found.wait_until:
        return
    if draw.state is State.COMMITTED:
        raise Later(BEACON_AGAIN_S, "the entries are not closed yet")
    try:
        value = await beacon.read(rules.beacon.url, found.round, lambda: now)
    except BeaconUnavailable as error:
        raise Later(BEACON_AGAIN_S, error.detail) from None
    await draws.reveal(draw.drop_id, value, Actor(ACTOR, job.key))


async def awards(jobs: Sequence[Job], work: Work) -> None:
    """Bring a revealed draw's awards up to now, again at each time by which somebody has to confirm, to the end."""
    (job,) = jobs
    draws, draw = await _draw(job, work)
    if draw is None or draw.state is State.VOID:
        return
    if draw.state is not State.REVEALED:
        raise Later(BEACON_AGAIN_S, "the draw is not revealed yet")
    now = await _when_due(job.due_at, work)
    await draws.awarding.lapse(draw.drop_id, Actor(ACTOR, job.key))
    ends_at = (await work.drops.read(prizes_id(draw.drop_id))).spec.closes_at
    async with work.stores.ledger.connect() as connection:
        places = await store.awards_of(connection, draw.drop_id)
    open_until = [place.confirm_by for place in places if place.state is AwardState.OFFERED and place.confirm_by]
    if open_until and now <= ends_at:
        wait_s = (min(open_until) - now).total_seconds()
        raise Later(max(1.0, wait_s), f"{len(open_until)} prizes are offered")


async def _draw(job: Job, work: Work) -> tuple[Draws, Draw | None]:
    draws = Draws(work.stores, work.drops, work.partitions)
    try:
        return draws, await draws.read(job.object.removeprefix("drop:"))
    except NoSuchDraw:
        return draws, None


async def _when_due(at: datetime, work: Work) -> datetime:
    """The store's clock, which decides; `Later` where it has not come to a time yet."""
    await work.follow()
    now = await work.drops.now()
    if now < at:
        raise Later((at - now).total_seconds(), "the store's clock has not come to this time yet")
    return now
