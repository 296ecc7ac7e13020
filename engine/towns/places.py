"""Which town a point is in: by outlines where the city has given them, else by the nearest centre.

Outlines are a GeoJSON file (RFC 7946) of polygons, each with a property `town` that names its town. Coordinates of
all are WGS 84, as a browser tells them; the shifted ones of Chinese maps (GCJ-02) are off by half a kilometre.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from math import cos, hypot, inf, isfinite, radians
from pathlib import Path
from typing import Any, NamedTuple

from engine.bounds import OUTLINE_POINTS_MAX, OUTLINES_BYTES_MAX, TOWN_CENTRE_KM_MAX
from engine.errors import Misconfigured
from engine.towns import Town, Towns

KM_PER_DEGREE = 111.195  # of a great circle: 2π × 6371.0 km / 360
Ring = Sequence[tuple[float, float]]


class Outline(NamedTuple):
    """The rings of a town, outer ones and holes alike, as (lon, lat), and the box that they lie in."""

    town: Town
    rings: tuple[Ring, ...]
    west: float
    south: float
    east: float
    north: float

    def holds(self, lat: float, lon: float) -> bool:
        """Whether a point lies within, by how often a line from it crosses the rings.

        Source: M. Shimrat, "Algorithm 112: position of point relative to polygon", Communications of the ACM (1962)
        """
        if not (self.west <= lon <= self.east and self.south <= lat <= self.north):
            return False
        is_within = False
        for ring in self.rings:
            before_lon, before_lat = ring[-1]
            for at_lon, at_lat in ring:
                crosses = (at_lat > lat) != (before_lat > lat)
                if crosses and lon < (before_lon - at_lon) * (lat - at_lat) / (before_lat - at_lat) + at_lon:
                    is_within = not is_within
                before_lon, before_lat = at_lon, at_lat
        return is_within


class Places(NamedTuple):
    """The towns of a city and, where it has given them, their outlines."""

    towns: Towns
    outlines: tuple[Outline, ...] = ()

    def town_at(self, lat: float, lon: float) -> Town | None:
        """The town of a point in degrees; None for one outside the city."""
        if self.outlines:
            return next((outline.town for outline in self.outlines if outline.holds(lat, lon)), None)
        nearest, distance_km = None, inf
        for town in self.towns:
            # Equirectangular: within a city it is right to some metres.
            east = (lon - town.lon) * cos(radians(town.lat))
            town_km = hypot(east, lat - town.lat) * KM_PER_DEGREE
            if town_km < distance_km:
                nearest, distance_km = town, town_km
        return nearest if distance_km <= TOWN_CENTRE_KM_MAX else None


@cache
def load_outlines(path: Path, towns: Towns) -> tuple[Outline, ...]:
    """The outlines of a file, read once; raises `Misconfigured` with what is wrong where."""
    try:
        text = path.read_bytes()
        if len(text) > OUTLINES_BYTES_MAX:
            raise Misconfigured(f"{path}: larger than {OUTLINES_BYTES_MAX} bytes: simplify the outlines")
        features = json.loads(text)["features"]
        found = [_outline(path, place, feature, towns) for place, feature in enumerate(features, start=1)]
    except OSError as error:
        raise Misconfigured(f"{path}: {error}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Misconfigured(f"{path}: this is not a GeoJSON FeatureCollection") from None
    if not found:
        raise Misconfigured(f"{path}: there is no outline in it")
    return tuple(found)


def _outline(path: Path, place: int, feature: Any, towns: Towns) -> Outline:
    try:
        name, geometry = feature["properties"]["town"], feature["geometry"]
        given = geometry["coordinates"]
        polygons = {"Polygon": [given], "MultiPolygon": given}[geometry["type"]]
        rings = tuple(_ring(ring) for polygon in polygons for ring in polygon)
        town = towns.named(name) if isinstance(name, str) else None
    except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"[:100]
        raise Misconfigured(f"{path}: feature {place}: expected a (Multi)Polygon with a `town` ({told})") from None
    if town is None:
        raise Misconfigured(f"{path}: feature {place}: there is no town {str(name)[:40]!r}")
    if sum(map(len, rings)) > OUTLINE_POINTS_MAX:
        raise Misconfigured(f"{path}: feature {place}: more than {OUTLINE_POINTS_MAX} points: simplify the outline")
    return Outline(town, rings, *_box(rings))


def _ring(points: Any) -> Ring:
    ring = [(float(lon), float(lat)) for lon, lat, *_ in points]
    if len(ring) < 4 or not all(map(isfinite, _numbers(ring))):
        raise ValueError("a ring has four points or more, all of finite numbers")
    return ring


def _numbers(ring: Ring) -> Iterator[float]:
    return (number for point in ring for number in point)


def _box(rings: Sequence[Ring]) -> tuple[float, float, float, float]:
    lons, lats = zip(*(point for ring in rings for point in ring), strict=True)
    return min(lons), min(lats), max(lons), max(lats)
