"""The map of a drop: units by town and slogan, from the tallies of all partitions. Pure.

A town is lit as soon as its members hold a unit that counts for it, and goes dark where they give back the last.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from engine.drops.model import Drop
from engine.towns import Towns


@dataclass(frozen=True, slots=True)
class TownTally:
    """A town's tile: where it lies, and units that count for it, in all and by slogan."""

    number: int
    code: str
    zh: str
    en: str
    row: int
    col: int
    is_lit: bool
    units: int
    slogans: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CityMap:
    """All towns of the towns' file. `elsewhere` are units that count for a slogan and for none of these towns.

    `is_ready` is false where the store has not all of the drop's state: then the units are not all there either.
    """

    drop_id: str
    is_ready: bool
    units: int
    lit: int
    elsewhere: int
    slogans: Mapping[str, int]
    towns: tuple[TownTally, ...]


def slogan_id(drop: Drop, number: int) -> str:
    """What a slogan is called on the map: its id in the drop's gate; its number, where the gate has none of it."""
    slogan = drop.spec.gates.slogan
    choices = slogan.choices if slogan is not None else ()
    return choices[number - 1].id if 1 <= number <= len(choices) else str(number)


def draw(drop: Drop, towns: Towns, tallies: Mapping[tuple[int, int], int], *, is_ready: bool) -> CityMap:
    """The map that follows from tallies: (town, slogan) → units."""
    of_town: dict[int, Counter[str]] = {}
    units, slogans = Counter[int](), Counter[str]()
    for (town, slogan), count in sorted(tallies.items()):
        units[town] += count
        if slogan and count:
            of_town.setdefault(town, Counter())[slogan_id(drop, slogan)] += count
            slogans[slogan_id(drop, slogan)] += count
    tiles = tuple(
        TownTally(
            number=town.number,
            code=town.code,
            zh=town.zh,
            en=town.en,
            row=town.row,
            col=town.col,
            is_lit=units[town.number] > 0,
            units=units[town.number],
            slogans=dict(of_town.get(town.number, {})),
        )
        for town in towns
    )
    total = units.total()
    return CityMap(
        drop_id=drop.id,
        is_ready=is_ready,
        units=total,
        lit=sum(tile.is_lit for tile in tiles),
        elsewhere=total - sum(tile.units for tile in tiles),
        slogans=dict(slogans),
        towns=tiles,
    )
