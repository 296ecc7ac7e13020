"""The towns of a city: what the shipped file holds, and what a city's own file is told when it is wrong."""

from pathlib import Path

import pytest

from engine import towns
from engine.errors import Misconfigured

TOWN = '[[town]]\ncode = "1"\nzh = "甲"\nen = "A"\nrow = 0\ncol = 0\nlon = 1.0\nlat = 2\n'
OTHER = '[[town]]\ncode = "2"\nzh = "乙"\nen = "B"\nrow = 0\ncol = 1\nlon = 1.0\nlat = 2\n'


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "towns.toml"
    path.write_text(text, encoding="utf-8")
    return path


class TestOwnFile:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", r"expected \[\[town\]\] tables"),
            ("town = []", "0 towns"),
            ("[town]\n", r"expected \[\[town\]\] tables"),
            ("town = [1]", r"expected \[\[town\]\] tables"),
            (TOWN + "[city]\n", "nothing else"),
            (TOWN + "x = ", "Invalid"),
            (TOWN.replace("lat = 2\n", ""), "town 1: lat: "),
            (TOWN + "number = 7\n", "town 1: number: is a town's place"),
            (TOWN + OTHER.replace("lon = 1.0", "lon = 181"), "town 2: lon: "),
            (TOWN + OTHER.replace("col = 1", "col = 0"), "town 2: row 0, col 0 is town 1's already"),
            (TOWN + OTHER.replace('"乙"', '"甲"'), "town 2: '甲' is town 1's already"),
            (TOWN + OTHER + 'aliases = ["a"]\n', "town 2: 'a' is town 1's already"),
            (TOWN.replace('"甲"', '" 甲"'), "town 1: zh: "),
            (TOWN.replace("row = 0", "row = -1"), "town 1: row: "),
            (TOWN.replace("row = 0", "row = true"), "town 1: row: "),
            (TOWN + "colour = 1\n", "town 1: colour: "),
        ],
    )
    def test_a_wrong_file_stops_with_the_place_and_the_field(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(Misconfigured, match=said):
            towns.load(file(tmp_path, text))

    def test_a_missing_file_and_one_that_is_no_utf_8_are_told(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured, match="No such file"):
            towns.load(tmp_path / "none.toml")
        path = tmp_path / "gbk.toml"
        path.write_bytes(TOWN.encode("gbk"))
        with pytest.raises(Misconfigured, match="utf-8"):
            towns.load(path)

    def test_more_towns_than_a_byte_counts_are_refused(self, tmp_path: Path) -> None:
        rows = [
            f'[[town]]\ncode = "{n}"\nzh = "t{n}"\nen = "T {n}"\nrow = {n // 32}\ncol = {n % 32}\nlon = 1\nlat = 2\n'
            for n in range(256)
        ]
        with pytest.raises(Misconfigured, match="256 towns"):
            towns.load(file(tmp_path, "".join(rows)))

    def test_another_city_brings_its_own(self, tmp_path: Path) -> None:
        found = towns.load(file(tmp_path, TOWN + OTHER))
        assert [(town.number, town.zh) for town in found] == [(1, "甲"), (2, "乙")]


class TestDongguan:
    def test_it_has_its_33_areas_in_an_order_that_never_changes(self) -> None:
        """Tickets and tallies hold the number: a changed order would light up the wrong town."""
        found = towns.load()
        assert len(found) == 33
        assert [town.number for town in found] == list(range(1, 34))
        assert "".join(town.zh for town in found) == (
            "莞城东城南城万江石龙虎门中堂望牛墩麻涌石碣高埗道滘洪梅沙田厚街长安寮步大岭山大朗黄江樟木头谢岗塘厦清溪凤岗常平桥头横沥"
            "东坑企石石排茶山松山湖"
        )

    def test_the_map_is_eight_by_six_and_the_centres_lie_in_the_city(self) -> None:
        for town in towns.load():
            assert (town.row < 6, town.col < 8) == (True, True)
            assert 113.5 < town.lon < 114.3
            assert 22.6 < town.lat < 23.2

    @pytest.mark.parametrize("text", ["大朗", "大朗镇", "Dalang", " dalang ", "441900113"])
    def test_a_town_is_found_by_each_of_its_names(self, text: str) -> None:
        found = towns.load().named(text)
        assert found is not None
        assert found.zh == "大朗"

    def test_the_port_the_eco_park_and_the_bay_area_count_as_where_they_lie(self) -> None:
        found = towns.load()
        assert [getattr(found.named(code), "zh", None) for code in ("441900402", "441900403", "441900404")] == [
            "沙田", "松山湖", "长安",
        ]  # fmt: skip

    @pytest.mark.parametrize("text", ["", "大", "大郎", "4419", "441900120", "0"])
    def test_what_names_no_town_finds_none(self, text: str) -> None:
        assert towns.load().named(text) is None

    def test_a_number_finds_its_town_and_no_other(self) -> None:
        found = towns.load()
        assert [town for number in range(-300, 300) if (town := found.numbered(number))] == list(found)
