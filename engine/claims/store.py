"""Asks the store: packs a batch for a script, sends it once, unpacks the verdicts.

A call is never repeated behind the caller's back, with one exception: NOSCRIPT, which proves that nothing ran. What
happens to a call that got no answer is unknown, and is said so (`OutcomeUnknown`); what was certainly not done is
`StoreUnavailable`.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

import structlog
from hiredis import ReplyError
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

import lua
from engine.bounds import REMIND_S, REPLICA_WAIT_MS
from engine.claims import durability, keys, replies
from engine.claims.durability import Durability
from engine.claims.model import Decision, NotReady, OutcomeUnknown, StoreUnavailable, Verdict
from engine.claims.pipe import Pipe
from engine.claims.wire import ENTRY_BYTES, unpack_stored
from engine.errors import Misconfigured, Unavailable
from engine.ids import ClaimId

_REPLY_HEAD = 3  # now, opens at, closes at
_HOME = "home"  # the argument that a script names when it must know by which store it is run
_NO_HOME = ""  # that of no store: whoever is told it decides nothing
_log = structlog.get_logger(__name__)


class StoreUnsafe(Misconfigured):
    """The store's settings break the durability that is promised: nothing is given out by it."""


class ScriptRunner(Protocol):
    """What runs a script."""

    async def run(self, script: lua.Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any: ...


class ScriptStore(ScriptRunner, Protocol):
    """The store that decides: `RedisStore` in earnest."""

    async def home(self) -> str: ...

    async def follow(self, named: str) -> None: ...


class Home(NamedTuple):
    """Which store a connection leads to: `id` is its replication id, `faults` are what breaks the promise."""

    id: str
    faults: list[durability.Fault]


class RedisStore:
    """Runs scripts on one Valkey or Redis, each exactly once, as durably as is promised."""

    def __init__(self, redis: "Redis", promised: Durability) -> None:
        self._pool = redis.connection_pool
        self._promised = promised
        self._connecting: asyncio.Task[Pipe] | None = None
        self._pipe: Pipe | None = None
        self._home = Home("", [])
        self._named: str | None = None  # whatever is found may decide

    async def run(self, script: lua.Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any:
        """The script's reply; a script that names `home` first is given it here.

        Raises `StoreUnavailable` when the script certainly did not run, `OutcomeUnknown` when it may have.
        """
        pipe = await self._open_pipe()
        given = (self.trusted, *arguments) if script.arguments[:1] == (_HOME,) else arguments
        try:
            try:
                return await self._call(pipe, "EVALSHA", script.sha, len(keys), *keys, *given)
            except ReplyError as error:
                if replies.kind(error) != "NOSCRIPT":
                    raise
                return await self._call(pipe, "EVAL", script.text, len(keys), *keys, *given)
        except ReplyError as error:
            if replies.kind(error) in replies.ELSEWHERE:
                pipe.close()
            if replies.kind(error) not in replies.NOTHING_DONE:
                _log.error("script failed", script=script.name, error=str(error)[:200])
            raise replies.meaning(error) from error
        except OSError as error:
            raise OutcomeUnknown("the store did not answer: send the same ticket again to learn the outcome") from error

    async def ask(self, *command: bytes | str | int) -> Any:
        """The reply to a command that changes nothing, over the connection that scripts take. Raises `Unavailable`."""
        pipe = await self._open_pipe()
        try:
            return await pipe.call(*command)
        except ReplyError as error:
            raise replies.meaning(error) from error
        except OSError as error:
            raise StoreUnavailable("the store did not answer: try again") from error

    async def home(self) -> str:
        """The replication id of the store that the next call goes to, as it says itself now. Raises `StoreUnavailable`.

        It also changes while a connection lasts: when a first replica comes, or the last one has been away for long.
        """
        told = _lines(await self.ask("INFO", "replication"))
        if told.get("role") != "master" and self._pipe is not None:
            self._pipe.close()
            raise StoreUnavailable(f"the store refuses to work now ({replies.NOTHING_DONE['READONLY']}): try again")
        self._home = self._home._replace(id=told["master_replid"])
        return self._home.id

    async def follow(self, named: str) -> None:
        """Let no store decide but the one of this replication id, or none; connections that lead to another are ended.

        Another is told no home, so that it answers `not-ready`. Raises as redis-py does.
        """
        before, self._named = self._named, named
        if not named:
            return
        is_elsewhere = self._has_pipe and not await self._is_at(named)
        if is_elsewhere:
            self.close()
        if is_elsewhere or before not in (None, "", named):
            await self.renew_pool()

    async def _is_at(self, named: str) -> bool:
        if self._home.id != named:
            with suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(REMIND_S):  # one that hangs says nothing either
                    await self.home()  # it may have another id by now
        return self._home.id == named

    async def find(self) -> None:
        """Go where the name leads now: a failover that the old primary outlives does not end connections to it.

        Raises `StoreUnavailable`.
        """
        there = await self._look_up()
        try:
            is_there = await self.home() == there
        except StoreUnavailable:
            is_there = False
        if not is_there:
            self.close()
            await self.renew_pool()

    async def renew_pool(self) -> None:
        """End the pool's connections, which may lead to the store before: those in use when they are given back."""
        await self._pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
        with suppress(RedisError, OSError):  # one that ends badly has ended
            await self._pool.disconnect(inuse_connections=False)

    @property
    def trusted(self) -> str:
        """The replication id that scripts are told: of the store found last, or of none when another is named."""
        return self._home.id if self._named in (None, self._home.id) else _NO_HOME

    async def check(self) -> None:
        """Raise `StoreUnsafe` when the store breaks the promise, `StoreUnavailable` when it cannot be asked."""
        try:
            await self._open_pipe()
        except StoreUnavailable:
            if self._home.faults:
                raise StoreUnsafe(_sentence(self._home.faults)) from None
            raise

    def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()

    async def _call(self, pipe: Pipe, *command: bytes | str | int) -> Any:
        if self._promised.level != "replica":
            return await pipe.call(*command)
        reply, copies = pipe.call(*command), pipe.call("WAIT", self._promised.replicas_min, REPLICA_WAIT_MS)
        await asyncio.wait((reply, copies))
        answer = reply.result()
        if copies.result() < self._promised.replicas_min:
            raise OutcomeUnknown("too few replicas have it yet: send the same ticket again to learn the outcome")
        return answer

    @property
    def _has_pipe(self) -> bool:
        return self._pipe is not None and self._pipe.is_open

    async def _look_up(self) -> str:
        """The replication id of the store that a new connection leads to."""
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()
            return (await _look(connection, self._promised)).id
        except (RedisError, OSError, KeyError) as error:
            raise StoreUnavailable("the store cannot be reached: try again") from error
        finally:
            await connection.disconnect(nowait=True)

    async def _open_pipe(self) -> Pipe:
        pipe = self._pipe
        return pipe if pipe is not None and pipe.is_open else await self._connected()

    async def _connected(self) -> Pipe:
        """One attempt for all who wait: a store that accepts and does not answer costs each of them one timeout."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._attempted)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Pipe:
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        self._home = Home("", [])
        try:
            await connection.connect()
            self._home = await _look(connection, self._promised)
        except (RedisError, OSError, KeyError) as error:
            await connection.disconnect(nowait=True)
            _log.warning("store not reached", error=str(error)[:200])
            raise StoreUnavailable("the store cannot be reached: try again") from error
        if self._home.faults:
            await connection.disconnect(nowait=True)
            _log.error("store unsafe", faults=_sentence(self._home.faults))
            raise StoreUnavailable("the store is not set as it must be, see `flashclaim doctor`: try again later")
        self._pipe = Pipe(connection)
        return self._pipe

    def _attempted(self, attempt: asyncio.Task[Pipe]) -> None:
        self._connecting = None
        if not attempt.cancelled():
            attempt.exception()  # whoever waited has it


async def _look(connection: AbstractConnection, promised: Durability) -> Home:
    """Which store this is, and what keeps it from the promise."""
    await connection.send_command("INFO", "replication")
    told = _lines(await connection.read_response())
    config: dict[str, str] | None = None
    if promised.is_checked:
        try:
            await connection.send_command("CONFIG", "GET", *durability.SETTINGS)
            answer = pairs(await connection.read_response())
            config = {name.decode(): value.decode() for name, value in answer.items()}
        except ResponseError as error:
            _log.warning("store does not tell its settings", error=str(error)[:200])
    found = durability.faults(promised, told["role"], config) if promised.is_checked else []
    return Home(told["master_replid"], found)


def _lines(answer: bytes) -> dict[str, str]:
    """A section of INFO by its names."""
    return dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)


def pairs(answer: Any) -> dict[bytes, bytes]:
    """Names and values of a reply: a list in turn with RESP2, a mapping with RESP3."""
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))


def _sentence(found: list[durability.Fault]) -> str:
    return "; ".join(f"{fault.found}: {fault.advice}" for fault in found)


class Believed(NamedTuple):
    """What a caller believes of a drop; `relatives` are the other drops whose claims count together with its own."""

    id: str
    epoch: int = 0
    relatives: tuple[str, ...] = ()


class Batch(NamedTuple):
    """What `claim.lua` said of a batch, in order: the serial of a claim accepted now, or else the whole decision."""

    now_ms: int
    decisions: list[int | Decision]
    others: list[Decision]  # those of them that are no plain acceptance

    @property
    def serial_max(self) -> int:
        """The highest serial that is told, now or again; 0 when none is. Those given now rise within a batch."""
        given = next((found for found in reversed(self.decisions) if isinstance(found, int)), 0)
        return max([given, *(found.serial for found in self.others)])

    @property
    def is_stale(self) -> bool:
        """Whether the caller believes in an epoch that is over; then every new claim of the batch was refused."""
        return any(found.verdict is Verdict.STALE_EPOCH for found in self.others)


async def claim_batch(
    store: ScriptStore, partition: int, drop: Believed, told: int, arguments: Sequence[bytes]
) -> Batch:
    """Decide a batch of requests (window and request as in wire.py) on one drop; raises as `RedisStore.run` does.

    `told` is the highest serial that this process was told: a store that does not know it has lost claims.
    """
    reply = await store.run(
        lua.load("claim"),
        (
            *_places(partition, drop.id),
            keys.told(partition),
            keys.tally(partition, drop.id),
            keys.prizes(partition, drop.id),
            *(place(partition, other) for other in drop.relatives for place in (keys.drop, keys.claims)),
        ),
        (drop.id, drop.epoch, told, ",".join(drop.relatives), *arguments),
    )
    return unpack_batch(reply)


def unpack_batch(reply: list[Any]) -> Batch:
    """The reply of `claim.lua`, with a decision for everything but the plain acceptances."""
    answers = reply[_REPLY_HEAD:]
    others: list[Decision] = []
    decisions = [answer if type(answer) is int else _noted(answer, others) for answer in answers]
    return Batch(reply[0], decisions, others)


def _noted(answer: bytes, others: list[Decision]) -> Decision:
    found = _decision(answer)
    others.append(found)
    return found


def _decision(answer: bytes) -> Decision:
    number, _, facts = answer.partition(b":")
    verdict = Verdict(int(number))
    if verdict is Verdict.REPEATED:
        known = unpack_stored(facts[:ENTRY_BYTES])[0]
        return Decision(verdict, known.serial, known.item, known.quantity, known.at_ms)
    if verdict is Verdict.ACCEPTED:
        serial, item = map(int, facts.split(b":"))
        return Decision(verdict, serial, item, 1)
    return Decision(verdict, facts=tuple(int(fact) for fact in facts.split(b":")) if facts else ())


async def release(store: ScriptStore, claim_id: ClaimId, epoch: int, subject: str, reason: str) -> str:
    """Give a claim back; the script's reply as text. `reason` is JSON of actor and reason."""
    drop_id, partition, serial = claim_id
    reply: bytes = await store.run(
        lua.load("release"),
        (*_places(partition, drop_id), keys.tally(partition, drop_id)),
        (drop_id, epoch, subject, serial, reason),
    )
    answer = reply.decode()
    if answer in ("not-ready", "stale-epoch"):
        raise NotReady(
            f"the state of drop {drop_id!r} is not in the store: try again, or see `flashclaim rebuild {drop_id}`"
        )
    return answer


def _places(partition: int, drop_id: str) -> tuple[str, ...]:
    return keys.drop(partition, drop_id), keys.claims(partition, drop_id), keys.outbox(partition), keys.home(partition)
