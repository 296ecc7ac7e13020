"""The promise: an act either fits the drop or is refused; nothing is lost when stock is shared out over partitions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.drops.model import (
    Control,
    Drop,
    DuplicateDrop,
    NoSuchDrop,
    RestockInvalid,
    StaleRevision,
    Status,
    Verb,
    WrongStatus,
    after,
    split,
    store_fields,
)
from engine.drops.spec import SpecInvalid
from tests.factories.drops import drop_json

NOW = datetime.now(UTC)


def control(verb: Verb, revision: int, **change: Any) -> Control:
    return Control(verb, revision, "boss", NOW, "act", change)


def launched() -> Drop:
    drop = after(None, control(Verb.CREATE, 1, spec=drop_json("trial", NOW - timedelta(minutes=1), stock=10)))
    return after(drop, control(Verb.LAUNCH, 2))


@given(st.integers(0, 10_000_000), st.integers(1, 1024))
def test_shares_sum_to_the_stock_and_differ_by_one_at_most(stock: int, partitions: int) -> None:
    shares = [split(stock, partitions, partition) for partition in range(partitions)]
    assert sum(shares) == stock
    assert max(shares) - min(shares) <= 1


def test_acts_out_of_place_are_refused() -> None:
    drop = launched()
    with pytest.raises(DuplicateDrop):
        after(drop, control(Verb.CREATE, 1, spec=drop_json("trial")))
    with pytest.raises(NoSuchDrop):
        after(None, control(Verb.LAUNCH, 2))
    with pytest.raises(WrongStatus):
        after(drop, control(Verb.RESUME, 3))
    for revision in (1, 2, 4):
        with pytest.raises(StaleRevision):
            after(drop, control(Verb.PAUSE, revision))


def test_what_was_claimed_within_the_window_stays_within_it() -> None:
    drop = launched()
    for field, moved, words in (
        ("opens_at", NOW + timedelta(minutes=5), "has opened already"),
        ("closes_at", NOW, "is over already"),
    ):
        with pytest.raises(SpecInvalid, match=words):
            after(drop, control(Verb.AMEND, 3, spec={field: moved.isoformat()}))
    soon = NOW + timedelta(seconds=1)
    assert after(drop, control(Verb.AMEND, 3, spec={"closes_at": soon.isoformat()})).spec.closes_at == soon


@pytest.mark.parametrize("quantity", [0, -1, 1.5, "1", None])
def test_a_restock_is_a_number_of_units(quantity: object) -> None:
    with pytest.raises(RestockInvalid):
        after(launched(), control(Verb.RESTOCK, 3, item="box", quantity=quantity))


def test_a_restock_is_a_wave_at_its_own_time() -> None:
    drop = after(launched(), control(Verb.RESTOCK, 3, item="box", quantity=5))
    assert drop.spec.items[0].stock == 15
    assert [(wave.at, wave.stock["box"]) for wave in drop.spec.waves] == [(drop.spec.opens_at, 10), (NOW, 5)]


def test_a_restock_before_the_opening_waits_for_it() -> None:
    early = after(None, control(Verb.CREATE, 1, spec=drop_json("trial", NOW + timedelta(hours=1))))
    drop = after(after(early, control(Verb.LAUNCH, 2)), control(Verb.RESTOCK, 3, item="box", quantity=5))
    assert {wave.at for wave in drop.spec.waves} == {drop.spec.opens_at}


def test_the_fields_of_the_store_hold_the_whole_definition() -> None:
    drop = after(launched(), control(Verb.PAUSE, 3))
    fields = store_fields(drop, 3, 0)
    assert fields["status"] == Status.PAUSED
    assert fields["waves"].endswith(":1:4")
    assert [store_fields(drop, 3, p)["waves"].rpartition(":")[2] for p in range(3)] == ["4", "3", "3"]
