"""What is known of a drop, as the promises take it (engine/ledger/promises.py): claims, refusals, counters. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.claims.decide import Allotted
from engine.claims.history import Group
from engine.ids import ClaimId


class Fact(NamedTuple):
    """What one side says of one claim; `item` is the item's number in the drop."""

    claim_id: ClaimId
    subject: str
    nonce: bytes
    item: int
    quantity: int
    at_ms: int
    town: int = 0
    slogan: int = 0
    is_released: bool = False


class SoldOut(NamedTuple):
    """A client was told that an item was sold out: asked for so many units at `sent_ms`, answered at `answered_ms`.

    `town` is the number of the town whose reserve was theirs to take from; 0 for none.
    """

    item: int
    quantity: int
    sent_ms: int
    answered_ms: int
    town: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """All that is known of one drop: what clients were told, what the store holds, what waits, what was recorded.

    `counters` is the store's own count of units taken per item, None while claims are coming in; `serials` is the last
    serial given in each partition, `skipped` the serials (first, last) that a rebuild left out. `waves` are (at ms,
    item, quantity); `limits` are the limits that held (from ms, to ms, limit), none where it is `limit` all the time;
    `shut` are the times (from ms, to ms) when the drop was not launched. `fenced` are claims of an epoch that was over,
    `buried` the entries in the dead letters, `altered` the links of the operators' actions that do not hold,
    `over_campaign` the claims past a limit of the campaign, as the ledger finds them (engine/ledger/evidence.py).

    `allotments` are the units in reserve for towns; `town_counters` what the store counts as taken of each (by item and
    town), `tallies` its units by town and slogan, None while claims are coming in. Where `is_part`, `recorded` is a
    window of one partition, and `carried` what members hold of the claims before it; `stored` is of a few subjects.
    """

    limit: int
    opens_ms: int
    closes_ms: int
    waves: Sequence[tuple[int, int, int]]
    told: Sequence[Fact] = ()
    stored: Sequence[Fact] = ()
    waiting: Sequence[Fact] = ()
    recorded: Sequence[Fact] = ()
    counters: Mapping[int, int] | None = None
    serials: Mapping[int, int] = field(default_factory=dict)
    skipped: Mapping[int, Sequence[tuple[int, int]]] = field(default_factory=dict)
    limits: Sequence[tuple[int, int, int]] = ()
    shut: Sequence[tuple[int, int]] = ()
    allotments: Sequence[Allotted] = ()
    town_counters: Mapping[tuple[int, int], int] = field(default_factory=dict)
    tallies: Mapping[tuple[int, int], int] | None = None
    is_part: bool = False
    carried: Mapping[Group, int] = field(default_factory=dict)
    sold_out: Sequence[SoldOut] = ()
    fenced: Sequence[ClaimId] = ()
    buried: Sequence[str] = ()
    altered: Sequence[str] = ()
    over_campaign: Sequence[str] = ()
