"""The promise: a point is in the town whose outline holds it, else, without outlines, in the one with the nearest
centre, and in none where that is far; a file with a fault stops the start with a sentence.
"""

import json
from math import asin, cos, radians, sin, sqrt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.bounds import OUTLINE_POINTS_MAX, OUTLINES_BYTES_MAX, TOWN_CENTRE_KM_MAX
from engine.errors import Misconfigured
from engine.towns import Town, load
from engine.towns.places import Outline, Places, load_outlines

TOWNS = load()
LATS, LONS = st.floats(22.5, 23.3), st.floats(113.3, 114.4)
SQUARE = [[113.0, 22.0], [114.0, 22.0], [114.0, 23.0], [113.0, 23.0], [113.0, 22.0]]
HOLE = [[113.4, 22.4], [113.6, 22.4], [113.6, 22.6], [113.4, 22.6], [113.4, 22.4]]


def haversine_km(town: Town, lat: float, lon: float) -> float:
    """Another formula than the engine's: R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope (1984)."""
    north, east = radians(lat - town.lat) / 2, radians(lon - town.lon) / 2
    return 2 * 6371.0 * asin(sqrt(sin(north) ** 2 + cos(radians(lat)) * cos(radians(town.lat)) * sin(east) ** 2))


class TestNearest:
    @given(LATS, LONS)
    def test_no_other_centre_is_nearer_on_the_sphere(self, lat: float, lon: float) -> None:
        by_distance = sorted((haversine_km(town, lat, lon), town.number) for town in TOWNS)
        assume(by_distance[1][0] - by_distance[0][0] > 0.02)  # nearer to the border than the flat formula is exact
        assume(abs(by_distance[0][0] - TOWN_CENTRE_KM_MAX) > 0.02)
        found = Places(TOWNS).town_at(lat, lon)
        assert (found and found.number) == (by_distance[0][1] if by_distance[0][0] < TOWN_CENTRE_KM_MAX else None)

    def test_of_two_that_are_equally_near_it_is_the_first(self) -> None:
        assert Places(TOWNS).town_at(TOWNS[0].lat, TOWNS[0].lon) is TOWNS[0]


def file(tmp_path: Path, *features: Any, **more: Any) -> Path:
    path = tmp_path / "outlines.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features), **more}), encoding="utf-8")
    return path


def feature(*rings: Any, town: Any = "大朗", kind: str = "Polygon") -> dict[str, Any]:
    coordinates = list(rings) if kind == "Polygon" else [[ring] for ring in rings]
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "properties": {"town": town}, "geometry": geometry}


class TestOutlines:
    def test_the_one_that_holds_the_point_counts_not_the_nearest_centre(self, tmp_path: Path) -> None:
        places = Places(TOWNS, load_outlines(file(tmp_path, feature(SQUARE, HOLE)), TOWNS))
        near = TOWNS.named("虎门")
        assert near is not None
        found = places.town_at(near.lat, near.lon)
        assert found is TOWNS.named("大朗")
        assert places.town_at(22.5, 113.5) is None, "a hole is outside"
        assert places.town_at(23.02, 113.79) is None, "a centre without an outline counts for nothing"

    def test_a_town_may_have_several_parts(self, tmp_path: Path) -> None:
        island = [[lon + 5, lat] for lon, lat in SQUARE]
        path = file(tmp_path, feature(SQUARE, island, kind="MultiPolygon"), feature(HOLE, town="Songshan Lake"))
        places = Places(TOWNS, load_outlines(path, TOWNS))
        assert places.town_at(22.5, 118.5) is places.town_at(22.1, 113.1) is TOWNS.named("大朗")

    @given(st.floats(21, 24), st.floats(112, 115))
    def test_a_rectangle_holds_what_lies_between_its_sides(self, lat: float, lon: float) -> None:
        assume(min(abs(lat - 22), abs(lat - 23), abs(lon - 113), abs(lon - 114)) > 1e-9)
        ring = [(lon_, lat_) for lon_, lat_ in SQUARE]
        outline = Outline(TOWNS[0], (ring,), 113, 22, 114, 23)
        assert outline.holds(lat, lon) == (22 < lat < 23 and 113 < lon < 114)

    @given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=4, max_size=9), st.data())
    def test_where_a_ring_starts_and_whether_it_is_closed_does_not_matter(
        self, ring: list[tuple[float, float]], data: st.DataObject
    ) -> None:
        lat, lon = data.draw(st.floats(-1, 1)), data.draw(st.floats(-1, 1))
        turned = ring[3:] + ring[:3]
        answers = {Outline(TOWNS[0], (one,), -1, -1, 1, 1).holds(lat, lon) for one in (ring, turned, [*ring, ring[0]])}
        assert len(answers) == 1

    @given(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)))
    def test_a_triangle_holds_its_own_mixtures(self, weights: tuple[float, float, float]) -> None:
        assume(min(weights) > 0.01)
        corners = [(0.0, 0.0), (1.0, 0.2), (0.3, 1.0)]
        shares = [weight / sum(weights) for weight in weights]
        lon, lat = (sum(w * corner[axis] for w, corner in zip(shares, corners, strict=True)) for axis in (0, 1))
        assert Outline(TOWNS[0], (corners,), 0, 0, 1, 1).holds(lat, lon)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "not a GeoJSON"),
            ("[]", "not a GeoJSON"),
            ("{}", "not a GeoJSON"),
            ('{"features": 5}', "not a GeoJSON"),
            ('{"features": []}', "no outline"),
            ('{"features": [5]}', "feature 1: expected"),
            ('{"features": [{}]}', "feature 1: expected"),
            (json.dumps({"features": [feature(SQUARE), feature(SQUARE, town="广州")]}), "feature 2: there is no town"),
            (json.dumps({"features": [feature(SQUARE, town=7)]}), "there is no town '7'"),
            (json.dumps({"features": [feature(SQUARE[:3])]}), "four points"),
            (json.dumps({"features": [feature([[1, 2], [3], [4, 5], [6, 7]])]}), "expected"),
            (json.dumps({"features": [feature([[1, "x"]] * 4)]}), "expected"),
            (json.dumps({"features": [feature([[1, float("nan")]] * 4)]}), "finite"),
            (json.dumps({"features": [feature(kind="Point")]}), "expected a"),
            (json.dumps({"features": [feature([SQUARE[0]] * (OUTLINE_POINTS_MAX + 1))]}), "simplify"),
        ],
    )
    def test_a_file_with_a_fault_is_refused_with_a_sentence(self, tmp_path: Path, text: str, words: str) -> None:
        path = tmp_path / "outlines.geojson"
        path.write_text(text)
        with pytest.raises(Misconfigured, match=words):
            load_outlines(path, TOWNS)

    def test_a_file_that_is_missing_or_huge_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured, match="No such file"):
            load_outlines(tmp_path / "none.geojson", TOWNS)
        path = tmp_path / "outlines.geojson"
        path.write_bytes(b" " * (OUTLINES_BYTES_MAX + 1))
        with pytest.raises(Misconfigured, match="larger than"):
            load_outlines(path, TOWNS)
