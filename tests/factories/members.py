"""Members and predicates for tests; hypothesis draws them from few values, so that conditions often meet."""

from datetime import date
from typing import Any

from hypothesis import strategies as st

from engine.members.attributes import Value
from engine.members.predicate import Known, Predicate

TODAY = date(2025, 2, 27)  # with 02-28 and 03-01 near
TEXTS = ["大朗", "东坑", "a'b", "%", "x"]
DAYS = ["2020-02-29", "2024-12-31", "2025-01-01"]
BIRTHDAYS = ["01-31", "02-27", "02-28", "02-29", "03-01", "12-31"]
LISTS = ["couriers", "won-last-year"]
ORGANISATIONS = ["dongguan", "dalang", "factory-7"]
SEGMENTS: dict[str, dict[str, Any]] = {
    "locals": {"town": {"in": ["大朗"]}},
    "riders": {"any_of": [{"list": "couriers"}, {"new_employment_form": {"is": True}}]},
}


def id_number(region: int, born: date, order: int) -> str:
    """An identity card's number with its check, from the words of GB 11643 and not from our code."""
    digits = f"{region:06}{born:%Y%m%d}{order:03}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return digits + "10X98765432"[sum(int(d) * w for d, w in zip(digits, weights, strict=True)) % 11]


def _some(values: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


def _asked(**words: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.lists(st.sampled_from(sorted(words)), min_size=1, max_size=3, unique=True)
    return names.flatmap(lambda some: st.fixed_dictionaries({name: words[name] for name in some}))


def predicates(*, with_ledger: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    """Predicates as data, that say something; `with_ledger` those too that name lists, segments, organisations."""
    day = st.sampled_from(DAYS)
    plain: dict[str, st.SearchStrategy[Any]] = {
        "town": _asked(**{"in": _some(TEXTS), "not_in": _some(TEXTS)}),
        "sector": _asked(**{"in": _some(TEXTS)}),
        "joined_at": _asked(before=day, after=day, on_or_before=day),
        "verified_at": _asked(before=day),
        "birthday": _asked(month=st.just("this") | st.integers(1, 12), within_days=st.integers(0, 3)),
        "new_employment_form": _asked(**{"is": st.booleans()}),
        "tags": _asked(has_any=_some(TEXTS), has_all=_some(TEXTS)),
    }
    of_ledger: dict[str, st.SearchStrategy[Any]] = {
        "organisation": _asked(under=st.sampled_from(ORGANISATIONS)),
        "list": st.sampled_from(LISTS),
        "segment": st.sampled_from(sorted(SEGMENTS)),
    }
    leaves = _asked(**plain, **(of_ledger if with_ledger else {}))
    return st.recursive(
        leaves,
        lambda inner: _asked(
            any_of=st.lists(inner, min_size=1, max_size=3),
            all_of=st.lists(inner, min_size=1, max_size=3),
            **{"not": inner},
        ),
        max_leaves=6,
    )


def attributes() -> st.SearchStrategy[dict[str, Value]]:
    """What is known of a member, or a part of it."""
    some: dict[str, st.SearchStrategy[Any]] = {
        "town": st.sampled_from(TEXTS),
        "sector": st.sampled_from(TEXTS),
        "joined_at": st.sampled_from(DAYS),
        "verified_at": st.sampled_from(DAYS),
        "birthday": st.sampled_from(BIRTHDAYS),
        "new_employment_form": st.booleans(),
        "tags": st.lists(st.sampled_from(TEXTS), max_size=3, unique=True).map(lambda tags: tuple(sorted(tags))),
    }
    return st.fixed_dictionaries({}, optional=some)


def known() -> st.SearchStrategy[Known]:
    """What the ledger says of a member."""
    segments = {name: Predicate.model_validate(data) for name, data in SEGMENTS.items()}
    paths = [(), ("dongguan",), ("dalang", "dongguan"), ("factory-7", "dalang", "dongguan")]
    return st.builds(Known, st.frozensets(st.sampled_from(LISTS)), st.sampled_from(paths), st.just(segments))
