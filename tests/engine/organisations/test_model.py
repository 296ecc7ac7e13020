"""The promise: whatever is brought in, organisations are a tree: each has one place, and none is under itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import towns
from engine.bounds import FAULTS_TOLD_MAX, ORGANISATION_DEPTH_MAX
from engine.organisations.model import Organisation, OrganisationInvalid, parsed, path, tree_faults
from engine.organisations.reading import DONGGUAN, read

TITLE = {"en": "X"}
CITY = {"id": "dongguan", "kind": "city", "title": TITLE}


def of(data: Mapping[str, Any]) -> Organisation:
    found, faults = parsed(data, "1", towns.load())
    assert faults == []
    assert found is not None
    return found


class TestMalformed:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"id": "Dong Guan"}, "1.id: is not an id"),
            ({"id": 5}, "1.id"),
            ({"kind": "village"}, "1.kind"),
            ({"title": {}}, "1.title"),
            ({"title": {"fr": "x"}}, "1.title"),
            ({"title": {"en": "a\0"}}, "1.title.en: has a control character"),
            ({"parent": "a b"}, "1.parent"),
            ({"twon": "大朗"}, "1.twon: unknown name: did you mean 'town'"),
            ({"town": "大郎"}, "1.town: no such town"),
            ({"town": 5}, "1.town"),
        ],
    )
    def test_each_fault_is_named_with_its_place(self, change: dict[str, Any], words: str) -> None:
        found, faults = parsed(CITY | change, "1", towns.load())
        assert found is None
        assert f"{faults[0][0]}: {faults[0][1]}".startswith(words)

    @pytest.mark.parametrize("data", [None, 5, "dongguan", [], {}])
    def test_what_is_no_organisation_is_refused(self, data: object) -> None:
        assert parsed(data, "1", towns.load())[0] is None


class TestTree:
    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            ([("a", "city", "b"), ("b", "city", None)], "a.parent: a city has none"),
            ([("a", "town", None)], "a.parent: a city has none"),
            ([("a", "city", None), ("b", "town", "aa")], "b.parent: no such organisation: did you mean 'a'"),
            ([("a", "city", None), ("a", "city", None)], "a.id: 'a' stands twice"),
            ([("a", "town", "a")], "a.parent: it would be under itself"),
            ([("a", "town", "b"), ("b", "town", "a")], "a.parent: it would be under itself"),
        ],
    )
    def test_what_makes_none_is_named(self, rows: list[tuple[str, str, str | None]], words: str) -> None:
        given_ = [(id_, of({"id": id_, "kind": kind, "parent": above, "title": TITLE})) for id_, kind, above in rows]
        faults = tree_faults(given_, {})
        assert any(f"{place}: {problem}".startswith(words) for place, problem in faults), faults

    def test_what_is_there_may_not_get_under_itself_by_a_move(self) -> None:
        known = {"city": None, "town": "city", "factory": "town"}
        moved = of({"id": "town", "kind": "town", "parent": "factory", "title": TITLE})
        assert tree_faults([("1", moved)], known)

    def test_nor_too_deep(self) -> None:
        known: dict[str, str | None] = {"o-0": None} | {
            f"o-{n}": f"o-{n - 1}" for n in range(1, ORGANISATION_DEPTH_MAX)
        }
        leaf = {"kind": "enterprise", "title": TITLE}
        assert tree_faults([("1", of(leaf | {"id": "x", "parent": f"o-{ORGANISATION_DEPTH_MAX - 2}"}))], known) == []
        assert tree_faults([("1", of(leaf | {"id": "x", "parent": f"o-{ORGANISATION_DEPTH_MAX - 1}"}))], known)
        above = {"id": "o-0", "kind": "town", "parent": "y", "title": TITLE}
        assert tree_faults([("1", of(above))], known | {"y": None})

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 9)), max_size=12))
    def test_what_passes_leads_up_to_a_root(self, rows: list[tuple[int, int]]) -> None:
        given_ = [
            (
                str(id_),
                of({"id": f"o-{id_}", "kind": "city" if up < 0 else "town", "title": TITLE}
                   | ({} if up < 0 else {"parent": f"o-{up}"})),
            )
            for id_, up in rows
        ]  # fmt: skip
        known: dict[str, str | None] = {"o-0": None, "o-1": "o-0", "o-2": "o-1"}
        if tree_faults(given_, known):
            return
        parents = known | {found.id: found.parent for _, found in given_}
        for organisation in parents:
            *_, root = path(organisation, parents)
            assert parents[root] is None


class TestFile:
    def test_ours_has_the_city_and_its_33_towns(self) -> None:
        found = [organisation for _, organisation in read(DONGGUAN, towns.load())]
        assert tree_faults([(o.id, o) for o in found], {}) == []
        assert {o.town for o in found if o.kind == "town"} == set(towns.load().zh())
        assert [o.id for o in found if o.kind == "city"] == ["dongguan"]
        assert len(found) == 34

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("a.yaml", "", "expected a list"),
            ("a.yaml", "[]", "holds no organisation"),
            ("a.yaml", "- {id: a, id: b}", "stands twice"),
            ("a.yaml", "- [", "is not YAML"),
            ("a.yaml", "- !!python/object:os.system {}", "is not YAML"),
            ("a.yaml", "- {id: a, kind: city}", "a.yaml: 1.title: is missing"),
            ("a.csv", "", "holds no organisation"),
            ("a.csv", "id,parent,kind,zh,en,twon\n", "unknown column 'twon': did you mean 'town'"),
            ("a.csv", "id,id\n", "a column stands twice"),
            ("a.csv", "id,kind,zh\na,city,甲,more\n", "row 2: expected"),
            ("a.csv", "id,kind,zh\na,city,甲\nb,town,\n", "row 3.title"),
            ("a.csv", 'id,kind,zh\n"a,city,甲\n', "is not CSV"),
        ],
    )
    def test_a_wrong_one_is_told_with_the_place(self, tmp_path: Path, name: str, text: str, words: str) -> None:
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(OrganisationInvalid) as refused:
            read(tmp_path / name, towns.load())
        assert words in refused.value.detail

    def test_a_missing_one_and_one_in_gbk_are_told(self, tmp_path: Path) -> None:
        with pytest.raises(OrganisationInvalid, match="No such file"):
            read(tmp_path / "a.csv", towns.load())
        (tmp_path / "a.csv").write_bytes("id,kind,zh\na,city,东莞\n".encode("gbk"))
        with pytest.raises(OrganisationInvalid, match="is not UTF-8"):
            read(tmp_path / "a.csv", towns.load())

    def test_faults_are_told_up_to_a_hundred(self, tmp_path: Path) -> None:
        rows = "".join(f"A{number},city,甲\n" for number in range(5_000))
        (tmp_path / "a.csv").write_text(f"id,kind,zh\n{rows}", encoding="utf-8")
        with pytest.raises(OrganisationInvalid) as refused:
            read(tmp_path / "a.csv", towns.load())
        assert len(refused.value.detail.splitlines()) == FAULTS_TOLD_MAX

    def test_csv_says_the_same_as_yaml(self, tmp_path: Path) -> None:
        rows = [
            "id,parent,kind,zh,en,town",
            "dongguan,,city,东莞,Dongguan,",
            "dalang,dongguan,town,大朗,,大朗镇",
            "",
            "",
        ]
        text = "\ufeff" + "\r\n".join(rows)
        (tmp_path / "a.CSV").write_text(text, encoding="utf-8")
        found = [organisation.shown() for _, organisation in read(tmp_path / "a.CSV", towns.load())]
        assert found == [
            {"id": "dongguan", "kind": "city", "title": {"zh": "东莞", "en": "Dongguan"}},
            {"id": "dalang", "kind": "town", "title": {"zh": "大朗"}, "parent": "dongguan", "town": "大朗"},
        ]
