"""The outbox stream of one partition with consumer groups, as Valkey keeps it: as much as the worker uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from engine.claims.outbox import Fields, StreamEntry, entry_order

Order = tuple[int, int]


@dataclass
class Pending:
    consumer: str
    since_ms: int


@dataclass
class Group:
    delivered: Order = (0, 0)
    pending: dict[Order, Pending] = field(default_factory=dict)


@dataclass
class Stream:
    entries: dict[Order, Fields] = field(default_factory=dict)
    last: Order = (0, 0)
    groups: dict[str, Group] = field(default_factory=dict)
    trimmed: Order = (0, 0)

    def add(self, fields: Mapping[str, str | int | bytes], now_ms: int) -> Order:
        """XADD with `*`: a clock that was set back goes on where the last entry was."""
        at = (now_ms, 0) if (now_ms, 0) > self.last else (self.last[0], self.last[1] + 1)
        self.last = at
        self.entries[at] = {
            name.encode(): value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()
        }
        return at

    def create(self, name: str) -> None:
        if name in self.groups:
            raise ResponseError("BUSYGROUP Consumer Group name already exists")
        self.groups[name] = Group()

    def read(self, name: str, consumer: str, after: str, count: int, now_ms: int) -> list[StreamEntry]:
        """XREADGROUP: what is new (`>`), or what the consumer has pending."""
        group = self._group(name)
        if after != ">":
            own = [at for at, pending in sorted(group.pending.items()) if pending.consumer == consumer]
            return [(_id(at), self.entries[at]) for at in own[:count] if at in self.entries]
        new = [at for at in self.entries if at > group.delivered][:count]
        for at in new:
            group.pending[at] = Pending(consumer, now_ms)
            group.delivered = at
        return [(_id(at), self.entries[at]) for at in new]

    def acknowledge(self, name: str, ids: Sequence[bytes]) -> int:
        group = self._group(name)
        return sum(group.pending.pop(entry_order(entry_id), None) is not None for entry_id in ids)

    def take_over(self, name: str, consumer: str, idle_ms: int, count: int, now_ms: int) -> list[StreamEntry]:
        """XAUTOCLAIM from the beginning."""
        group = self._group(name)
        is_idle = [
            at for at, pending in sorted(group.pending.items()) if not idle_ms or now_ms - pending.since_ms >= idle_ms
        ]
        idle = is_idle[:count]
        for at in idle:
            group.pending[at] = Pending(consumer, now_ms)
        return [(_id(at), self.entries[at]) for at in idle if at in self.entries]

    def trim(self, minimum: str) -> list[tuple[Order, Fields]]:
        """XTRIM MINID; what was taken out."""
        least = entry_order(minimum.encode())
        gone = [at for at in self.entries if at < least]
        return [(at, self.entries.pop(at)) for at in gone]

    def group_facts(self) -> list[dict[str, Any]]:
        """XINFO GROUPS."""
        return [
            {
                "name": name.encode(),
                "pending": len(group.pending),
                "last-delivered-id": _id(group.delivered),
                "lag": sum(at > group.delivered for at in self.entries),
            }
            for name, group in self.groups.items()
        ]

    def pending_facts(self, name: str) -> dict[str, Any]:
        """XPENDING without a range."""
        group = self._group(name)
        least, most = (_id(min(group.pending)), _id(max(group.pending))) if group.pending else (None, None)
        return {"pending": len(group.pending), "min": least, "max": most}

    def _group(self, name: str) -> Group:
        if name not in self.groups:
            raise ResponseError("NOGROUP No such key or consumer group")
        return self.groups[name]


def _id(at: Order) -> bytes:
    return b"%d-%d" % at
