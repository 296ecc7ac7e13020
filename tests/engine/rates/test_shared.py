"""The promise: shared buckets hold over processes, and a limiter that is away, hangs or dies stops no claim."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

import lua
from engine.bounds import BATCH_CLAIMS_MAX, RATES_WAIT_S_MAX
from engine.claims.durability import Durability
from engine.claims.store import RedisStore
from engine.rates.model import Bucket, Rate, SlowDown
from engine.rates.shared import SharedBuckets
from engine.runtime.connections import open_redis
from engine.runtime.servers import EmbeddedValkey

RATE = Rate("member", "claims", 5)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path)
    server.start()
    yield server
    server.stop()


class Ways:
    """Ways to a store, closed at the end."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open: list[RedisStore] = []

    def open(self) -> RedisStore:
        self._open.append(RedisStore(open_redis(self._url), Durability("memory", is_checked=False)))
        return self._open[-1]

    async def aclose(self) -> None:
        for way in self._open:
            way.close()
        await asyncio.sleep(0)


@pytest.fixture
async def ways(valkey: EmbeddedValkey) -> AsyncIterator[Ways]:
    async with aclosing(Ways(valkey.url)) as found:
        yield found


async def admitted(shared: SharedBuckets, wanted: Sequence[Bucket]) -> bool:
    try:
        await shared.spend(wanted)
    except SlowDown:
        return False
    return True


def uncounted() -> float:
    return REGISTRY.get_sample_value("flashclaim_rates_uncounted_total") or 0.0


class TestCounted:
    async def test_two_processes_share_a_bucket(self, ways: Ways) -> None:
        one, other = SharedBuckets(ways.open()), SharedBuckets(ways.open())
        answers = await asyncio.gather(*(admitted(which, [Bucket("m", RATE)]) for which in (one, other) * 10))
        assert Counter(answers)[True] in (5, 6)  # one more has come due when the machine is slow
        assert await admitted(one, [Bucket("another", RATE)])

    async def test_the_refusal_names_whose_rate_it_was_and_when(self, ways: Ways) -> None:
        shared, slow = SharedBuckets(ways.open()), Rate("client key", "claims", 1, burst=1)
        wanted = [Bucket("m", RATE), Bucket("app", slow)]
        await shared.spend(wanted)
        with pytest.raises(SlowDown, match="from this client key") as refused:
            await shared.spend(wanted)
        assert refused.value.facts == {"whose": "client key"}

    async def test_arrivals_gather_while_a_call_is_under_way(self, ways: Ways) -> None:
        store, sizes = ways.open(), []

        class Counted:
            async def run(self, script: lua.Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
                sizes.append(len(arguments))
                return await store.run(script, keys, arguments)

        shared = SharedBuckets(Counted())
        asked = [asyncio.create_task(admitted(shared, [Bucket(f"m-{n}", RATE)])) for n in range(2_000)]
        assert all(await asyncio.gather(*asked))
        assert sum(sizes) == 2_000
        assert max(sizes) == BATCH_CLAIMS_MAX

    async def test_a_rate_of_less_than_a_millisecond_is_counted_too(self, ways: Ways) -> None:
        """A bucket that is full again within the store's unit of expiry must not make the script fail."""
        before, shared = uncounted(), SharedBuckets(ways.open())
        wanted = [Bucket("m", Rate("member", "claims", 1_000_000, burst=1))]
        await asyncio.gather(*(admitted(shared, wanted) for _ in range(100)))
        assert uncounted() == before

    async def test_nothing_stays_when_the_buckets_are_full_again(self, ways: Ways, valkey: EmbeddedValkey) -> None:
        quick = Rate("member", "claims", 100, burst=1)
        shared = SharedBuckets(ways.open())
        await asyncio.gather(*(admitted(shared, [Bucket(f"m-{n}", quick)]) for n in range(1_000)))
        client = open_redis(valkey.url)
        async with asyncio.timeout(5):
            while await client.dbsize():  # noqa: ASYNC110 (the store tells nobody that a key has gone)
                await asyncio.sleep(0.05)
        await client.aclose()


class TestAway:
    def test_its_figure_is_of_claims_and_of_ticket_requests(self) -> None:
        (shown,) = [metric for metric in REGISTRY.collect() if metric.name == "flashclaim_rates_uncounted"]
        assert shown.documentation.startswith("Claims and ticket requests that ")

    async def test_a_store_that_is_killed_stops_nothing_and_counts_again_when_it_is_back(
        self, ways: Ways, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("engine.rates.shared.RATES_AWAY_S", 0.2)
        shared, wanted = SharedBuckets(ways.open()), [Bucket("m", RATE)]
        await shared.spend(wanted)
        before = uncounted()
        with capture_logs() as logs:
            assert valkey.pid is not None
            os.kill(valkey.pid, signal.SIGKILL)
            assert all([await admitted(shared, wanted) for _ in range(50)])
            assert uncounted() == before + 50
            valkey.stop()  # reaps it
            valkey.start()
            async with asyncio.timeout(10):
                while await admitted(shared, wanted):  # noqa: ASYNC110 (nobody tells that it is back)
                    await asyncio.sleep(0.01)
        assert [entry["log_level"] for entry in logs] == ["warning", "warning"]
        assert "is away" in logs[0]["event"]
        assert "is back" in logs[1]["event"]

    async def test_a_store_that_hangs_costs_each_claim_no_more_than_the_bound(
        self, ways: Ways, valkey: EmbeddedValkey
    ) -> None:
        shared, wanted = SharedBuckets(ways.open()), [Bucket("m", RATE)]
        await shared.spend(wanted)
        assert valkey.pid is not None
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            since_s = time.monotonic()
            assert all(await asyncio.gather(*(admitted(shared, wanted) for _ in range(600))))
            assert time.monotonic() - since_s < RATES_WAIT_S_MAX * 2
        finally:
            os.kill(valkey.pid, signal.SIGCONT)

    async def test_whatever_breaks_the_claims_go_on_and_every_one_is_told_once(self) -> None:
        class Broken:
            async def run(self, script: lua.Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
                raise ValueError("no such thing")

        shared, told = SharedBuckets(Broken()), list[SlowDown | None]()
        for _ in range(3):
            shared.ask([Bucket("m", RATE)], told.append)
        await shared.drain()
        assert told == [None] * 3
