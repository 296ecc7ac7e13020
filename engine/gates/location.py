"""Where the member is, as a town; the coordinates are used and forgotten: never kept, never logged, not in an error.

A phone can lie about its place: that costs a liar a minute, and nothing here can tell. So this gate lights up a map and
keeps honest people in their own town's drop; it guards nothing that is worth a lie (docs/security.md). Pure.
"""

from collections.abc import Mapping
from math import isfinite
from typing import ClassVar

from engine.drops.gates import Location as Asked
from engine.drops.model import Drop
from engine.errors import Invalid, Refused
from engine.gates.model import Case, Given, Location, Passed
from engine.towns import Town
from engine.towns.places import Places


class LocationRequired(Refused):
    """The request brings no place."""

    code: ClassVar[str] = "location-required"


class LocationInvalid(Invalid):
    """Numbers that are no place on earth, or one whose two numbers stand the wrong way round."""

    code: ClassVar[str] = "location-invalid"


class Outside(Refused):
    """The place is in none of the city's towns."""

    code: ClassVar[str] = "outside"


class WrongTown(Refused):
    """The drop is for people who are in other towns."""

    code: ClassVar[str] = "wrong-town"


class LocationGate:
    """The gate of drops with `location: {towns: …}`."""

    name: ClassVar[str] = "location"

    def stands(self, drop: Drop) -> bool:
        return drop.spec.gates.location is not None

    def asks(self, case: Case) -> Mapping[str, object]:
        return {"gate": self.name, "towns": _asked(case.drop).towns}

    def check(self, case: Case, given: Given, passed: Passed) -> Passed:
        if given.location is None:
            raise LocationRequired(
                'location: this drop asks where you are: send {"location": {"lat": …, "lon": …}} in degrees',
                **self.asks(case),
            )
        town = _town(case.places, given.location)
        towns = _asked(case.drop).towns
        if towns != "any" and town.zh not in towns:
            shown = "、".join(towns[:8]) + ("…" if len(towns) > 8 else "")
            raise WrongTown(f"this drop is for people who are in {shown}; you are in {town.zh}", town=town.zh)
        return passed._replace(town=town.number)


def _town(places: Places, at: Location) -> Town:
    """Raises `LocationInvalid`, `Outside`."""
    if not isfinite(at.lat) or not isfinite(at.lon):
        raise LocationInvalid("location: lat and lon must be finite numbers of degrees", field="location")
    if not -90 <= at.lat <= 90:
        hint = ": were lat and lon swapped?" if -180 <= at.lat <= 180 and -90 <= at.lon <= 90 else ""
        raise LocationInvalid(f"location.lat is not from -90 to 90 degrees{hint}", field="location.lat")
    if not -180 <= at.lon <= 180:
        raise LocationInvalid("location.lon is not from -180 to 180 degrees", field="location.lon")
    found = places.town_at(at.lat, at.lon)
    if found is not None:
        return found
    if -90 <= at.lon <= 90 and places.town_at(at.lon, at.lat) is not None:
        raise LocationInvalid("location: lat and lon are swapped", field="location")
    raise Outside("you are outside the city: this drop is for people who are in one of its towns")


def _asked(drop: Drop) -> Asked:
    assert drop.spec.gates.location is not None
    return drop.spec.gates.location
