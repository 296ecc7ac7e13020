"""Watches every step of the store, and says which promise it breaks: what no look at the end can see.

It decides nothing and calls none of the functions that decide: it counts units and looks up tickets by itself.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Protocol

from engine.claims import acts, decide
from engine.claims.acts import Act
from engine.claims.decide import Caller, DropState, Window
from engine.claims.model import Decision, Verdict
from engine.claims.wire import ClaimRequest, StoredClaim
from tests.simulation.store import Asked, Part
from tests.simulation.stream import Order

Waves = list[tuple[int, int, int]]


class Recorded(Protocol):
    """The ledger, as far as the judge asks it."""

    def has_entry(self, partition: int, fields: Mapping[bytes, bytes]) -> bool: ...


@dataclass
class Judge:
    """`broken` is what was found; each line begins with the name of the check."""

    recorded: Recorded
    is_tampered: bool = False  # then what the store holds may be wrong before the reconciler has seen it
    broken: list[str] = field(default_factory=list)
    latest_ms: int = 0  # the furthest that the store's clock ever was: what a wave released then stays released
    accepted: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    _ended: dict[tuple[int, str], int] = field(default_factory=dict)  # the epoch that was to come at the last fence

    def breaks(self, check: str, detail: str) -> None:
        self.broken.append(f"{check}: {detail}")

    def claimed(
        self, part: Part, partition: int, drop_id: str, caller: Caller, asked: Asked, now_ms: int
    ) -> list[Decision]:
        self.latest_ms = max(now_ms, self.latest_ms)
        state = part.state.drops.get(drop_id)
        before = _copied(state, {request.subject for request, _ in asked}) if state is not None else None
        home, told = part.state.home, max(caller.told, part.state.told.get(drop_id, 0))
        decisions = decide.decide_batch(part.state, drop_id, caller, asked, now_ms)
        self.decisions.update(decision.verdict.name for decision in decisions)
        if before is None or home != caller.home or told > before.serial:
            why = "absent" if before is None else "not at home" if home != caller.home else "behind what was told"
            if any(decision.verdict is not Verdict.NOT_READY for decision in decisions):
                self.breaks("unready store decides", f"{drop_id}: the state is {why}")
            return decisions
        case = _Case(self, before, caller, now_ms, self._ended.get((partition, drop_id), 0))
        for (request, window), decision in zip(asked, decisions, strict=True):
            case.hear(request, window, decision)
        assert state is not None
        if (state.serial, state.taken) != (before.serial, before.taken):
            self.breaks("refused burns nothing", f"{state.serial} {state.taken}, not {before.serial} {before.taken}")
        return decisions

    def released(self, part: Part, partition: int, claim: tuple[str, str, int], do: Callable[[], str]) -> str:
        drop_id, subject, serial = claim
        state = part.state.drops.get(drop_id)
        before = _copied(state, {subject}) if state is not None else None
        said = do()
        if state is None or before is None:
            return said
        known = next((held for held in before.claims.get(subject, ()) if held.serial == serial), None)
        if said == "released" and (known is None or known.released):
            self.breaks("released gives back once", f"{drop_id}.{partition}.{serial} was {known}")
        if said == "released" and known is not None:
            before.taken[known.item] -= known.quantity
        if state.taken != before.taken:
            self.breaks("released gives back once", f"{said}: taken is {state.taken}, not {before.taken}")
        return said

    def fenced(self, partition: int, drop_id: str, epoch: int) -> None:
        self._ended[partition, drop_id] = epoch

    def twin(self) -> "Judge":
        """The judge of a store that lives on beside its successor: it hears of the successor's fences no more."""
        found = copy(self)
        found._ended = dict(self._ended)
        return found

    def forget_fences(self) -> None:
        """Another store is there: what it was told last counts no more."""
        self._ended.clear()

    def rebuilt(self, part: Part, partition: int, drop_id: str, act: Act, subjects: int) -> str:
        old = part.state.drops.get(drop_id)
        said = acts.rebuild(part.state, drop_id, act, subjects)
        new = part.state.drops.get(drop_id)
        if said != "applied" or new is None:
            return said
        if old is not None and old.epoch < new.epoch:
            self.breaks("fenced before it is rebuilt", f"{drop_id}: epoch {old.epoch}, then {new.epoch}")
        ours = {claim.serial: claim for held in new.claims.values() for claim in held}
        for claim in (claim for held in old.claims.values() for claim in held) if old is not None else ():
            made = ours.get(claim.serial)
            if made is None:
                self.breaks("rebuilt equals old", f"{drop_id}.{partition}.{claim.serial} is forgotten")
            elif (
                made != claim and not self.is_tampered and made._replace(released=True) != claim._replace(released=True)
            ):
                self.breaks("rebuilt equals old", f"{claim} became {made}")
        units = Counter[int]()
        for claim in ours.values():
            units[claim.item] += 0 if claim.released else claim.quantity
        if any(units[item] != taken for item, taken in new.taken.items()):
            self.breaks("rebuilt equals old", f"{drop_id}: taken is {new.taken}, claims sum to {dict(units)}")
        if new.serial < max(ours, default=0):
            self.breaks("rebuilt equals old", f"{drop_id}: serial {new.serial}, there is {max(ours)}")
        return said

    def trimmed(self, partition: int, gone: list[tuple[Order, dict[bytes, bytes]]]) -> None:
        for at, fields in gone:
            if not self.recorded.has_entry(partition, fields):
                self.breaks("trimmed only after commit", f"entry {at} of partition {partition} is in no ledger")


class _Case:
    """One batch: `state` is what it must be after each decision that was heard."""

    def __init__(self, judge: Judge, state: DropState, caller: Caller, now_ms: int, ended: int) -> None:
        self._judge = judge
        self._state = state
        self._caller = caller
        self._now_ms = now_ms
        self._ended = ended

    def hear(self, request: ClaimRequest, window: Window, decision: Decision) -> None:
        known = next((c for c in self._state.claims.get(request.subject, ()) if c.nonce == request.nonce), None)
        if known is not None:
            self._repeated(known, decision)
        elif decision.verdict is Verdict.ACCEPTED:
            self._accepted(request, window, decision)
        else:
            self._refused(request, decision)

    def _repeated(self, known: StoredClaim, decision: Decision) -> None:
        told = (decision.verdict, decision.serial, decision.item, decision.quantity, decision.at_ms)
        wanted = (Verdict.REPEATED, known.serial, known.item, known.quantity, known.at_ms)
        if told != ((Verdict.CLAIM_RELEASED, 0, 0, 0, 0) if known.released else wanted):
            self._judge.breaks("one ticket, one claim", f"{known} was answered by {decision}")

    def _accepted(self, request: ClaimRequest, window: Window, decision: Decision) -> None:
        state, now_ms, judge = self._state, self._now_ms, self._judge
        judge.accepted += 1
        if state.fenced or self._caller.epoch != state.epoch or self._caller.epoch < self._ended:
            judge.breaks("fenced store accepts nothing", f"epoch {self._caller.epoch}, the store's is {state.epoch}")
        if state.status != "launched":
            judge.breaks("claims only while launched", f"the drop is {state.status}")
        if not state.opens_ms <= now_ms < state.closes_ms:
            judge.breaks("claims only in the window", f"at {now_ms}: {state.opens_ms} to {state.closes_ms}")
        if not window.not_before_ms <= now_ms < window.expires_at_ms:
            judge.breaks("tickets expire", f"at {now_ms}: {window}")
        held = sum(claim.quantity for claim in state.claims.get(request.subject, ()) if not claim.released)
        if held + request.quantity > state.limit:
            judge.breaks("never over the limit", f"{request.subject} held {held} of {state.limit}: {decision}")
        if self._released(request.item) < state.taken.get(request.item, 0) + request.quantity:
            judge.breaks("never oversold", f"item {request.item}: {state.taken} of {state.waves} at {now_ms}")
        if decision.serial != state.serial + 1:
            judge.breaks("serials without gap or double", f"{decision.serial} after {state.serial}")
        state.serial += 1
        state.taken[request.item] = state.taken.get(request.item, 0) + request.quantity
        state.claims.setdefault(request.subject, []).append(
            StoredClaim(request.nonce, decision.serial, request.item, request.quantity, released=False, at_ms=now_ms)
        )

    def _refused(self, request: ClaimRequest, decision: Decision) -> None:
        state = self._state
        held = sum(claim.quantity for claim in state.claims.get(request.subject, ()) if not claim.released)
        left = self._released(request.item) - state.taken.get(request.item, 0)
        is_true = {
            Verdict.SOLD_OUT: left < request.quantity,
            Verdict.LIMIT_REACHED: held + request.quantity > state.limit,
            Verdict.PAUSED: state.status == "paused",
            # One partition may be rebuilt before another: what is fenced waits for its own rebuild under any epoch.
            Verdict.STALE_EPOCH: state.fenced or self._caller.epoch != state.epoch,
            Verdict.REPEATED: False,
            Verdict.CLAIM_RELEASED: False,
            Verdict.NOT_READY: False,
        }.get(decision.verdict, True)
        if not is_true:
            self._judge.breaks(
                f"{decision.verdict.name.lower()} is true when said", f"{request}: {decision}, left {left}"
            )

    def _released(self, item: int) -> int:
        return sum(quantity for at, of, quantity in self._state.waves if of == item and at <= self._now_ms)


def _copied(state: DropState, subjects: set[str]) -> DropState:
    """What a step can change: the counters, and the claims of those whom it is about."""
    found = copy(state)
    found.taken = dict(state.taken)
    found.claims = {subject: list(state.claims[subject]) for subject in sorted(subjects) if subject in state.claims}
    return found
