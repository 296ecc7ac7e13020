"""How a process reaches the store: the calls of `RedisStore` and of redis-py that the engine uses, over the network."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lua
from engine.claims import acts
from engine.claims.decide import DropState
from engine.claims.model import OutcomeUnknown, StoreUnavailable
from tests.simulation.network import Broken, Line, Network, Process
from tests.simulation.store import Part, Place, Store, place_of


class ScriptAccess:
    """In the place of `engine.claims.store.RedisStore`: one connection, and the home that it led to at first."""

    def __init__(self, network: Network, process: Process, store: Store, redis: "RedisAccess") -> None:
        self._redis = redis
        self._network = network
        self._process = process
        self._named_store = self._store = store
        self._line: Line | None = None
        self._home = ""
        self._named: str | None = None

    async def run(self, script: lua.Script, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any:
        line = self._connected()
        trusted = self._home if self._named in (None, self._home) else ""
        given = (trusted, *arguments) if script.arguments[:1] == ("home",) else tuple(arguments)
        command = ("script", script.name, tuple(keys), given)
        try:
            return await line.call(lambda: self._store.write(command))
        except Broken as error:
            raise OutcomeUnknown("the store did not answer: send the same ticket again") from error

    async def ask(self, *command: bytes | str | int) -> Any:
        line = self._connected()
        try:
            return await line.call(lambda: _answer(self._store, command))
        except Broken as error:
            raise StoreUnavailable("the store did not answer: try again") from error

    async def home(self) -> str:
        self._connected()
        return self._home

    async def follow(self, named: str) -> None:
        self._named = named
        if named and self._home != named and self._line is not None:
            self._line.breaks()
            await self.renew_pool()

    async def find(self) -> None:
        """As `RedisStore.find`: where the name leads is asked by a connection of its own."""
        try:
            self._network.line(self._process, self._named_store).close()
        except Broken as error:
            raise StoreUnavailable("the store cannot be reached: try again") from error
        if self._store is not self._named_store and self._line is not None:
            self._line.breaks()
            await self.renew_pool()

    async def renew_pool(self) -> None:
        self._redis.find()

    def stay_with(self, store: Store) -> None:
        """The connection leads to a store that was left behind, and the next one does not."""
        self._store, self._home = store, store.replication_id
        self._line = self._network.line(self._process, store)

    def _connected(self) -> Line:
        if self._line is None or not self._line.is_open:
            self._store = self._named_store
            try:
                self._line = self._network.line(self._process, self._store)
            except Broken as error:
                raise StoreUnavailable("the store cannot be reached: try again") from error
            self._home = self._store.replication_id
        return self._line


class RedisAccess:
    """In the place of `redis.asyncio.Redis`: each call on a connection of its own."""

    def __init__(self, network: Network, process: Process, store: Store) -> None:
        self._network = network
        self._process = process
        self._named_store = self._store = store

    def stay_with(self, store: Store) -> None:
        """As `ScriptAccess.stay_with`."""
        self._store = store

    def find(self) -> None:
        """Go where the name leads."""
        self._store = self._named_store

    async def _call(self, do: Callable[[], Any]) -> Any:
        return await self._network.call(self._process, self._store, do)

    async def _write(self, *command: Any) -> Any:
        return await self._call(lambda: self._store.write(command))

    async def time(self) -> tuple[int, int]:
        now_ms: int = await self._call(self._store.now_ms)
        return now_ms // 1000, now_ms % 1000 * 1000

    async def hmget(self, key: str, fields: Sequence[str]) -> Any:
        return await self._call(lambda: _answer(self._store, ("HMGET", key, *fields)))

    async def hset(self, key: str, mapping: Mapping[str, bytes]) -> Any:
        return await self._write("hset", place_of(key), dict(mapping))

    async def unlink(self, key: str) -> Any:
        return await self._write("unlink", place_of(key))

    def pipeline(self, *, transaction: bool) -> "Pipeline":
        del transaction  # one step in any case
        return Pipeline(self._call, self._store)

    async def xgroup_create(self, key: str, group: str, **_: object) -> Any:
        return await self._write("create", place_of(key).partition, group)

    async def xreadgroup(self, group: str, consumer: str, streams: Mapping[str, str], *, count: int, block: int) -> Any:
        ((key, after),) = streams.items()
        partition = place_of(key).partition

        def read() -> Any:
            # A read that finds nothing changes nothing: it is not worth a line of the log.
            if after == ">" and not self._has_news(partition, group):
                return []
            return self._store.write(("read", partition, group, consumer, after, count))

        entries = await self._call(read)
        if not entries and after == ">":
            await self._news(block / 1000)
            entries = await self._call(read)
        return [[key.encode(), entries]] if entries else []

    def _has_news(self, partition: int, group: str) -> bool:
        found = self._store.parts[partition].outbox
        return group not in found.groups or found.last > found.groups[group].delivered

    async def _news(self, seconds: float) -> None:
        """Until something is written, or time is up."""
        loop = asyncio.get_running_loop()
        came: asyncio.Future[None] = loop.create_future()

        def tell() -> None:
            if not came.done():
                came.set_result(None)

        timer = loop.call_later(seconds, tell)
        store = self._store
        store.on_news.append(tell)
        try:
            await came
        finally:
            timer.cancel()
            store.on_news.remove(tell)

    async def xack(self, key: str, group: str, *ids: bytes) -> Any:
        return await self._write("acknowledge", place_of(key).partition, group, ids)

    async def xtrim(self, key: str, *, minid: str, approximate: bool) -> Any:
        assert not approximate
        return await self._write("trim", place_of(key).partition, minid)

    async def xautoclaim(self, key: str, group: str, consumer: str, idle_ms: int, *, count: int) -> Any:
        found = await self._write("take over", place_of(key).partition, group, consumer, idle_ms, count)
        return b"0-0", found, []

    async def xinfo_groups(self, key: str) -> Any:
        return await self._call(lambda: self._part(key).outbox.group_facts())

    async def xpending(self, key: str, group: str | bytes) -> Any:
        name = group.decode() if isinstance(group, bytes) else group
        return await self._call(lambda: self._part(key).outbox.pending_facts(name))

    async def eval(self, script: str, _keys: int, *_values: str) -> Any:
        assert script == lua.load("leave").text
        return b"left"  # the model's groups know only consumers that have something pending, and those stay

    async def xlen(self, key: str) -> int:
        length: int = await self._call(lambda: len(self._part(key).outbox.entries))
        return length

    def _part(self, key: str) -> Part:
        return self._store.parts[place_of(key).partition]


class Pipeline:
    """MULTI … EXEC: questions that are answered at one moment."""

    def __init__(self, call: Callable[[Callable[[], Any]], Any], store: Store) -> None:
        self._call = call
        self._store = store
        self._asked: list[Callable[[], Any]] = []

    async def __aenter__(self) -> "Pipeline":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def time(self) -> None:
        self._asked.append(lambda: divmod(self._store.now_ms() * 1000, 1_000_000))

    def hgetall(self, key: str) -> None:
        self._asked.append(lambda: _hash(self._store, place_of(key)))

    def hget(self, key: str, field: str) -> None:
        self._asked.append(lambda: _answer(self._store, ("HGET", key, field)))

    def xrevrange(self, key: str, count: int) -> None:
        assert count == 1

        def last() -> list[tuple[bytes, dict[bytes, bytes]]]:
            entries = self._store.parts[place_of(key).partition].outbox.entries
            at = next(reversed(entries), None)
            return [] if at is None else [(b"%d-%d" % at, entries[at])]

        self._asked.append(last)

    async def execute(self) -> list[Any]:
        answers: list[Any] = await self._call(lambda: [ask() for ask in self._asked])
        return answers


def _answer(store: Store, command: Sequence[bytes | str | int]) -> Any:
    if command == ("TIME",):
        seconds, micros = divmod(store.now_ms() * 1000, 1_000_000)
        return [b"%d" % seconds, b"%d" % micros]
    place = place_of(str(command[1]))
    match command:
        case ("GET", _):
            home = store.parts[place.partition].state.home
            return None if home is None else home.encode()
        case ("HGET", _, field):
            return _hash(store, place).get(str(field).encode())
        case ("HMGET", _, *fields):
            found = _hash(store, place)
            return [found.get(str(field).encode()) for field in fields]
        case ("HGETALL", _):
            return [part for pair in _hash(store, place).items() for part in pair]
        case ("HSCAN", _, *_):
            return [b"0", [part for pair in _hash(store, place).items() for part in pair]]
    raise AssertionError(command)


def _hash(store: Store, place: Place) -> dict[bytes, bytes]:
    partition = store.parts[place.partition].state
    if place.kind == "told":
        return {drop.encode(): b"%d" % serial for drop, serial in partition.told.items() if serial}
    state: DropState | None = partition.drops.get(place.drop_id)
    if state is None:
        return {}
    if place.kind == "tally":
        return {b"%d:%d" % pair: b"%d" % units for pair, units in state.tallies.items()}
    if place.kind == "claims":
        return {subject.encode(): acts.packed(state.claims, subject) for subject in state.claims}
    return {name.encode(): value.encode() for name, value in acts.fields_of(state).items()}
