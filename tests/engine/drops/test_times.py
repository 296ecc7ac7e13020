"""The promise: the schedule knows each time of an open drop once, and nothing of a draft or of a closed one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.drops import times
from engine.drops.model import Drop, Status
from tests.factories.drops import drop_spec

NOW = datetime(2025, 6, 14, 2, tzinfo=UTC)


def drop(status: Status = Status.LAUNCHED, waves: list[float] | None = None) -> Drop:
    """A drop of an hour, with waves so many minutes after its opening."""
    parts = [{"at": (NOW + timedelta(minutes=at)).isoformat(), "stock": {"box": 1}} for at in waves or []]
    return Drop(drop_spec("trial", NOW, stock=len(parts) or 10, waves=parts), status, 2, 1)


def test_a_draft_and_a_closed_drop_have_none() -> None:
    assert times.jobs(drop(Status.DRAFT)) == times.jobs(drop(Status.CLOSED)) == []


def test_an_open_drop_has_its_opening_its_waves_and_its_close() -> None:
    for status in (Status.LAUNCHED, Status.PAUSED):
        found = times.jobs(drop(status, [0, 15.5]))
        assert [(job.kind, job.at - NOW) for job in found] == [
            ("drop-opens", timedelta(0)),
            ("wave", timedelta(0)),
            ("wave", timedelta(minutes=15.5)),
            ("drop-closes", timedelta(hours=1)),
        ]
    assert [job.kind for job in times.jobs(drop())] == ["drop-opens", "wave", "drop-closes"]


@given(st.lists(st.integers(0, 59), max_size=20))
def test_times_are_named_once(minutes: list[int]) -> None:
    found = times.jobs(drop(waves=[float(minute) for minute in minutes]))
    names = [(job.kind, job.name) for job in found]
    assert len(set(names)) == len(names) == 2 + len(set(minutes) or {0})
    assert all(datetime.fromisoformat(job.name) == job.at for job in found)


def test_a_time_has_one_name_in_all_time_zones() -> None:
    moved = NOW.astimezone(datetime.fromisoformat("2025-06-14T10:00:00+08:00").tzinfo)
    spec = drop_spec("trial", moved)
    assert times.jobs(replace(drop(), spec=spec)) == times.jobs(drop())
