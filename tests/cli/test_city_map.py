"""The promise: the picture has each town in its place, and its columns stand under each other."""

import re
from typing import Any

from cli.city_map import columns, picture
from engine import towns

_MARKS = re.compile("\033\\[[07]m")


def tile(zh: str, row: int, col: int, units: int) -> dict[str, Any]:
    return {"zh": zh, "row": row, "col": col, "units": units, "is_lit": units > 0}


def test_a_small_city() -> None:
    drawn = picture([tile("大岭山", 0, 1, 0), tile("虎门", 1, 0, 12_345)])
    assert drawn.splitlines() == [
        "          大岭山",
        "            0",
        "",
        "\033[7m  虎门  \033[0m",
        "\033[7m 12345  \033[0m",
    ]


def test_columns_stand_under_each_other_and_no_town_is_left_out() -> None:
    city = towns.load()
    lines = picture([tile(town.zh, town.row, town.col, town.number * 997) for town in city]).splitlines()
    width = max(columns(town.zh) for town in city) + 2
    for town in city:
        name, units = (_MARKS.sub("", lines[town.row * 3 + part]) for part in (0, 1))
        start = town.col * (width + 1)
        assert town.zh in _cut(name, start, width)
        assert str(town.number * 997) in _cut(units, start, width)


def test_a_city_without_towns_is_nothing() -> None:
    assert picture([]) == ""


def _cut(line: str, start: int, width: int) -> str:
    """The signs that stand in some columns of the terminal."""
    found, at = "", 0
    for sign in line:
        if start <= at < start + width:
            found += sign
        at += columns(sign)
    return found
