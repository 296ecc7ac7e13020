"""The promise: the doctor says what is away or unsafe, and which promise a setting gives up."""

from datetime import timedelta

import pytest
from sqlalchemy import func, insert, text

from engine.claims import keys
from engine.ledger.schema import schedule
from engine.runtime.connections import Stores
from engine.runtime.doctor import diagnose
from engine.runtime.settings import Settings


async def of_rates(settings: Settings, stores: Stores, url: str | None) -> list[tuple[str, str]]:
    found = await diagnose(settings.model_copy(update={"rates_redis_url": url}), stores, None)
    return [(finding.level, finding.what) for finding in found if "rates" in finding.what]


async def test_the_rates_store_is_looked_at_where_there_is_one(settings: Settings, stores: Stores) -> None:
    assert await of_rates(settings, stores, None) == []
    ((level, what),) = await of_rates(settings, stores, "redis://127.0.0.1:1/0")
    assert (level, "does not answer" in what) == ("warning", True)


async def test_one_that_writes_to_disk_is_a_warning(settings: Settings, stores: Stores) -> None:
    url = settings.redis_url[:-1] + "5"
    assert await of_rates(settings, stores, url) == [("warning", "the rates' store writes each count to disk")]
    await stores.redis.config_set("appendonly", "no")
    try:
        assert await of_rates(settings, stores, url) == [("ok", "the rates' store answers")]
    finally:
        await stores.redis.config_set("appendonly", "yes")


async def test_a_store_that_was_not_compared_is_an_error_with_what_to_do(settings: Settings, stores: Stores) -> None:
    assert not [found for found in await diagnose(settings, stores, None) if "not compared" in found.what]
    await stores.redis.set(keys.home(0), "another store")
    (found,) = [found for found in await diagnose(settings, stores, None) if "not compared" in found.what]
    assert (found.level, "flashclaim worker" in found.advice) == ("error", True)


@pytest.mark.parametrize(
    ("statement", "said"),
    [("update homes set home = 'another store'", "names another store"), ("delete from homes", "names no store")],
)
async def test_a_store_that_the_ledger_does_not_name_is_an_error(
    settings: Settings, stores: Stores, statement: str, said: str
) -> None:
    async with stores.ledger.begin() as connection:
        await connection.execute(text(statement))
    (found,) = [found for found in await diagnose(settings, stores, None) if said in found.what]
    assert (found.level, "flashclaim worker" in found.advice) == ("error", True)


async def test_tokens_that_are_bound_to_nothing_are_a_warning(settings: Settings, stores: Stores) -> None:
    changes = {"session_secret": None, "session_jwks_url": "https://identity.example.org/keys"}
    loose = settings.model_copy(update={**changes, "session_issuer": "https://identity.example.org"})
    (found,) = [found for found in await diagnose(loose, stores, None) if "bound" in found.what]
    assert (found.level, "set session_audience" in found.advice) == ("warning", True)
    bound = loose.model_copy(update={"session_audience": "flashclaim"})
    assert not [found for found in await diagnose(bound, stores, None) if "bound" in found.what]


@pytest.mark.parametrize(("partitions", "levels"), [(1, []), (2, ["warning"])])
async def test_more_than_one_partition_is_a_warning_that_names_the_promise(
    settings: Settings, stores: Stores, partitions: int, levels: list[str]
) -> None:
    split = settings.model_copy(update={"partitions": partitions})
    found = [finding for finding in await diagnose(split, stores, None) if "sold out" in finding.what]
    assert [finding.level for finding in found] == levels
    assert all("promise 9" in finding.advice for finding in found)


def test_the_setting_itself_says_so() -> None:
    assert "promise 9 is not kept" in str(Settings.model_fields["partitions"].description)


@pytest.mark.parametrize(
    ("state", "late_s", "level", "said", "advised"),
    [
        ("waiting", 0, "ok", "the schedule is on time", ""),
        ("waiting", 3_600, "error", "the schedule is 36", "flashclaim worker"),
        ("failed", 3_600, "error", "1 jobs of the schedule have failed", "flashclaim schedule list --state failed"),
        ("cancelled", 3_600, "ok", "the schedule is on time", ""),
        ("done", 3_600, "ok", "the schedule is on time", ""),
    ],
)
async def test_a_schedule_that_is_late_or_has_failed_is_an_error_with_what_to_do(
    settings: Settings, stores: Stores, state: str, late_s: int, level: str, said: str, advised: str
) -> None:
    async with stores.ledger.begin() as connection:
        job = {"kind": "chime", "object": "bell:1", "name": "a", "payload": {}, "state": state}
        at = func.now() - timedelta(seconds=late_s)
        await connection.execute(insert(schedule).values(due_at=at, next_at=at, **job))
    (found,) = [finding for finding in await diagnose(settings, stores, None) if "schedule" in finding.what]
    assert (found.level, found.what.startswith(said), advised in found.advice) == (level, True, True)
