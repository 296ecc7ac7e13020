"""The towns of the city, from a data file: their numbers, names, tiles on the map and centres.

A town is known by its Chinese name (a member's `town`), and inside tickets and tallies by its number, one byte.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from engine.errors import Misconfigured

DONGGUAN = Path(__file__).with_name("dongguan.toml")
TOWNS_MAX = 255  # a number is one byte, and 0 is no town
TILES_MAX = 32  # rows, and columns, of the map
_Name = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^\S(.*\S)?$")]


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Town:
    """A town-level area. `number` is its place in the file, from 1; `lon` and `lat` are degrees of its centre."""

    number: int
    code: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}$")]
    zh: _Name
    en: _Name
    row: Annotated[int, Field(ge=0, lt=TILES_MAX, strict=True)]
    col: Annotated[int, Field(ge=0, lt=TILES_MAX, strict=True)]
    lon: Annotated[float, Field(ge=-180, le=180)]
    lat: Annotated[float, Field(ge=-90, le=90)]
    aliases: Annotated[tuple[_Name, ...], Field(max_length=20)] = ()


class Towns(tuple[Town, ...]):
    """The towns in the order of their numbers."""

    __slots__ = ()

    def numbered(self, number: int) -> Town | None:
        """The town of a number; None for 0, or one that no town has."""
        return self[number - 1] if 1 <= number <= len(self) else None

    def named(self, text: str) -> Town | None:
        """The town that a text names: by its Chinese or English name, its code, or an alias."""
        return _by_name(self).get(_folded(text))

    def zh(self) -> tuple[str, ...]:
        """The names as members' attributes have them."""
        return tuple(town.zh for town in self)


def load(path: Path | None = None) -> Towns:
    """The towns of a file, else of Dongguan, read once; raises `Misconfigured` with what is wrong where."""
    return _load(path or DONGGUAN)


@cache
def _load(path: Path) -> Towns:
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path}: {error}") from None
    given = rows.get("town")
    if set(rows) != {"town"} or not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        raise Misconfigured(f"{path}: expected [[town]] tables and nothing else, as in {DONGGUAN}")
    if not 1 <= len(given) <= TOWNS_MAX:
        raise Misconfigured(f"{path}: {len(given)} towns; a city has from 1 to {TOWNS_MAX} here")
    if numbered := [place for place, row in enumerate(given, start=1) if "number" in row]:
        raise Misconfigured(f"{path}: town {numbered[0]}: number: is a town's place in the file; leave it out")
    try:
        found = _TOWNS.validate_python([{**row, "number": place} for place, row in enumerate(given, start=1)])
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        place, *field = fault["loc"]
        name = ".".join(str(part) for part in field)
        raise Misconfigured(f"{path}: town {int(place) + 1}: {name}: {fault['msg'].lower()}") from None
    towns = Towns(found)
    _check_unlike(path, towns)
    return towns


_TOWNS = TypeAdapter(list[Town])


def _check_unlike(path: Path, towns: Towns) -> None:
    """No two towns share a tile or a name."""
    seen: dict[object, Town] = {}
    for town in towns:
        for mark in {(town.row, town.col), *_names(town)}:
            other = seen.setdefault(mark, town)
            if other is not town:
                shown = f"row {town.row}, col {town.col}" if isinstance(mark, tuple) else repr(mark)
                raise Misconfigured(f"{path}: town {town.number}: {shown} is town {other.number}'s already")


@cache
def _by_name(towns: Towns) -> dict[str, Town]:
    return {name: town for town in towns for name in _names(town)}


def _names(town: Town) -> set[str]:
    return {_folded(name) for name in (town.code, town.zh, town.en, *town.aliases)}


def _folded(text: str) -> str:
    return text.strip().casefold()
