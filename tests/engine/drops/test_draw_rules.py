"""The promise: a draw that could not be published is not defined; each fault is told with its place."""

from datetime import timedelta
from typing import Any

import pytest

from engine.bounds import STOCK_MAX
from engine.draws.publication import commit
from engine.drops.draw_rules import terms
from engine.drops.spec import SpecInvalid, parse, rescheduled
from tests.factories.drawn import draw_json, draw_spec
from tests.factories.drops import drop_json


def changed(path: str, value: Any) -> dict[str, Any]:
    found = draw_json()
    at: Any = found["draw"]
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        at = at[part]
    at[last] = value
    return found


def faults(data: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SpecInvalid) as refused:
        parse(data, "f.yaml")
    errors: Any = refused.value.facts["errors"]
    return {error["field"]: error["problem"] for error in errors}


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("prizes", [], "draw.prizes"),
        ("prizes.0.stock", 0, "draw.prizes.0.stock"),
        ("prizes.0.stock", True, "draw.prizes.0.stock"),
        ("prizes.1.id", "goose", "draw.prizes.1.id"),
        ("prizes.0.id", "Goose!", "id"),
        ("prizes.0.title", {"en": "a\nb"}, "draw.prizes.0.title.en"),
        ("prizes.0.price", 5, "draw.prizes.0.price"),
        ("rules", {}, "draw.rules"),
        ("rules", {"en": "\0"}, "draw.rules.en"),
        ("waiting", -1, "draw.waiting"),
        ("waiting", "2", "draw.waiting"),
        ("weights.base", 0, "draw.weights.base"),
        ("weights.base", 50, "draw.weights.base"),
        ("weights.weight_max", 51, "draw.weights.weight_max"),
        ("weights.points_each", 0, "draw.weights.points_each"),
        ("confirm.within_hours", 0, "draw.confirm.within_hours"),
        ("confirm", None, "draw.waiting"),
        ("misses_in", ["goose"], "draw.misses_in.0"),
        ("misses_in", ["a", "a"], "draw.misses_in.1"),
        ("misses_in", ["a"] * 17, "draw.misses_in"),
        ("collect_until", "2020-01-01T00:00:00Z", "draw.collect_until"),
        ("collect_until", "2099-01-01T00:00:00", "draw.collect_until"),
        ("beacon.source", "金", "draw.beacon.source"),
        ("beacon.value_bytes", 8, "draw.beacon.value_bytes"),
        ("beacon.rounds.0.due_at", "2020-01-01T00:00:00Z", "draw.beacon.rounds.0.due_at"),
        ("beacon.rounds.0.wait_until", "2020-01-01T00:00:00Z", "draw.beacon.rounds.0.wait_until"),
        ("beacon.rounds.1.round", 7, "draw.beacon.rounds.1.round"),
        ("beacon.rounds.0.round", -1, "draw.beacon.rounds.0.round"),
        ("beacon.url", "https://example.org/latest", "draw.beacon.url"),
        ("beacon.url", "file:///etc/{round}", "draw.beacon.url"),
        ("beacon.url", "https://me@example.org/{round}", "draw.beacon.url"),
        ("beacon.url", "https://:me@example.org/{round}", "draw.beacon.url"),
        ("beacon.url", "https://[::1/{round}", "draw.beacon.url"),
    ],
)
def test_a_fault_is_told_with_its_place(path: str, value: Any, field: str) -> None:
    assert field in faults(changed(path, value))


def test_one_round_alone_is_too_few() -> None:
    data = draw_json()
    del data["draw"]["beacon"]["rounds"][1]
    assert "draw.beacon.rounds" in faults(data)


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    assert "did you mean 'waiting'" in faults(changed("wating", 2))["draw.wating"]


def test_a_rush_has_no_draw_and_a_draw_has_no_other_items() -> None:
    assert faults(drop_json("rush", draw=draw_json()["draw"])) == {"draw": "is only for allocation 'draw'"}
    items = [{"id": "box", "title": {"en": "Box"}, "stock": 1}]
    assert "entry" in faults({**draw_json(), "items": items})["items"]


def test_its_id_leaves_room_for_the_prizes() -> None:
    assert parse(draw_json("x" * 57), "f").id == "x" * 57
    assert "id" in faults(draw_json("x" * 58))


def test_its_one_item_is_filled_in() -> None:
    spec = draw_spec()
    assert [(item.id, item.stock) for item in spec.items] == [("entry", STOCK_MAX)]
    assert parse(spec.model_dump(mode="json", by_alias=True), "again") == spec


def test_whatever_is_defined_can_be_committed_to() -> None:
    for confirm, waiting in (({"within_hours": 1}, 5), (None, 0)):
        spec = draw_spec(confirm=confirm, waiting=waiting)
        assert spec.draw is not None
        document = commit(terms(spec.draw, spec.id, spec.closes_at), bytes(32))
        assert document["terms"]["confirm"] == confirm


def test_a_rehearsal_moves_the_beacon_too() -> None:
    spec = draw_spec()
    faster = rescheduled(spec, spec.opens_at, 10)
    assert spec.draw is not None
    assert faster.draw is not None
    before, after = spec.draw.beacon.rounds[0].due_at, faster.draw.beacon.rounds[0].due_at
    assert abs((after - spec.opens_at) * 10 - (before - spec.opens_at)) < timedelta(milliseconds=1)
