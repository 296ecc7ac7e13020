"""What the schedule does for a drop, and when: pure."""

from datetime import UTC, datetime

from engine.drops.model import Drop, Status
from engine.schedule.model import Planned

KINDS = ("drop-opens", "wave", "drop-closes", "draw-closes", "draw-reveals", "draw-awards")
OPENS, WAVE, CLOSES, DRAW_CLOSES, DRAW_REVEALS, DRAW_AWARDS = KINDS


def jobs(drop: Drop) -> list[Planned]:
    """Its opening, its waves, its close, and the steps of its draw; of a closed drop those alone, none for a draft.

    A job is named by its time: where that is moved, another one takes its place, and what was done stays done.
    """
    if drop.status is Status.DRAFT:
        return []
    if drop.status is Status.CLOSED:
        return _of_draw(drop)
    waves = {name(wave.at): wave.at for wave in drop.spec.releases()}
    return [
        Planned(OPENS, name(drop.spec.opens_at), drop.spec.opens_at),
        *(Planned(WAVE, named, at) for named, at in waves.items()),
        Planned(CLOSES, name(drop.spec.closes_at), drop.spec.closes_at),
        *_of_draw(drop),
    ]


def _of_draw(drop: Drop) -> list[Planned]:
    if drop.spec.draw is None:
        return []
    beacon = drop.spec.draw.beacon
    return [
        Planned(DRAW_CLOSES, name(drop.spec.closes_at), drop.spec.closes_at),
        *(Planned(DRAW_REVEALS, str(each.round), each.due_at) for each in beacon.rounds if beacon.url),
        Planned(DRAW_AWARDS, "awards", beacon.rounds[0].due_at),
    ]


def name(at: datetime) -> str:
    """A time as the name of a job."""
    return at.astimezone(UTC).isoformat()
