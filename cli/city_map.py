"""The map of a drop as a picture of text: a tile for each town where the towns' file has it, lit ones in reverse."""

from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import east_asian_width

_LIT, _PLAIN = "\033[7m", "\033[0m"


def picture(towns: Sequence[Mapping[str, Any]]) -> str:
    """Rows of tiles with name and units, all of one width; a Chinese character is two columns of a terminal."""
    tiles = {(town["row"], town["col"]): town for town in towns}
    lines_of = {place: (str(town["zh"]), f"{town['units']}") for place, town in tiles.items()}
    width = max((columns(line) for lines in lines_of.values() for line in lines), default=0) + 2
    rows, cols = (range(max((place[axis] for place in tiles), default=-1) + 1) for axis in (0, 1))
    found = []
    for row in rows:
        for part in (0, 1):
            cells = [_cell(lines_of.get((row, col), ("", ""))[part], width, tiles.get((row, col))) for col in cols]
            found.append(" ".join(cells).rstrip())
        found.append("")
    return "\n".join(found[:-1])


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def _cell(text: str, width: int, town: Mapping[str, Any] | None) -> str:
    before = (width - columns(text)) // 2
    filled = " " * before + text + " " * (width - columns(text) - before)
    return f"{_LIT}{filled}{_PLAIN}" if town is not None and town["is_lit"] else filled
