"""Asks the store: packs a batch for a script, sends it once, unpacks the verdicts.

A call is never repeated behind the caller's back, with one exception: NOSCRIPT, which proves that nothing ran. What
happens to a call that got no answer is unknown, and is said so (`OutcomeUnknown`); what was certainly not done is
`StoreUnavailable`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import (
    ConnectionError as StoreConnectionError,
)
from redis.exceptions import (
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    TimeoutError as StoreTimeoutError,
)

import lua
from engine.claims import keys
from engine.claims.model import Decision, NotReady, OutcomeUnknown, StoreUnavailable, Verdict
from engine.claims.wire import ENTRY_BYTES, ITEM_AT, WINDOW_BYTES, unpack_stored
from engine.ids import ClaimId

_REPLY_HEAD = 3  # now, opens at, closes at
_ACCEPTED, _REPEATED = Verdict.ACCEPTED, Verdict.REPEATED
_ITEM_BYTE = WINDOW_BYTES + ITEM_AT


class ScriptStore(Protocol):
    """What runs a script: `RedisStore` in earnest."""

    async def run(self, script: lua.Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any: ...


class RedisStore:
    """Runs scripts on one Valkey or Redis, each exactly once."""

    def __init__(self, redis: "Redis") -> None:
        self._pool = redis.connection_pool

    async def run(self, script: lua.Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any:
        """The script's reply.

        Raises `StoreUnavailable` when the script certainly did not run, `OutcomeUnknown` when it may have.
        """
        try:
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise StoreUnavailable("the store cannot be reached: try again") from error
        try:
            return await self._call(connection, script, keys, arguments)
        finally:
            await self._pool.release(connection)

    async def _call(self, connection: Any, script: lua.Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        try:
            try:
                await connection.send_command("EVALSHA", script.sha, len(keys), *keys, *arguments)
                return await connection.read_response()
            except NoScriptError:
                await connection.send_command("EVAL", script.text, len(keys), *keys, *arguments)
                return await connection.read_response()
        except (StoreConnectionError, StoreTimeoutError, OSError) as error:
            await connection.disconnect()
            raise OutcomeUnknown("the store did not answer: send the same ticket again to learn the outcome") from error
        except ResponseError as error:
            raise StoreUnavailable(f"the store refuses to work now ({str(error)[:60]}): try again") from error
        except BaseException:
            # Cancelled between request and reply: the connection has an answer in it that belongs to nobody.
            await connection.disconnect()
            raise


class Batch:
    """The reply of `claim.lua` to a batch, opened one decision at a time."""

    def __init__(self, arguments: Sequence[bytes], reply: list[Any]) -> None:
        self._arguments = arguments
        self._reply = reply
        self.now_ms: int = reply[0]

    def __getitem__(self, index: int) -> Decision:
        answer = self._reply[index + _REPLY_HEAD]
        if isinstance(answer, int):
            argument = self._arguments[index]
            quantity = argument[_ITEM_BYTE + 1] << 8 | argument[_ITEM_BYTE + 2]
            return Decision(_ACCEPTED, answer, argument[_ITEM_BYTE], quantity, self.now_ms)
        number, _, facts = answer.partition(b":")
        verdict = Verdict(int(number))
        if verdict is _REPEATED:
            known = unpack_stored(facts[:ENTRY_BYTES])[0]
            return Decision(verdict, known.serial, known.item, known.quantity, known.at_ms)
        return Decision(verdict, facts=tuple(int(fact) for fact in facts.split(b":")) if facts else ())


async def claim_batch(
    store: ScriptStore, partition: int, drop_id: str, epoch: int, arguments: Sequence[bytes]
) -> Batch:
    """Decide a batch of requests (window and request as in wire.py) on one drop; raises as `RedisStore.run` does."""
    reply = await store.run(
        lua.load("claim"),
        (keys.drop(partition, drop_id), keys.claims(partition, drop_id), keys.outbox(partition)),
        (drop_id, epoch, *arguments),
    )
    return Batch(arguments, reply)


async def release(store: ScriptStore, claim_id: ClaimId, epoch: int, subject: str, reason: str) -> str:
    """Give a claim back; the script's reply as text. `reason` is JSON of actor and reason."""
    drop_id, partition, serial = claim_id
    reply: bytes = await store.run(
        lua.load("release"),
        (keys.drop(partition, drop_id), keys.claims(partition, drop_id), keys.outbox(partition)),
        (drop_id, epoch, subject, serial, reason),
    )
    answer = reply.decode()
    if answer in ("not-ready", "stale-epoch"):
        raise NotReady("the drop's state is not in the store: try again, and see `flashclaim doctor`")
    return answer
