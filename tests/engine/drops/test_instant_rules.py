"""The promise: a definition makes an instant win whose prizes all go out, or every fault of it is told by its place."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.bounds import ITEMS_MAX, PRIZES_MAX, STOCK_MAX
from engine.drops.instant_rules import NO_PRIZE
from engine.drops.model import Drop, Status, store_fields
from engine.drops.spec import SpecInvalid, amended, parse, parse_yaml, rescheduled
from tests.factories.instants import PRIZES, instant_json

EXAMPLE = Path(__file__).parents[3] / "examples" / "instant.yaml"
OPENS = datetime(2026, 9, 20, 1, tzinfo=UTC)


def at(hours: float) -> str:
    return (OPENS + timedelta(hours=hours)).isoformat()


def definition(**more: Any) -> dict[str, Any]:
    found = instant_json()
    found["instant"] |= {"curve": [{"at": at(0), "share_ppm": 0}, {"at": at(4), "share_ppm": 1_000_000}]}
    return {**found, "opens_at": at(0), "closes_at": at(12), **more}


def with_instant(**more: Any) -> dict[str, Any]:
    return definition(instant={**definition()["instant"], **more})


def item(name: str, stock: int) -> dict[str, Any]:
    return {"id": name, "title": {"en": name}, "stock": stock}


def curve(*points: tuple[float, int]) -> dict[str, Any]:
    return with_instant(curve=[{"at": at(hours), "share_ppm": share} for hours, share in points])


FAULTS = {
    "no curve and no rules": (definition(instant=None), ["instant"]),
    "neither of the two": (definition(instant={}), ["instant.curve", "instant.rules"]),
    "of a rush": (definition(allocation="rush"), ["instant"]),
    "an empty curve": (with_instant(curve=[]), ["instant.curve"]),
    "a curve without time zone": (
        with_instant(curve=[{"at": "2026-09-20T09:00:00", "share_ppm": 1_000_000}]),
        ["instant.curve.0.at"],
    ),
    "a share over all": (curve((0, 1_000_001)), ["instant.curve.0.share_ppm"]),
    "a share below none": (curve((0, -1), (1, 1_000_000)), ["instant.curve.0.share_ppm"]),
    "a share that falls": (curve((0, 500_000), (1, 400_000), (2, 1_000_000)), ["instant.curve.1.share_ppm"]),
    "a curve that ends below all": (curve((0, 0), (1, 999_999)), ["instant.curve.1.share_ppm"]),
    "a curve before the opening": (curve((-1, 0), (1, 1_000_000)), ["instant.curve.0.at"]),
    "a curve that ends at the close": (curve((0, 0), (12, 1_000_000)), ["instant.curve.1.at"]),
    "a curve that goes back": (curve((2, 0), (1, 1_000_000)), ["instant.curve.1.at"]),
    "two points at once": (curve((1, 0), (1, 1_000_000)), ["instant.curve.1.at"]),
    "1,001 points": (curve(*((n / 1_000, 1_000_000) for n in range(1_001))), ["instant.curve"]),
    "no language": (with_instant(rules={}), ["instant.rules"]),
    "another language": (with_instant(rules={"fr": "x"}), ["instant.rules.fr"]),
    "rules of no word": (with_instant(rules={"en": ""}), ["instant.rules.en"]),
    "rules with a zero byte": (with_instant(rules={"en": "a\0b"}), ["instant.rules.en"]),
    "rules of a book": (with_instant(rules={"en": "x" * 4_001}), ["instant.rules.en"]),
    "no item": (definition(items=[]), ["items"]),
    "the blank alone": (definition(items=[item(NO_PRIZE, STOCK_MAX)]), ["items"]),
    "a blank of another stock": (definition(items=[item("goose", 1), item(NO_PRIZE, 5)]), ["items"]),
    "a blank in front": (definition(items=[item(NO_PRIZE, STOCK_MAX), item("goose", 1)]), ["items"]),
    "a prize of no unit": (definition(items=[item("goose", 0), item("mooncake", 1)]), ["items.0.stock"]),
    "too many units": (definition(items=[item("goose", PRIZES_MAX), item("mooncake", 1)]), ["items"]),
    "no place for the blank": (definition(items=[item(f"p-{n}", 1) for n in range(ITEMS_MAX)]), ["items"]),
    "allotments": (
        definition(allotments=[{"item": "goose", "town": "莞城", "stock": 1, "until": at(1)}]),
        ["allotments"],
    ),
    "a name that is wrong": (with_instant(curvee=[]), ["instant.curvee"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_by_its_place(name: str) -> None:
    data, places = FAULTS[name]
    with pytest.raises(SpecInvalid) as refused:
        parse(data, "test")
    told: Any = refused.value.facts["errors"]
    assert set(places) <= {fault["field"] for fault in told}


def test_waves_cannot_be() -> None:
    stock = {**PRIZES, NO_PRIZE: STOCK_MAX}
    with pytest.raises(SpecInvalid, match="waves: cannot be with an instant win"):
        parse(definition(waves=[{"at": at(0), "stock": stock}]), "test")


class TestTheBlank:
    def test_adds_itself_last_and_once(self) -> None:
        spec = parse(definition(), "test")
        assert [found.id for found in spec.items] == [*PRIZES, NO_PRIZE]
        assert spec.items[-1].title == {"zh": "谢谢参与", "en": "No prize this time"}
        assert parse(spec.model_dump(mode="json", by_alias=True), "test") == spec

    def test_may_have_words_of_its_own(self) -> None:
        own = {"id": NO_PRIZE, "title": {"en": "Better luck next time"}, "stock": STOCK_MAX}
        assert parse(definition(items=[item("goose", 1), own]), "test").items[-1].title == own["title"]

    def test_adds_itself_where_a_draft_gets_other_prizes(self) -> None:
        changed = amended(parse(definition(), "test"), {"items": [item("ham", 4)]}, draft=True)
        assert [found.id for found in changed.items] == ["ham", NO_PRIZE]


def test_the_example_is_an_instant_win_that_can_be_rehearsed() -> None:
    spec = parse_yaml(EXAMPLE.read_text(encoding="utf-8"), str(EXAMPLE))
    now = datetime(2026, 7, 1, tzinfo=UTC)
    fast = rescheduled(spec, now, 100)
    assert spec.instant is not None
    assert fast.instant is not None
    assert fast.instant.curve[0].at == now
    assert fast.instant.curve[-1].at - now == (spec.instant.curve[-1].at - spec.opens_at) / 100
    assert fast.instant.rules == spec.instant.rules


def test_a_draft_has_no_prize_in_the_store() -> None:
    fields = store_fields(Drop(parse(definition(), "test"), Status.DRAFT, 1, 1), 1, 0)
    assert fields["prizes"] == "0"
    assert [share.split(":")[1:] for share in fields["waves"].split(",")] == [["1", "0"], ["2", "0"], ["3", "10000000"]]
