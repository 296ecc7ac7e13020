"""The promise: a map says of each town what the tallies say, and loses no unit."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from engine import towns
from engine.drops.city_map import draw
from engine.drops.model import Drop, Status
from tests.factories.drops import drop_spec

DROP = Drop(drop_spec("trial"), Status.LAUNCHED, 2, 1)
CITY = towns.load()
tallies = st.dictionaries(st.tuples(st.integers(0, 255), st.integers(0, 255)), st.integers(0, 1_000))


@given(tallies)
def test_every_unit_is_somewhere(found: dict[tuple[int, int], int]) -> None:
    drawn = draw(DROP, CITY, found, is_ready=True)
    assert drawn.units == sum(found.values()) == sum(tile.units for tile in drawn.towns) + drawn.elsewhere
    assert drawn.lit == sum(tile.is_lit for tile in drawn.towns) == sum(tile.units > 0 for tile in drawn.towns)
    by_slogan: Counter[str] = Counter()
    for (_, slogan), units in found.items():
        by_slogan[str(slogan)] += units if slogan else 0
    assert drawn.slogans == +by_slogan
    for tile in drawn.towns:
        of_town = {slogan: units for (town, slogan), units in found.items() if town == tile.number}
        assert tile.units == sum(of_town.values())
        assert tile.slogans == {str(slogan): units for slogan, units in of_town.items() if slogan and units}


def test_towns_are_those_of_the_file_in_its_order() -> None:
    drawn = draw(DROP, CITY, {(19, 2): 3, (19, 0): 1, (0, 2): 2, (200, 1): 4, (6, 1): 0}, is_ready=False)
    assert [tile.zh for tile in drawn.towns] == list(CITY.zh())
    dalang, humen = drawn.towns[18], drawn.towns[5]
    assert (dalang.en, dalang.units, dalang.is_lit, dalang.slogans) == ("Dalang", 4, True, {"2": 3})
    assert (humen.units, humen.is_lit, humen.slogans) == (0, False, {})
    assert (drawn.units, drawn.elsewhere, drawn.lit, drawn.slogans) == (10, 6, 1, {"2": 5, "1": 4})
    assert not drawn.is_ready
