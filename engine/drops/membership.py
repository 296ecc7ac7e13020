"""What a drop knows of its campaign: which drops count together, and the limits over all of them. Pure.

Days, weeks and months are the campaign's own, in its named time zone. The store has no time zones: it is given, for
each limit, from when on periods of which length follow each other (`runs`), and so decides by its own clock alone.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from enum import IntEnum
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from engine import ids
from engine.bounds import FAMILY_DROPS_MAX, LIMIT_PER_MEMBER_MAX
from engine.drops.fields import Part

_FOR_EVER_MS = 253_402_300_800_000  # the year 10,000
Units = Annotated[int, Field(ge=1, le=LIMIT_PER_MEMBER_MAX, strict=True)]


class Period(IntEnum):
    """Over which time a limit counts; numbered as the store is told."""

    IN_ALL = 1
    PER_DAY = 2
    PER_WEEK = 3  # from Monday on, ISO 8601
    PER_MONTH = 4

    @property
    def words(self) -> str:
        return self.name.lower().replace("_", " ").replace("per ", "a ")


class Limits(Part):
    """How many units one person may have of all drops of a campaign together, given-back ones not counted."""

    in_all: Units | None = None
    per_day: Units | None = None
    per_week: Units | None = None
    per_month: Units | None = None

    def stated(self) -> Iterator[tuple[Period, int]]:
        """The limits that there are."""
        for period in Period:
            limit: int | None = getattr(self, period.name.lower())
            if limit is not None:
                yield period, limit


def zone_name(name: str) -> str:
    """The name of a time zone that is known here, such as Asia/Shanghai."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise PydanticCustomError(
            "time_zone", "'{name}' is no time zone: write one like Asia/Shanghai", {"name": name[:60]}
        ) from None
    return name


class Membership(Part):
    """A drop's place in a campaign; written by the campaign, not by hand."""

    id: Annotated[str, AfterValidator(lambda text: ids.name(text, "campaign"))]
    time_zone: Annotated[str, Field(max_length=60), AfterValidator(zone_name)]
    limits: Limits = Limits()
    drops: Annotated[
        tuple[Annotated[str, AfterValidator(lambda text: ids.name(text, "drop"))], ...],
        Field(min_length=1, max_length=FAMILY_DROPS_MAX),
    ]

    @model_validator(mode="after")
    def _names_each_once(self) -> "Membership":
        if len(set(self.drops)) < len(self.drops):
            raise PydanticCustomError("drops", "a drop stands twice")
        return self

    def relatives(self, drop_id: str) -> tuple[str, ...]:
        """The other drops whose claims count together with this one's; none where there is no limit."""
        if not any(self.limits.stated()):
            return ()
        return tuple(sorted(other for other in self.drops if other != drop_id))


class Run(NamedTuple):
    """From `start_ms` on periods of `length_ms` follow each other, until the next run starts."""

    start_ms: int
    length_ms: int


def runs(period: Period, time_zone: str, first: datetime, last: datetime) -> list[Run]:
    """The periods that cover the time from `first` to `last`, those of equal length in one run.

    A day on which the clocks change is a run of its own, and so is each month.
    """
    if period is Period.IN_ALL:
        return [Run(0, _FOR_EVER_MS)]
    zone, found = ZoneInfo(time_zone), list[Run]()
    begin = _begin(period, first.astimezone(zone))
    while begin <= last:
        end = _next(period, begin)
        length = (end.astimezone(UTC) - begin.astimezone(UTC)) // timedelta(milliseconds=1)
        start = round(begin.timestamp() * 1000)
        if not found or found[-1].length_ms != length:
            found.append(Run(start, length))
        begin = end
    return found


def _begin(period: Period, local: datetime) -> datetime:
    midnight = datetime.combine(local.date(), time(), local.tzinfo)
    if period is Period.PER_WEEK:
        return _shifted(midnight, -midnight.weekday())
    return midnight.replace(day=1) if period is Period.PER_MONTH else midnight


def _next(period: Period, begin: datetime) -> datetime:
    if period is Period.PER_MONTH:
        return _begin(period, _shifted(begin, 32))
    return _shifted(begin, 7 if period is Period.PER_WEEK else 1)


def _shifted(midnight: datetime, days: int) -> datetime:
    """Midnight so many days later, by the calendar: a day may have 23 or 25 hours."""
    return datetime.combine(midnight.date() + timedelta(days=days), time(), midnight.tzinfo)


class Scope(NamedTuple):
    """A limit as the store has it."""

    period: int
    limit: int
    runs: tuple[Run, ...]

    def __str__(self) -> str:
        return f"{self.period}:{self.limit}:" + ";".join(f"{start},{length}" for start, length in self.runs)

    def at(self, now_ms: int) -> tuple[int, int]:
        """The period that a moment lies in: since when, and until when, in ms."""
        since, till = 0, 0
        for start, length in self.runs:
            if start <= now_ms:
                since = start + (now_ms - start) // length * length
                till = since + length
            elif not till or start < till:
                till = start
        return since, till


def scopes_text(membership: Membership | None, first: datetime, last: datetime) -> str:
    """The limits as the store takes them (`lua/includes/_scopes.lua`): `kind:limit:start,length;…` joined by `|`."""
    if membership is None:
        return ""
    return "|".join(
        str(Scope(int(period), limit, tuple(runs(period, membership.time_zone, first, last))))
        for period, limit in membership.limits.stated()
    )


def scopes_from(text: str) -> tuple[Scope, ...]:
    """The reverse of `scopes_text`."""
    found = []
    for part in filter(None, text.split("|")):
        period, limit, starts = part.split(":")
        pairs = (run.split(",") for run in starts.split(";"))
        found.append(Scope(int(period), int(limit), tuple(Run(int(start), int(length)) for start, length in pairs)))
    return tuple(found)
