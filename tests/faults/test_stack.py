"""The promise: the drivers of the faults do what they say: a part that is frozen stands still, a replica takes over."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.faults.proxy import STALLED
from tests.faults.stack import Stack

FOLLOWED_S_MAX = 20.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="fc-fault-") as name:
        Path(name).chmod(0o755)
        made = Stack(Path(name))
        made.start()
        yield made
        made.stop()
        assert made.survivors() == []


def test_a_frozen_part_stands_still_and_goes_on(stack: Stack) -> None:
    with Redis.from_url(stack.settings.redis_url, socket_timeout=0.5) as client:
        stack.valkey.freeze()
        with pytest.raises(RedisTimeoutError):
            client.ping()
        stack.valkey.thaw()
        assert client.ping()


def test_a_replica_that_lags_is_promoted_without_what_came_meanwhile(stack: Stack) -> None:
    replica = stack.start_replica()
    with Redis.from_url(stack.environment("api")["FLASHCLAIM_REDIS_URL"], socket_timeout=2) as client:
        client.set("before", 1)
        _wait_until_followed(client)
        stack.lines["replica", "valkey"].carry(STALLED)
        client.set("meanwhile", 1)
        stack.valkey.kill()
        stack.promote(replica)
        assert (client.exists("before"), client.exists("meanwhile")) == (1, 0)
    stack.wait_until_ready()


def _wait_until_followed(client: "Redis") -> None:
    deadline = time.monotonic() + FOLLOWED_S_MAX
    while not client.wait(1, 100):
        assert time.monotonic() < deadline, "the replica does not follow"
