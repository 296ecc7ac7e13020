"""What a drop may do next, and what it is after each act of an operator: pure, without a clock.

A drop changes only by a control: one act with a revision of its own. The script `lua/control.lua` applies it in
the store when the revision is the next one, and the ledger applies the same control by `after` below, from the
service or from the outbox, whichever comes first; so both sides always agree on what revision N looks like.
"""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Any, ClassVar, NamedTuple

from engine.bounds import STOCK_MAX
from engine.drops import instant_rules
from engine.drops.membership import scopes_text
from engine.drops.spec import DropSpec, SpecInvalid, Wave, amended, parse
from engine.errors import Invalid, Refused
from engine.ids import DropId


class Status(StrEnum):
    DRAFT = "draft"
    LAUNCHED = "launched"
    PAUSED = "paused"
    CLOSED = "closed"


class Verb(StrEnum):
    CREATE = "create"
    LAUNCH = "launch"
    PAUSE = "pause"
    RESUME = "resume"
    RESTOCK = "restock"
    AMEND = "amend"
    CLOSE = "close"
    REBUILD = "rebuild"  # the state in the store is made anew from the ledger, under a new epoch


_STEPS: Mapping[Verb, tuple[frozenset[Status], Status | None]] = {
    # verb: the statuses it may start from, and the status after it (None: unchanged)
    Verb.LAUNCH: (frozenset({Status.DRAFT}), Status.LAUNCHED),
    Verb.PAUSE: (frozenset({Status.LAUNCHED}), Status.PAUSED),
    Verb.RESUME: (frozenset({Status.PAUSED}), Status.LAUNCHED),
    Verb.RESTOCK: (frozenset({Status.LAUNCHED, Status.PAUSED}), None),
    Verb.AMEND: (frozenset({Status.DRAFT, Status.LAUNCHED, Status.PAUSED}), None),
    Verb.CLOSE: (frozenset({Status.LAUNCHED, Status.PAUSED}), Status.CLOSED),
    Verb.REBUILD: (frozenset(Status), None),
}


COMMITTED_FIELDS = frozenset({"allocation", "closes_at", "draw", "items", "waves"})  # of a draw, once it is committed


class NoSuchDrop(Refused):
    code: ClassVar[str] = "no-such-drop"


class DuplicateDrop(Refused):
    code: ClassVar[str] = "duplicate-drop"


class WrongStatus(Refused):
    """The act does not fit the drop's status: a closed drop cannot be resumed."""

    code: ClassVar[str] = "wrong-status"


class NotCommitted(Refused):
    """A draw takes no entries before it is committed to by what it will be drawn."""

    code: ClassVar[str] = "not-committed"


class AlreadyCommitted(Refused):
    """What was committed to, and published, is not changed any more."""

    code: ClassVar[str] = "already-committed"


class StaleRevision(Refused):
    """Somebody else changed the drop in the meantime: read it again, then decide again."""

    code: ClassVar[str] = "stale-revision"


class KeyReused(Invalid):
    """An `Idempotency-Key` that its operator has used for another request on this drop."""

    code: ClassVar[str] = "idempotency-key-reused"


class RestockInvalid(Invalid):
    code: ClassVar[str] = "restock-invalid"


class Actor(NamedTuple):
    """Which operator acts; an act sent again under the same key is answered as it was, not done again.

    Source of the key: RFC draft "The Idempotency-Key HTTP Header Field", draft-ietf-httpapi-idempotency-key-header.
    """

    member_id: str
    idempotency_key: str | None = None
    part_of: str | None = None  # which part of which larger act: the same one whoever does it

    def act(self) -> str:
        """The id of the act: one of its own without a key, else the same for the same operator and key."""
        if self.part_of is not None:
            return blake2b(self.part_of.encode(), digest_size=16).hexdigest()
        if self.idempotency_key is None:
            return secrets.token_hex(16)
        return blake2b(f"{self.member_id}\0{self.idempotency_key}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Control:
    """One act on a drop.

    `at` is the store's time of the act; `act` is its id (`Actor.act`), by which the same act applied twice is
    recognised; `change` holds what the verb needs: `{"spec": …}` for create and amend, `{"item", "quantity"}` for
    restock, `{"pause", …}` for rebuild (engine/ledger/rebuild.py), `{"committed": …}` for the launch of an instant win.
    """

    verb: Verb
    revision: int
    actor: str
    at: datetime
    act: str
    change: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Drop:
    """A drop as the ledger records it: its definition, and where it stands."""

    spec: DropSpec
    status: Status
    revision: int
    epoch: int
    id: DropId = field(init=False)  # these are read at each claim: they are worked out once
    opens_ms: int = field(init=False)
    closes_ms: int = field(init=False)
    relatives: tuple[str, ...] = field(init=False)  # the other drops whose claims count together with this one's

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", DropId(self.spec.id))
        object.__setattr__(self, "opens_ms", to_ms(self.spec.opens_at))
        object.__setattr__(self, "closes_ms", to_ms(self.spec.closes_at))
        campaign = self.spec.campaign
        object.__setattr__(self, "relatives", campaign.relatives(self.spec.id) if campaign else ())

    def item_index(self, item_id: str) -> int | None:
        """The item's number in tickets, scripts and receipts, from 1; None if the drop has no such item."""
        for index, item in enumerate(self.spec.items, start=1):
            if item.id == item_id:
                return index
        return None


def after(drop: Drop | None, control: Control) -> Drop:
    """The drop as it is after a control.

    Raises `WrongStatus` where the verb does not fit the status, `StaleRevision` where the control is not the next
    one, `SpecInvalid` where the change makes no legal drop, `RestockInvalid` for an unknown item or no quantity.
    """
    if control.verb is Verb.CREATE:
        if drop is not None:
            raise DuplicateDrop(f"there is a drop {drop.id!r} already: choose another id", drop_id=drop.id)
        spec = _uncommitted(DropSpec.model_validate(control.change["spec"]))
        return Drop(spec, Status.DRAFT, control.revision, epoch=1)
    if drop is None:
        raise NoSuchDrop("there is no such drop")
    starts, ends = _STEPS[control.verb]
    if drop.status not in starts:
        raise WrongStatus(
            f"drop {drop.id!r} is {drop.status}: {control.verb} needs it to be {' or '.join(sorted(starts))}",
            status=str(drop.status),
            allowed_from=sorted(starts),
        )
    if control.revision != drop.revision + 1:
        raise StaleRevision(
            f"drop {drop.id!r} is at revision {drop.revision}: read it again, then decide again",
            revision=drop.revision,
        )
    if control.verb is Verb.REBUILD:
        status = Status.PAUSED if control.change["pause"] and drop.status is Status.LAUNCHED else drop.status
        return replace(drop, status=status, revision=control.revision, epoch=drop.epoch + 1)
    return replace(drop, spec=_changed_spec(drop, control), status=ends or drop.status, revision=control.revision)


def _changed_spec(drop: Drop, control: Control) -> DropSpec:
    if control.verb is Verb.RESTOCK:
        return _restocked(drop, control)
    if control.verb is Verb.AMEND:
        return _amended(drop, control)
    return instant_rules.committed(drop.spec, control.change) if control.verb is Verb.LAUNCH else drop.spec


def _uncommitted(spec: DropSpec) -> DropSpec:
    if spec.instant and spec.instant.committed:
        raise SpecInvalid("instant.committed: it comes by the launch, leave it out", field="instant.committed")
    return spec


def _amended(drop: Drop, control: Control) -> DropSpec:
    changed = amended(drop.spec, control.change["spec"], draft=drop.status is Status.DRAFT)
    if drop.status is Status.DRAFT:
        return _uncommitted(changed)
    # Claims that were made within the old window must lie within the new one.
    if changed.opens_at != drop.spec.opens_at and control.at >= drop.spec.opens_at:
        raise SpecInvalid(f"opens_at: drop {drop.id!r} has opened already, pause it instead", field="opens_at")
    if changed.closes_at != drop.spec.closes_at and changed.closes_at <= control.at:
        raise SpecInvalid("closes_at: this time is over already, close the drop instead", field="closes_at")
    return changed


def _restocked(drop: Drop, control: Control) -> DropSpec:
    item_id, quantity = control.change["item"], control.change["quantity"]
    if drop.spec.instant:
        raise RestockInvalid(f"the prizes of {drop.id!r} were committed to at its launch: make another drop of more")
    if drop.item_index(item_id) is None:
        known = ", ".join(item.id for item in drop.spec.items)
        raise RestockInvalid(f"drop {drop.id!r} has no item {item_id!r}: it has {known}", field="item")
    if type(quantity) is not int or not 1 <= quantity <= STOCK_MAX:
        raise RestockInvalid(f"quantity: {str(quantity)[:20]!r} is not from 1 to {STOCK_MAX} units", field="quantity")
    items = [
        {**item.model_dump(), "stock": item.stock + quantity} if item.id == item_id else item.model_dump()
        for item in drop.spec.items
    ]
    waves = [wave.model_dump() for wave in drop.spec.releases()]
    waves.append(Wave(at=max(control.at, drop.spec.opens_at), stock={item_id: quantity}).model_dump())
    try:
        return parse({**drop.spec.model_dump(by_alias=True), "items": items, "waves": waves}, "restock")
    except SpecInvalid as error:
        raise RestockInvalid(error.detail, **error.facts) from None


def split(stock: int, partitions: int, partition: int) -> int:
    """The share of a partition in a stock: shares differ by one at most and sum to the stock."""
    share, rest = divmod(stock, partitions)
    return share + (partition < rest)


def shares(
    drop: Drop, partitions: int, partition: int, prizes: Sequence[tuple[int, int]] = ()
) -> list[tuple[int, int, int]]:
    """What is released in a partition: (at ms, item, units); the prizes of an instant win as its sequence has them."""
    dealt = Counter(item for _, item in prizes)
    blank = len(drop.spec.items)
    found = []
    for wave in drop.spec.releases():
        for item_id, quantity in wave.stock.items():
            number = drop.item_index(item_id) or 0
            is_prize = drop.spec.instant is not None and number != blank
            units = dealt[number] if is_prize else split(quantity, partitions, partition)
            found.append((to_ms(wave.at), number, units))
    return found


def store_fields(drop: Drop, partitions: int, partition: int, prizes: Sequence[tuple[int, int]] = ()) -> dict[str, str]:
    """The fields of the drop's hash in one partition that a control sets; counters are not among them.

    `waves` is `at_ms:item:quantity` joined by commas, cut into the partition's share; `prizes` is the partition's
    sequence of an instant win.
    """
    return {
        "status": str(drop.status),
        "epoch": str(drop.epoch),
        "opens_ms": str(drop.opens_ms),
        "closes_ms": str(drop.closes_ms),
        "limit": str(drop.spec.limit_per_member),
        "items": str(len(drop.spec.items)),
        "waves": ",".join(":".join(map(str, share)) for share in shares(drop, partitions, partition, prizes)),
        "allotments": ",".join(
            f"{drop.item_index(part.item)}:{part.number}:{split(part.stock, partitions, partition)}:{to_ms(part.until)}"
            for part in drop.spec.allotments
        ),
        "family": ",".join(drop.relatives),
        "scopes": scopes_text(drop.spec.campaign, drop.spec.opens_at, drop.spec.closes_at),
        "prizes": str(len(prizes)),
    }


def to_ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def from_ms(instant_ms: int) -> datetime:
    return datetime.fromtimestamp(instant_ms / 1000, UTC)
