"""The promise: a wrong file gets one clear message for each fault, naming file and field, and makes no drop."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engine.drops.spec import SpecInvalid, amended, parse, parse_yaml, rescheduled
from engine.errors import Misconfigured
from tests.factories.drops import drop_json, drop_spec

EXAMPLE = (Path(__file__).parents[3] / "examples" / "lychee-2025.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("closes_at: 2025-06-14T22", "closes_at: 2025-06-13T22", "f.yaml: closes_at: the drop ends"),
        ("stock: 5000", "stock: -5", "f.yaml: items.0.stock"),
        ("stock: 5000", "stock: 50000000", "f.yaml: items.0.stock"),
        ("stock: 5000", "stock: many", "f.yaml: items.0.stock"),
        ("limit_per_member: 1", "limit_per_member: 0", "f.yaml: limit_per_member"),
        ("limit_per_member", "limt_per_member", "did you mean 'limit_per_member'"),
        ("id: box-10jin,", "id: box-5jin, ", "f.yaml: items.1.id: 'box-5jin' stands twice"),
        ("weight_jin: 5}", "wieght_jin: 5}", "did you mean 'weight_jin'"),
        ("opens_at: 2025-06-14T10:00:00+08:00", "opens_at: 2025-06-14T10:00:00", "f.yaml: opens_at: has no time zone"),
        ("stock: {box-5jin: 2500", "stock: {box-5jn: 2500", "no such item: did you mean 'box-5jin'"),
        ("stock: {box-5jin: 2500", "stock: {box-5jin: 2400", "f.yaml: waves: the waves release 4800 of 'box-5jin'"),
        ("{at: 2025-06-14T15", "{at: 2025-06-15T15", "f.yaml: waves.1.at: 2025-06-15 15:00:00+08:00 is outside"),
        ("id: lychee-2025", "id: Lychee 2025", "f.yaml: id"),
        ("id: lychee-2025", "id: 5", "f.yaml: id"),
        ("allocation: rush", "allocation: draw", "f.yaml: allocation: 'draw' is not built yet"),
        ("title: {zh: 智送荔枝", "title: {fr: 智送荔枝", "f.yaml: title"),
        ("  town:", "  twon:", "f.yaml: eligibility.twon"),
        ("items:", "items: [", "f.yaml: not YAML: line"),
        ("allocation: rush", "allocation: rush\nallocation: rush", "stands twice"),
        ("organisation: dongguan", "", "f.yaml: organisation: is missing"),
        ("allocation: rush", "allocation: rush\ngates: {proof_of_work: {bits: 0}}", "f.yaml: gates.proof_of_work.bits"),
        (
            "allocation: rush",
            "allocation: rush\ngates: {proof_of_work: {bits: 25}}",
            "f.yaml: gates.proof_of_work.bits",
        ),
        ("allocation: rush", "allocation: rush\ngates: {proof_of_work: {bit: 18}}", "did you mean 'bits'"),
        ("allocation: rush", "allocation: rush\ngates: {proof_of_work: 18}", "f.yaml: gates.proof_of_work"),
    ],
)
def test_a_fault_is_named(old: str, new: str, words: str) -> None:
    assert old in EXAMPLE
    with pytest.raises(SpecInvalid) as refused:
        parse_yaml(EXAMPLE.replace(old, new), "f.yaml")
    assert words in refused.value.detail
    assert refused.value.facts["errors"]


@pytest.mark.parametrize("text", ["", "5", "- a", "null", "\t", "a: &a [*a]", "!!python/object:os.system {}", "\x00"])
def test_what_is_no_drop_at_all_is_refused(text: str) -> None:
    with pytest.raises(SpecInvalid):
        parse_yaml(text, "f.yaml")


def test_an_oversized_file_is_refused() -> None:
    with pytest.raises(SpecInvalid, match="larger than"):
        parse_yaml("a: " + "x" * 1_100_000, "f.yaml")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_data_breaks_the_parser(data: object) -> None:
    with pytest.raises(SpecInvalid):
        parse(data, "any")


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(SpecInvalid) as refused:
        parse(drop_json("x") | {"limit_per_member": 0, "allocation": "x", "more": 1}, "f.yaml")
    assert len(refused.value.detail.splitlines()) == 3


def test_the_example_is_31000_jin() -> None:
    spec = parse_yaml(EXAMPLE, "lychee-2025.yaml")
    assert sum(item.stock * (item.weight_jin or 0) for item in spec.items) == 31_000
    assert parse(yaml.safe_load(EXAMPLE), "again") == spec
    assert parse(spec.model_dump(mode="json", by_alias=True), "json") == spec


def test_a_rehearsal_keeps_the_proportions() -> None:
    spec = parse_yaml(EXAMPLE, "lychee-2025.yaml")
    now = datetime.now(UTC)
    fast = rescheduled(spec, now, 100)
    assert fast.opens_at == fast.waves[0].at == now
    assert fast.closes_at - now == timedelta(hours=12) / 100
    assert fast.waves[1].at - now == timedelta(hours=5) / 100
    with pytest.raises(Misconfigured):
        rescheduled(spec, now, 0)


def test_a_moved_opening_takes_its_wave_along() -> None:
    spec = parse_yaml(EXAMPLE, "lychee-2025.yaml")
    earlier = "2025-06-14T09:00:00+08:00"
    changed = amended(spec, {"opens_at": earlier}, draft=False)
    assert changed.opens_at == changed.waves[0].at == datetime.fromisoformat(earlier)
    assert changed.waves[1] == spec.waves[1]


def test_after_the_launch_stock_comes_by_restocking_alone() -> None:
    spec = drop_spec("x")
    changes: list[dict[str, object]] = [{"items": []}, {"waves": []}, {"id": "y"}, {"organisation": "z"}]
    for change in changes:
        with pytest.raises(SpecInvalid, match="cannot be amended"):
            amended(spec, change, draft=False)
    assert amended(spec, {"organisation": "z"}, draft=True).organisation == "z"
