"""The store of a run: Valkey's place is taken by the pure model (engine/claims/decide.py, acts.py).

All that writes is a command in a log, like the file of `appendfsync always`: an answer waits until its command is on
disk (and, at the level `replica`, on the replica). After a crash the store is what its log says up to some point behind
the last answer; a replica that is promoted is what the log says up to its lag.
"""

import random
import re
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from engine.claims import acts, decide
from engine.claims.acts import Act, Change
from engine.claims.decide import Caller, PartitionState, Window
from engine.claims.model import Decision, Verdict
from engine.claims.wire import WINDOW_BYTES, ClaimRequest, StoredClaim, pack_stored, unpack_request, unpack_stored
from tests.simulation.network import Server
from tests.simulation.stream import Stream

Values = Sequence[bytes | str | int]
Entry = dict[str, str | int | bytes]


class Place(NamedTuple):
    """What a key stands for."""

    partition: int
    kind: str
    drop_id: str


@lru_cache(maxsize=1_024)
def place_of(key: str) -> Place:
    found = re.fullmatch(r"fc:\{(\d+)\}:(home|told|outbox|drop:([a-z0-9-]+)(:claims|:made|:tally|:prizes)?)", key)
    assert found is not None, key
    return Place(int(found[1]), (found[4] or ":drop")[1:] if found[3] else found[2], found[3] or "")


@dataclass
class Part:
    """One partition."""

    state: PartitionState = field(default_factory=PartitionState)
    outbox: Stream = field(default_factory=Stream)


class Judge(Protocol):
    """Sees what the store does as it does it (tests/simulation/judge.py)."""

    def claimed(
        self, part: Part, partition: int, drop_id: str, caller: Caller, asked: "Asked", now_ms: int
    ) -> list[Decision]: ...

    def released(self, part: Part, partition: int, claim: tuple[str, str, int], do: Callable[[], str]) -> str: ...

    def fenced(self, partition: int, drop_id: str, epoch: int) -> None: ...

    def forget_fences(self) -> None: ...

    def twin(self) -> "Judge": ...

    def rebuilt(self, part: Part, partition: int, drop_id: str, act: Act, subjects: int) -> str: ...

    def trimmed(self, partition: int, gone: list[tuple[tuple[int, int], dict[bytes, bytes]]]) -> None: ...


Asked = list[tuple[ClaimRequest, Window]]


class Logged(NamedTuple):
    """A command that wrote, when by the store's clock, and when it was done and on disk by the run's time."""

    command: tuple[Any, ...]
    now_ms: int
    done_s: float
    synced_s: float


class Store(Server):
    def __init__(self, chance: random.Random, partitions: int, now_s: Callable[[], float], judge: Judge) -> None:
        super().__init__("store")
        self._chance = chance
        self._partitions = partitions
        self._now_s = now_s
        self._judge: Judge | None = judge
        self._its_judge = judge
        self.began_ms = 0
        self.skew_ms = 0
        self.sync_s_max = 0.0
        self.replica_lag_s = 0.0
        self.is_replicated = False  # the level `replica`: an answer waits for the replica
        self.log: list[Logged] = []
        self._ready_s = 0.0
        self.replication_id = "store-1"
        self.parts = [Part() for _ in range(partitions)]
        self.on_news: list[Callable[[], None]] = []

    def now_ms(self) -> int:
        return self.began_ms + round(self._now_s() * 1000) + self.skew_ms

    def ready_s(self, now_s: float) -> float:
        return max(now_s, self._ready_s)

    def write(self, command: tuple[Any, ...]) -> Any:
        """Do a command and log it."""
        now_s, now_ms = self._now_s(), self.now_ms()
        reply = self._do(command, now_ms)
        synced_s = now_s
        if self.sync_s_max and self._chance.random() < 0.5:
            synced_s += self._chance.random() * self.sync_s_max
        if self.is_replicated:
            synced_s = max(synced_s, now_s + self.replica_lag_s)
        self._ready_s = max(self._ready_s, synced_s)
        self.log.append(Logged(command, now_ms, now_s, self._ready_s))
        for tell in self.on_news:
            tell()
        return reply

    def crash(self) -> None:
        self.is_up = False
        self.break_lines()
        now_s = self._now_s()
        answered = sum(logged.synced_s <= now_s for logged in self.log)
        self.log = self.log[: self._chance.randint(answered, len(self.log))]

    def start(self) -> None:
        """Come up from the log; every start has a replication id of its own."""
        self.life += 1
        self.replication_id = f"store-{self.life}"
        self.parts = [Part() for _ in range(self._partitions)]
        self._judge = None
        self._its_judge.forget_fences()
        for logged in self.log:
            self._do(logged.command, logged.now_ms)
        self._judge = self._its_judge
        self._ready_s = 0.0
        self.is_up = True

    def promote_replica(self) -> int:
        """The primary is gone for good, its replica takes its place; how many commands are lost."""
        before = len(self.log)
        self.crash()
        known_s = self._now_s() - self.replica_lag_s
        self.log = [logged for logged in self.log if logged.done_s <= known_s]
        self.start()
        return before - len(self.log)

    def twin(self) -> "Store":
        """What lives on where a replica takes this store's place: the same state, for those who stay with it."""
        found = copy(self)
        found.lines, found.on_news = {}, []
        found._judge = found._its_judge = self._its_judge.twin()
        found.log, found.parts = list(self.log), deepcopy(self.parts)
        return found

    def lose_everything(self) -> None:
        self.crash()
        self.log = []
        self.start()

    def _do(self, command: tuple[Any, ...], now_ms: int) -> Any:
        match command:
            case ("script", name, keys, values):
                place = place_of(keys[0])
                return _SCRIPTS[name](self, self.parts[place.partition], place, keys, values, now_ms)
            case ("unlink", place):
                return self.parts[place.partition].state.made.pop(place.drop_id, None)
            case ("hset", place, mapping):
                made = self.parts[place.partition].state.made.setdefault(place.drop_id, {})
                made.update({subject: unpack_stored(value) for subject, value in mapping.items()})
                return len(mapping)
            case ("tamper", partition, change):
                return change(self.parts[partition].state)
        return self._stream(command, now_ms)

    def _stream(self, command: tuple[Any, ...], now_ms: int) -> Any:
        outbox = self.parts[command[1]].outbox
        match command:
            case ("read", _, group, consumer, after, count):
                return outbox.read(group, consumer, after, count, now_ms)
            case ("take over", _, group, consumer, idle_ms, count):
                return outbox.take_over(group, consumer, idle_ms, count, now_ms)
            case ("create", _, group):
                return outbox.create(group)
            case ("acknowledge", _, group, ids):
                return outbox.acknowledge(group, ids)
            case ("trim", partition, minimum):
                gone = outbox.trim(minimum)
                if self._judge is not None:
                    self._judge.trimmed(partition, gone)
                return len(gone)
        raise AssertionError(command)

    def claim(self, part: Part, place: Place, _keys: Sequence[str], values: Values, now_ms: int) -> list[Any]:
        home, drop_id, epoch, told, relatives, *arguments = values
        asked: Asked = []
        for argument in arguments:
            assert isinstance(argument, bytes)
            window = Window(int.from_bytes(argument[:6], "big"), int.from_bytes(argument[6:WINDOW_BYTES], "big"))
            asked.append((unpack_request(argument, WINDOW_BYTES)[0], window))
        family = tuple(filter(None, str(relatives).split(",")))
        caller, name = Caller(str(home), int(epoch), int(told), family), str(drop_id)
        known = part.state.at_home(name, caller.home)
        if self._judge is not None:
            decisions = self._judge.claimed(part, place.partition, name, caller, asked, now_ms)
        else:
            decisions = decide.decide_batch(part.state, name, caller, asked, now_ms)
        accepted = [at for at, decision in enumerate(decisions) if decision.verdict is Verdict.ACCEPTED]
        if accepted and known is not None:
            packed = b"".join(bytes(arguments[at])[WINDOW_BYTES:] for at in accepted)  # type: ignore[arg-type]
            entry: Entry = {"kind": "claim", "drop": name, "epoch": known.epoch, "at": now_ms}
            part.outbox.add({**entry, "serial": decisions[accepted[0]].serial, "claims": packed}, now_ms)
        head = [now_ms, known.opens_ms if known else 0, known.closes_ms if known else 0]
        return head + [_reply(request, decision) for (request, _), decision in zip(asked, decisions, strict=True)]

    def release(self, part: Part, place: Place, _keys: Sequence[str], values: Values, now_ms: int) -> bytes:
        home, drop_id, epoch, subject, serial, reason = values
        name, who, number = str(drop_id), str(subject), int(serial)
        state = part.state.at_home(name, str(home))

        def do() -> str:
            return decide.release(state, who, number, int(epoch))

        said = self._judge.released(part, place.partition, (name, who, number), do) if self._judge else do()
        if said == "released" and state is not None:
            claim = next(claim for claim in state.claims[who] if claim.serial == number)
            entry: Entry = {"kind": "release", "drop": name, "epoch": state.epoch, "at": now_ms, "serial": number}
            entry |= {"item": claim.item, "quantity": claim.quantity, "subject": who, "reason": str(reason)}
            part.outbox.add(entry, now_ms)
        return f"{said}:{now_ms}".encode() if said == "released" else said.encode()

    def control(self, part: Part, _place: Place, _keys: Sequence[str], values: Values, now_ms: int) -> bytes:
        home, drop_id, revision, act, text, _, *flat = (str(value) for value in values)
        said = acts.control(
            part.state, drop_id, home, Act(int(revision), act, dict(zip(flat[::2], flat[1::2], strict=True)))
        )
        return self._acted(part, said, drop_id, revision, text, now_ms)

    def rebuild(self, part: Part, place: Place, _keys: Sequence[str], values: Values, now_ms: int) -> bytes:
        drop_id, revision, act, text, subjects, _, tallies, *flat = (str(value) for value in values)
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        fields, counts = dict(pairs[int(tallies) :]), dict(pairs[: int(tallies)])
        done = Act(int(revision), act, fields, tallies=counts)
        if self._judge is not None:
            said = self._judge.rebuilt(part, place.partition, drop_id, done, int(subjects))
        else:
            said = acts.rebuild(part.state, drop_id, done, int(subjects))
        return self._acted(part, said, drop_id, revision, text, now_ms)

    def fence(self, part: Part, place: Place, _keys: Sequence[str], values: Values, _now_ms: int) -> bytes:
        said = acts.fence(part.state, place.drop_id, int(values[0]))
        if said == "fenced":  # also when the log is read again: a fence that was lost with it counts no more
            self._its_judge.fenced(place.partition, place.drop_id, int(values[0]))
        return said.encode()

    def settle(self, part: Part, _place: Place, _keys: Sequence[str], values: Values, _now_ms: int) -> bytes:
        return acts.settle(part.state, str(values[0]), str(values[1])).encode()

    def repair(self, part: Part, place: Place, _keys: Sequence[str], values: Values, _now_ms: int) -> bytes:
        home, *flat = values
        changes = [Change(str(flat[at]), _bytes(flat[at + 1]), _bytes(flat[at + 2])) for at in range(0, len(flat), 3)]
        do = acts.repair_claims if place.kind == "claims" else acts.repair_drop
        return do(part.state, place.drop_id, str(home), changes).encode()

    def _acted(self, part: Part, said: str, drop_id: str, revision: str, text: str, now_ms: int) -> bytes:
        if said != "applied":
            return said.encode()
        entry: Entry = {"kind": "control", "drop": drop_id, "at": now_ms, "revision": revision, "control": text}
        part.outbox.add(entry, now_ms)
        return f"applied:{now_ms}".encode()


_SCRIPTS: dict[str, Callable[[Store, Part, Place, Sequence[str], Values, int], Any]] = {
    "claim": Store.claim,
    "release": Store.release,
    "control": Store.control,
    "rebuild": Store.rebuild,
    "fence": Store.fence,
    "settle": Store.settle,
    "repair": Store.repair,
}


def _bytes(value: bytes | str | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _reply(request: ClaimRequest, decision: Decision) -> int | bytes:
    if decision.verdict is Verdict.ACCEPTED:
        return decision.serial
    if decision.verdict is Verdict.REPEATED:
        known = StoredClaim(
            request.nonce, decision.serial, decision.item, decision.quantity, released=False, at_ms=decision.at_ms
        )
        return b"%d:%s" % (decision.verdict, pack_stored(known))
    return f"{int(decision.verdict)}:{':'.join(map(str, decision.facts))}".encode()
