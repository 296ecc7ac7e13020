"""The figures of a drop at one moment, summed up from the store's state in all partitions: pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.drops.model import Drop, to_ms


@dataclass(frozen=True, slots=True)
class ItemFigures:
    """Units of one item: `stock` in all, `released` by waves so far, `taken` by members, `left` to take now."""

    id: str
    stock: int
    released: int
    taken: int
    left: int


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """A drop at the moment `now` of the store's clock; `is_ready` is false when its state is not all there."""

    drop_id: str
    status: str
    is_ready: bool
    now: datetime
    claims: int
    items: tuple[ItemFigures, ...]
    outbox_entries: int


def sum_up(drop: Drop, now: datetime, hashes: Sequence[Mapping[bytes, bytes]], outbox_entries: int) -> LiveFigures:
    """Sum the drop's hashes, one from each partition."""
    now_ms = to_ms(now)
    released = [0] * len(drop.spec.items)
    taken = [0] * len(drop.spec.items)
    for fields in hashes:
        for wave in filter(None, fields.get(b"waves", b"").split(b",")):
            at, item, quantity = (int(number) for number in wave.split(b":"))
            if at <= now_ms:
                released[item - 1] += quantity
        for index in range(len(taken)):
            taken[index] += int(fields.get(b"taken:%d" % (index + 1), 0))
    items = tuple(
        ItemFigures(item.id, item.stock, out, held, out - held)
        for item, out, held in zip(drop.spec.items, released, taken, strict=True)
    )
    first = hashes[0] if hashes else {}
    return LiveFigures(
        drop_id=drop.id,
        status=first.get(b"status", str(drop.status).encode()).decode(),
        is_ready=all(hashes),
        now=now,
        claims=sum(int(fields.get(b"serial", 0)) for fields in hashes),
        items=items,
        outbox_entries=outbox_entries,
    )
