"""What a rebuild would put in the place of a drop's state, how that differs from what is there, and what speaks
against it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from engine.claims.history import RecordedClaim
from engine.claims.wire import Prize
from engine.drops.model import Drop, Status
from engine.errors import Refused
from engine.ledger import remake
from engine.ledger.remake import Brought, Excess, Made

_NAMED_MAX = 20  # claims of one kind that a report names


class RebuildRefused(Refused):
    """Something is known that a rebuild would contradict or forget; the fact `conflicts` lists it."""

    code: ClassVar[str] = "rebuild-refused"


@dataclass(frozen=True, slots=True)
class Report:
    """What a rebuild changes, or has changed when `is_applied`.

    `claims` are in the new state, `restored` of them by receipts alone; `superseded` are receipts of lost claims whose
    tickets have got another claim since. `skipped` are serials that somebody was told of and that nobody has proved
    yet: they are given to nobody else. `over_stock` are units of each item that members hold beyond what was released,
    `over_limit` is how many subjects hold more than the limit: they keep what they were told. `only_in_store`,
    `only_in_ledger` and `other` name differences to the state that was there (`had_state`). `acts_lost` are
    acts on the drop that the store has and the ledger has not; a launch counts where claims alone tell of it.
    """

    drop_id: str
    epoch: int
    is_applied: bool
    is_paused: bool
    had_state: bool
    claims: int
    restored: int
    superseded: list[str]
    serials: dict[int, int]
    skipped: list[tuple[int, int, int]]  # partition, first, last
    over_stock: dict[str, int]
    over_limit: int
    only_in_store: list[str]
    only_in_ledger: list[str]
    other: list[str]
    acts_lost: int
    conflicts: list[str]


class Plan:
    """What the new state is, and how it differs from the one that is there."""

    def __init__(self, drop: Drop, brought: Brought, pause: bool) -> None:
        self.drop = drop
        self.restored = brought.restored
        self._superseded = brought.superseded
        self._conflicts = brought.conflicts
        self._pause = pause
        self._differences: list[remake.Difference] = []
        self._had_state = True
        self._was_launched = False
        self._excess = Excess({}, 0)
        self.revision, self.epoch = drop.revision, drop.epoch  # the latest, in the ledger or in the store
        self.made: dict[int, Made] = {}

    def add(
        self,
        partition: int,
        rows: Sequence[RecordedClaim],
        fields: Mapping[bytes, bytes],
        stored: remake.Held,
        told: int,
    ) -> None:
        known = max([0, *(row.claim_id.serial for row in rows)])
        self._had_state = self._had_state and bool(fields)
        self.revision = max(self.revision, int(fields.get(b"revision", 0)))
        self.epoch = max(self.epoch, int(fields.get(b"epoch", 0)) - (b"fenced" in fields))  # fenced: the one to come
        self._pause = self._pause or told > known
        serial_min = max(told, int(fields.get(b"serial", 0)))
        is_draft = fields.get(b"status", b"draft") == b"draft"
        self._was_launched = self._was_launched or not is_draft or max(serial_min, known) > 0
        if self.is_launch_lost:  # an act too, also where the store has lost it
            self.revision = max(self.revision, self.drop.revision + 1)
        made = self.made[partition] = remake.make(rows, self.drop.spec, serial_min)
        difference = remake.compare(self.drop.id, partition, made.claims, stored)
        self._differences.append(difference)
        if not self._conflicts and difference.only_in_store:
            named = ", ".join(str(claim_id) for claim_id in difference.only_in_store[:_NAMED_MAX])
            self._conflicts.append(
                f"the store has claims that the ledger has not, and no receipt proves: {named}"
                " (bring their receipts, or see the dead letters)"
            )

    def weigh(self, limits: Sequence[tuple[int, int, int]], now_ms: int, prizes: Sequence[Sequence[Prize]]) -> None:
        """Look for what was told beyond stock and limit; past the stock the drop gives out nothing more.

        `prizes` is each partition's sequence of an instant win.
        """
        self._excess = remake.excess(self.drop, self.made, limits, now_ms, dict(enumerate(prizes)))
        self._pause = self._pause or bool(self._excess.units)

    @property
    def is_launch_lost(self) -> bool:
        """Whether the drop is a draft in the ledger, though it was launched: the store says so, or claims do."""
        return self._was_launched and self.drop.status is Status.DRAFT

    @property
    def acts_lost(self) -> int:
        """Acts that the store has, or had, and the ledger, which has recorded all of the outbox, has not."""
        return self.revision - self.drop.revision

    def judge_acts(self, *, may_forget: bool) -> None:
        """Acts that would be forgotten: they may be, and the drop is left paused; or that is a conflict."""
        self._pause = True
        if not may_forget:
            known = f"the store is at revision {self.revision}, the ledger at {self.drop.revision}"
            if self.is_launch_lost:
                known = f"the drop was launched, the ledger has the draft of revision {self.drop.revision}"
            self._conflicts.append(
                f"{known}, without the acts since, as after the restore of a backup"
                " (--forget-acts gives them up; see the dead letters too)"
            )

    def check(self) -> None:
        """Raise `RebuildRefused` where the new state would contradict or forget something."""
        if self._conflicts:
            shown = "; ".join(self._conflicts[:_NAMED_MAX])
            raise RebuildRefused(f"drop {self.drop.id!r} is not rebuilt: {shown}", conflicts=self._conflicts)

    def change(self, reason: str) -> dict[str, Any]:
        return {
            "pause": self._pause,
            "reason": reason,
            "restored": len(self.restored),
            "serials": {str(partition): made.serial for partition, made in self.made.items()},
            "skipped": [list(gap) for gap in self._skipped()],
            "over_stock": self._excess.units,
        }

    @property
    def report(self) -> Report:
        return Report(
            drop_id=self.drop.id,
            epoch=self.drop.epoch + 1,
            is_applied=False,
            is_paused=self.drop.status is Status.PAUSED
            or (self._pause and (self.drop.status is Status.LAUNCHED or self.is_launch_lost)),
            had_state=self._had_state,
            claims=sum(len(held) for made in self.made.values() for held in made.claims.values()),
            restored=len(self.restored),
            superseded=[str(claim_id) for claim_id in self._superseded],
            serials={partition: made.serial for partition, made in self.made.items()},
            skipped=self._skipped(),
            over_stock=self._excess.units,
            over_limit=self._excess.subjects,
            only_in_store=self._named("only_in_store"),
            only_in_ledger=self._named("only_made"),
            other=self._named("other"),
            acts_lost=self.acts_lost,
            conflicts=self._conflicts,
        )

    def _skipped(self) -> list[tuple[int, int, int]]:
        return [(partition, *gap) for partition, made in self.made.items() for gap in made.skipped]

    def _named(self, kind: str) -> list[str]:
        return [str(claim_id) for difference in self._differences for claim_id in getattr(difference, kind)]
