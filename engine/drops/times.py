"""What the schedule does for a drop, and when: pure."""

from datetime import UTC, datetime

from engine.drops.model import Drop, Status
from engine.schedule.model import Planned

OPENS, WAVE, CLOSES = KINDS = ("drop-opens", "wave", "drop-closes")


def jobs(drop: Drop) -> list[Planned]:
    """Its opening, its waves, its close; none for a draft, nor for a drop that was closed.

    A job is named by its time: where that is moved, another one takes its place, and what was done stays done.
    """
    if drop.status in (Status.DRAFT, Status.CLOSED):
        return []
    waves = {name(wave.at): wave.at for wave in drop.spec.releases()}
    return [
        Planned(OPENS, name(drop.spec.opens_at), drop.spec.opens_at),
        *(Planned(WAVE, named, at) for named, at in waves.items()),
        Planned(CLOSES, name(drop.spec.closes_at), drop.spec.closes_at),
    ]


def name(at: datetime) -> str:
    """A time as the name of a job."""
    return at.astimezone(UTC).isoformat()
