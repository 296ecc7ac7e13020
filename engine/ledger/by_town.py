"""The promises about towns: tallies, and stock in reserve for a town's members. Pure; see engine/ledger/promises.py."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

from engine.claims.decide import Allotted
from engine.ledger.facts import Fact, History


def tallies_off(history: History) -> list[str]:
    """The store's tallies say what its claims sum to by town and slogan; when nothing waits, what the ledger's do."""
    if history.tallies is None:
        return []
    sides = [] if history.is_part else [("store's claims", _tallied(history.stored))]
    if not history.waiting:
        recorded = _tallied(history.recorded)
        for group, units in history.carried.items():
            recorded[group.town, group.slogan] += units
        sides.append(("ledger's claims", recorded))
    return [
        f"town {town}, slogan {slogan}: the store's tally is {history.tallies.get((town, slogan), 0)},"
        f" the {side} sum to {sums[town, slogan]}"
        for side, sums in sides
        for town, slogan in sorted(history.tallies.keys() | sums.keys())
        if (town or slogan) and sums[town, slogan] != history.tallies.get((town, slogan), 0)
    ]


def town_counters_off(history: History) -> list[str]:
    """Where what the store counts as taken of a town's reserve is not what its claims sum to."""
    held: Counter[tuple[int, int]] = Counter()
    for fact in history.stored:
        if not fact.is_released:
            held[fact.item, fact.town] += fact.quantity
    return [
        f"store: item {item} is counted as {count} taken for town {town}, its claims sum to {held[item, town]}"
        for (item, town), count in history.town_counters.items()
        if held[item, town] != count
    ]


def from_reserve(history: History) -> list[str]:
    """No claim was ever given a unit that another town still had in reserve.

    A claim that was given back counts as if it had never been: so no town looks as if it had taken more than it holds.
    """
    if not history.allotments:
        return []
    sides = [("ledger", history.recorded)] + ([] if history.is_part else [("store", history.stored)])
    found = []
    for side, facts in sides:
        reserve = _Reserve(history)
        for fact in sorted((f for f in facts if not f.is_released), key=lambda f: (f.at_ms, f.claim_id)):
            short = reserve.take(fact)
            if short > 0:
                found.append(
                    f"{side}: {fact.claim_id} for town {fact.town} took {min(short, fact.quantity)} units of"
                    f" item {fact.item} that were in reserve for others"
                )
    return found


class _Reserve:
    """What was released and taken, and what is in reserve for each town, as one claim follows the other in time."""

    def __init__(self, history: History) -> None:
        self._waves = sorted(history.waves, reverse=True)
        self._ends = sorted(history.allotments, key=lambda part: part.until_ms, reverse=True)
        self._free: Counter[int] = Counter()  # item → released and not taken
        self._kept = {(part.item, part.town): part.units for part in history.allotments}  # what is still in reserve
        self._kept_of: Counter[int] = Counter()  # item → what is in reserve for all towns together
        for part in history.allotments:
            self._kept_of[part.item] += part.units
        for group, units in history.carried.items():
            self._count(group.item, group.town, units)

    def take(self, fact: Fact) -> int:
        """Take a claim's units; how many of them were in reserve for other towns, or were not there at all."""
        self._go_to(fact.at_ms)
        kept_by_others = self._kept_of[fact.item] - self._kept.get((fact.item, fact.town), 0)
        short = kept_by_others + fact.quantity - self._free[fact.item]
        self._count(fact.item, fact.town, fact.quantity)
        return min(short, kept_by_others)

    def _go_to(self, at_ms: int) -> None:
        while self._waves and self._waves[-1][0] <= at_ms:
            _, item, quantity = self._waves.pop()
            self._free[item] += quantity
        while self._ends and self._ends[-1].until_ms <= at_ms:
            ended = self._ends.pop()
            self._kept_of[ended.item] -= self._kept.pop((ended.item, ended.town))

    def _count(self, item: int, town: int, units: int) -> None:
        self._free[item] -= units
        kept = self._kept.get((item, town))
        if kept is not None:
            own = min(kept, units)
            self._kept[item, town] -= own
            self._kept_of[item] -= own


class Left:
    """How many units of an item were left for a town's members at a moment; claims given back count as held."""

    def __init__(self, history: History, item: int) -> None:
        self._waves = [(at, quantity) for at, of, quantity in history.waves if of == item]
        self._allotments = [part for part in history.allotments if part.item == item]
        facts = [fact for fact in history.stored if fact.item == item]
        self._taken = _Sums(facts)
        self._taken_by = {
            part.town: _Sums(fact for fact in facts if fact.town == part.town) for part in self._allotments
        }

    def at(self, at_ms: int, town: int) -> int:
        released = sum(quantity for at, quantity in self._waves if at <= at_ms)
        return released - self._taken.at(at_ms) - sum(self._kept(part, at_ms) for part in self._of_others(at_ms, town))

    def _of_others(self, at_ms: int, town: int) -> Iterable[Allotted]:
        return (part for part in self._allotments if part.town != town and at_ms < part.until_ms)

    def _kept(self, part: Allotted, at_ms: int) -> int:
        return max(0, part.units - self._taken_by[part.town].at(at_ms))


class _Sums:
    """How many units some claims had taken by a moment."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        taken = sorted((fact.at_ms, fact.quantity) for fact in facts)
        self._moments = [at for at, _ in taken]
        self._sums = [0, *accumulate(quantity for _, quantity in taken)]

    def at(self, at_ms: int) -> int:
        return self._sums[bisect_right(self._moments, at_ms)]


def _tallied(facts: Iterable[Fact]) -> Counter[tuple[int, int]]:
    sums: Counter[tuple[int, int]] = Counter()
    for fact in facts:
        if not fact.is_released:
            sums[fact.town, fact.slogan] += fact.quantity
    return sums
