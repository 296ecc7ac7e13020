"""Asks the store: packs a batch for a script, sends it once, unpacks the verdicts.

A call is never repeated behind the caller's back, with one exception: NOSCRIPT, which proves that nothing ran. What
happens to a call that got no answer is unknown, and is said so (`OutcomeUnknown`); what was certainly not done is
`StoreUnavailable`.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from hiredis import ReplyError
from redis.asyncio import Redis
from redis.exceptions import RedisError

import lua
from engine.claims import keys
from engine.claims.model import Decision, NotReady, OutcomeUnknown, StoreUnavailable, Verdict
from engine.claims.pipe import Pipe
from engine.claims.wire import ENTRY_BYTES, unpack_stored
from engine.ids import ClaimId

_NOT_THE_PRIMARY = ("READONLY", "MASTERDOWN")
_REPLY_HEAD = 3  # now, opens at, closes at


class ScriptStore(Protocol):
    """What runs a script: `RedisStore` in earnest."""

    async def run(self, script: lua.Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any: ...


class RedisStore:
    """Runs scripts on one Valkey or Redis, each exactly once."""

    def __init__(self, redis: "Redis") -> None:
        self._pool = redis.connection_pool
        self._connecting: asyncio.Task[Pipe] | None = None
        self._pipe: Pipe | None = None

    async def run(self, script: lua.Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any:
        """The script's reply.

        Raises `StoreUnavailable` when the script certainly did not run, `OutcomeUnknown` when it may have.
        """
        pipe = self._pipe
        if pipe is None or not pipe.is_open:
            pipe = await self._connected()
        try:
            try:
                return await pipe.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except ReplyError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                return await pipe.call("EVAL", script.text, len(keys), *keys, *arguments)
        except ReplyError as error:
            if str(error).startswith(_NOT_THE_PRIMARY):
                pipe.close()  # behind a name or an address that has moved, a new connection finds the new primary
            raise StoreUnavailable(f"the store refuses to work now ({str(error)[:60]}): try again") from error
        except OSError as error:
            raise OutcomeUnknown("the store did not answer: send the same ticket again to learn the outcome") from error

    def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()

    async def _connected(self) -> Pipe:
        """One attempt for all who wait: a store that accepts and does not answer costs each of them one timeout."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._attempted)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Pipe:
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()
        except (RedisError, OSError) as error:
            raise StoreUnavailable("the store cannot be reached: try again") from error
        self._pipe = Pipe(connection)
        return self._pipe

    def _attempted(self, attempt: asyncio.Task[Pipe]) -> None:
        self._connecting = None
        if not attempt.cancelled():
            attempt.exception()  # whoever waited has it


class Batch(NamedTuple):
    """What `claim.lua` said of a batch, in order: the serial of a claim accepted now, or else the whole decision."""

    now_ms: int
    decisions: list[int | Decision]

    @property
    def is_stale(self) -> bool:
        """Whether the caller believes in an epoch that is over; then every new claim of the batch was refused."""
        return any(type(found) is Decision and found.verdict is Verdict.STALE_EPOCH for found in self.decisions)


async def claim_batch(
    store: ScriptStore, partition: int, drop_id: str, epoch: int, arguments: Sequence[bytes]
) -> Batch:
    """Decide a batch of requests (window and request as in wire.py) on one drop; raises as `RedisStore.run` does."""
    reply = await store.run(
        lua.load("claim"),
        (keys.drop(partition, drop_id), keys.claims(partition, drop_id), keys.outbox(partition)),
        (drop_id, epoch, *arguments),
    )
    return unpack_batch(reply)


def unpack_batch(reply: list[Any]) -> Batch:
    """The reply of `claim.lua`, with a decision for everything but the plain acceptances."""
    answers = reply[_REPLY_HEAD:]
    return Batch(reply[0], [answer if type(answer) is int else _decision(answer) for answer in answers])


def _decision(answer: bytes) -> Decision:
    number, _, facts = answer.partition(b":")
    verdict = Verdict(int(number))
    if verdict is Verdict.REPEATED:
        known = unpack_stored(facts[:ENTRY_BYTES])[0]
        return Decision(verdict, known.serial, known.item, known.quantity, known.at_ms)
    return Decision(verdict, facts=tuple(int(fact) for fact in facts.split(b":")) if facts else ())


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
