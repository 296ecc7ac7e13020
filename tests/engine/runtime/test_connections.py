"""The promise: a store's connection that ends at any moment is told as that, on every event loop."""

import asyncio

import pytest
import uvloop
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from engine.runtime.connections import open_redis


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_has_just_ended_is_no_other_error(redis_url: str, loop_factory: type) -> None:
    """uvloop marks the transport as closed a turn before anybody is told: whoever writes in that turn."""

    async def write_in_that_turn() -> None:
        redis = open_redis(redis_url)
        connection = await redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        connection._writer.transport.abort()
        with pytest.raises(RedisConnectionError):
            await _ping(connection)
        await redis.connection_pool.release(connection)
        assert await redis.ping()
        await redis.aclose()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(write_in_that_turn())


async def _ping(connection: AbstractConnection) -> None:
    await connection.send_command("PING")
    await connection.read_response()
