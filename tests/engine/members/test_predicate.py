"""The promise: a predicate means what it says, whatever is known of a member, and who is refused learns why.

Malformed ones first. `truth` is a second judge, written from the words of docs/how-to.md and not from our code.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from engine.bounds import CONDITION_VALUES_MAX, CONDITIONS_MAX, PREDICATE_DEPTH_MAX
from engine.drops.spec import SpecInvalid
from engine.members.attributes import Value
from engine.members.model import NotEligible, Session, check
from engine.members.predicate import Eligibility, Known, Predicate, reasons
from tests.factories.drops import drop_spec
from tests.factories.members import TODAY, attributes, known, predicates

UNKNOWN_TOWN = (
    "this drop is for members whose town is 大朗; your town is not known: complete your profile, then try again"
)
ADAPTER: TypeAdapter[Predicate] = TypeAdapter(Eligibility)


def predicate(data: object) -> Predicate:
    return ADAPTER.validate_python(data)


def nested(depth: int) -> Any:
    found: Any = {"town": {"in": ["大朗"]}}
    for _ in range(depth):
        found = {"not": found}
    return found


class TestMalformed:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({"twon": {"in": ["大朗"]}}, "eligibility.twon: unknown name: did you mean 'town'"),
            ({"town": {"inn": ["大朗"]}}, "eligibility.town.inn: unknown name: did you mean 'in'"),
            (
                {"joined_at": {"befor": "2025-01-01"}},
                "eligibility.joined_at.befor: unknown name: did you mean 'before'",
            ),
            ({"any_of": [{"tags": {"has_al": ["x"]}}]}, "eligibility.any_of.0.tags.has_al: unknown name: did you mean"),
            ({"not": {"segmnt": "x"}}, "eligibility.not.segmnt: unknown name: did you mean 'segment'"),
            ({"town": {}}, "eligibility.town: says nothing: give in, not_in"),
            ({"not": {}}, "eligibility.not: says nothing"),
            ({"any_of": []}, "eligibility.any_of: is empty"),
            ({"all_of": [{}]}, "eligibility.all_of.0: says nothing"),
            ({"any_of": {"town": {"in": ["大朗"]}}}, "eligibility.any_of"),
            ({"town": {"in": []}}, "eligibility.town.in"),
            ({"town": {"in": [""]}}, "eligibility.town.in.0"),
            ({"town": {"in": ["a\0"]}}, "eligibility.town.in.0: has a control character"),
            ({"town": {"in": ["x"] * (CONDITION_VALUES_MAX + 1)}}, "eligibility.town.in"),
            ({"town": "大朗"}, "eligibility.town"),
            ({"town": {"before": "2025-01-01"}}, "eligibility.town.before: unknown name"),
            ({"joined_at": {"before": "2025-02-30"}}, "eligibility.joined_at.before: expected a date"),
            ({"joined_at": {"before": 1735689600}}, "eligibility.joined_at.before: expected a date"),
            (
                {"joined_at": {"before": datetime(2025, 1, 1, tzinfo=UTC)}},
                "eligibility.joined_at.before: expected a date",
            ),
            ({"joined_at": {"before": "20250101"}}, "eligibility.joined_at.before: expected a date"),
            ({"new_employment_form": {"is": "yes"}}, "eligibility.new_employment_form.is"),
            ({"new_employment_form": {"is": 1}}, "eligibility.new_employment_form.is"),
            ({"birthday": {"month": 13}}, "eligibility.birthday.month: expected this, or a number from 1 to 12"),
            ({"birthday": {"month": "next"}}, "eligibility.birthday.month: expected this"),
            ({"birthday": {"month": True}}, "eligibility.birthday.month: expected this"),
            ({"birthday": {"within_days": 367}}, "eligibility.birthday.within_days"),
            ({"birthday": {"within_days": -1}}, "eligibility.birthday.within_days"),
            ({"organisation": {"under": "Dong Guan"}}, "eligibility.organisation.under: is not an id"),
            ({"list": "A B"}, "eligibility.list: is not an id"),
            ({"list": ["a", "b"]}, "eligibility.list"),
            (nested(PREDICATE_DEPTH_MAX), f"eligibility: is nested more than {PREDICATE_DEPTH_MAX} deep"),
            (nested(2_000), "eligibility: is nested"),
            ({"any_of": [{"list": f"l-{n}"} for n in range(CONDITIONS_MAX)]}, "eligibility: has more than"),
            ("everybody", "eligibility"),
            (None, "eligibility"),
            ([], "eligibility"),
        ],
    )
    def test_each_is_refused_with_its_place(self, data: object, words: str) -> None:
        with pytest.raises(SpecInvalid) as refused:
            drop_spec("x", eligibility=data)
        assert len(refused.value.detail.splitlines()) == 1
        assert refused.value.detail.startswith(f"test: {words}")

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(
        st.sampled_from(["town", "in", "not", "any_of", "list", "tags", "has_any", "x"]), x)))  # fmt: skip
    def test_no_data_breaks_the_parser(self, data: object) -> None:
        try:
            predicate(data)
        except ValidationError:
            return


class TestWritten:
    @given(predicates())
    def test_it_is_written_as_it_was_given(self, data: dict[str, Any]) -> None:
        found = predicate(data)
        assert found.model_dump(mode="json") == data == found.model_dump(mode="json", by_alias=True)
        assert predicate(found.model_dump()) == found

    def test_what_older_versions_wrote_is_read(self) -> None:
        """Their acts in the ledger's record name a condition's field by its Python name."""
        assert predicate({"town": {"in_": ["大朗"]}}) == predicate({"town": {"in": ["大朗"]}})


class TestMeaning:
    @given(predicates(), attributes(), known())
    def test_it_is_what_a_second_judge_says(
        self, data: dict[str, Any], of_member: dict[str, Value], ledger: Known
    ) -> None:
        """Three values: what holds, what does not, and what cannot be known."""
        verdict = truth(data, of_member, ledger)
        assert (reasons(predicate(data), of_member, TODAY, ledger) == []) == (verdict is True)
        assert (reasons(predicate({"not": data}), of_member, TODAY, ledger) == []) == (verdict is False)

    @given(st.lists(predicates(), min_size=1, max_size=3), attributes(), known())
    def test_the_dry_run_names_every_condition_that_says_no(
        self, parts: list[dict[str, Any]], of_member: dict[str, Value], ledger: Known
    ) -> None:
        told = reasons(predicate({"all_of": parts}), of_member, TODAY, ledger)
        assert told == [reason for part in parts for reason in reasons(predicate(part), of_member, TODAY, ledger)]

    @given(
        st.dates(date(1990, 1, 1), date(2100, 1, 1)),
        st.integers(0, 366),
        st.dates(date(2000, 1, 1), date(2000, 12, 31)),
    )
    def test_a_birthday_comes_once_in_a_year(self, today: date, days: int, born: date) -> None:
        """Within so many days: there is a day from today on, not later, on which the member's birthday is."""
        has_birthday = {today + timedelta(days=ahead) for ahead in range(days + 1)} & {
            birthday_in(born, year) for year in (today.year, today.year + 1)
        }
        told = reasons(predicate({"birthday": {"within_days": days}}), {"birthday": f"{born:%m-%d}"}, today)
        assert (told == []) == bool(has_birthday)

    def test_nothing_asked_is_for_everybody(self) -> None:
        assert reasons(predicate({}), {}, TODAY) == []
        assert not predicate({}).asks_ledger


def birthday_in(born: date, year: int) -> date:
    try:
        return born.replace(year=year)
    except ValueError:
        return date(year, 2, 28)


def truth(data: Mapping[str, Any], of_member: Mapping[str, Value], ledger: Known) -> bool | None:
    return both(judged(name, asked, of_member, ledger) for name, asked in data.items())


def both(verdicts: Any) -> bool | None:
    found = list(verdicts)
    if False in found:
        return False
    return None if None in found else True


def judged(name: str, asked: Any, of_member: Mapping[str, Value], ledger: Known) -> bool | None:
    if name == "all_of":
        return both(truth(part, of_member, ledger) for part in asked)
    if name == "any_of":
        contrary = both(negated(truth(part, of_member, ledger)) for part in asked)
        return negated(contrary)
    if name == "not":
        return negated(truth(asked, of_member, ledger))
    if name == "list":
        return asked in ledger.lists
    if name == "segment":
        return truth(ledger.segments[asked].model_dump(), of_member, ledger)
    value: Any = ledger.path or None if name == "organisation" else of_member.get(name)
    if value is None:
        return None
    return all(meets(word, limit, value) for word, limit in asked.items())


def meets(word: str, limit: Any, value: Any) -> bool:
    ahead = [TODAY + timedelta(days=days) for days in range(limit + 1)] if word == "within_days" else []
    meanings: dict[str, Callable[[], bool]] = {
        "in": lambda: value in limit,
        "not_in": lambda: value not in limit,
        "before": lambda: date.fromisoformat(value) < date.fromisoformat(limit),
        "after": lambda: date.fromisoformat(value) > date.fromisoformat(limit),
        "on_or_before": lambda: date.fromisoformat(value) <= date.fromisoformat(limit),
        "is": lambda: value == limit,
        "has_any": lambda: any(tag in limit for tag in value),
        "has_all": lambda: all(tag in value for tag in limit),
        "month": lambda: int(value[:2]) == (TODAY.month if limit == "this" else limit),
        "within_days": lambda: any(birthday_in(date.fromisoformat(f"2000-{value}"), day.year) == day for day in ahead),
        "under": lambda: limit in value,
    }
    return meanings[word]()


def negated(verdict: bool | None) -> bool | None:
    return None if verdict is None else not verdict


class TestExplained:
    @pytest.mark.parametrize(
        ("data", "of_member", "attribute", "zh", "en"),
        [
            (
                {"town": {"in": ["大朗", "东坑"]}}, {"town": "石龙"}, "town",
                "此活动面向镇街为大朗、东坑之一的会员；您的镇街为石龙",
                "this drop is for members whose town is one of 大朗, 东坑; your town is 石龙",
            ),
            (
                {"town": {"in": ["大朗"]}}, {}, "town",
                "此活动面向镇街为大朗的会员；您的镇街尚未登记：请先完善资料再试",
                UNKNOWN_TOWN,
            ),
            (
                {"town": {"in": ["大朗"]}}, {"town": ("大朗",)}, "town",
                "此活动面向镇街为大朗的会员；您的镇街尚未登记：请先完善资料再试",
                UNKNOWN_TOWN,
            ),
            (
                {"joined_at": {"after": "2020-01-01", "on_or_before": "2024-12-31"}}, {"joined_at": "2025-01-01"},
                "joined_at",
                "此活动面向入会日期晚于2020-01-01且不晚于2024-12-31的会员；您的入会日期为2025-01-01",
                (
                    "this drop is for members whose joining date is after 2020-01-01 and on or before 2024-12-31;"
                    " your joining date is 2025-01-01"
                ),
            ),
            (
                {"new_employment_form": {"is": True}}, {"new_employment_form": False}, "new_employment_form",
                "此活动面向新就业形态为是的会员；您的新就业形态为否",
                "this drop is for members whose new form of employment is yes; your new form of employment is no",
            ),
            (
                {"not": {"tags": {"has_any": ["vip", "staff"]}}}, {"tags": ("staff", "x")}, "tags",
                "此活动面向标签并非含有vip、staff之一的会员；您的标签为staff、x",
                "this drop is for members whose tags do not include one of vip, staff; your tags are staff, x",
            ),
            (
                {"birthday": {"month": "this"}}, {"birthday": "07-01"}, "birthday",
                "此活动面向生日在本月的会员；您的生日为07-01",
                "this drop is for members whose birthday is in this month; your birthday is 07-01",
            ),
            (
                {"organisation": {"under": "dalang"}}, {}, "organisation",
                "此活动面向所属工会为dalang或其下级的会员；您的所属工会为factory-7",
                "this drop is for members whose organisation is dalang or one under it; your organisation is factory-7",
            ),
            (
                {"list": "couriers"}, {}, "list",
                "此活动面向在名单 couriers 上的会员；您不在其中",
                "this drop is for members on the list couriers; you are not",
            ),
            (
                {"segment": "locals"}, {"town": "石龙"}, "town",
                "此活动面向镇街为大朗的会员；您的镇街为石龙",
                "this drop is for members whose town is 大朗; your town is 石龙",
            ),
            (
                {"any_of": [{"town": {"in": ["大朗"]}}, {"list": "couriers"}]}, {"town": "石龙"}, "any_of",
                "此活动面向镇街为大朗，或在名单 couriers 上的会员；您的镇街为石龙，您不在其中",
                "this drop is for members whose town is 大朗, or on the list couriers; your town is 石龙, you are not",
            ),
        ],
    )  # fmt: skip
    def test_in_one_sentence_of_each_language(
        self, data: dict[str, Any], of_member: dict[str, Value], attribute: str, zh: str, en: str
    ) -> None:
        ledger = Known(path=("factory-7", "dongguan"), segments={"locals": predicate({"town": {"in": ["大朗"]}})})
        with pytest.raises(NotEligible) as refused:
            check(predicate(data), Session("m-1", "m-1", "member", of_member), TODAY, ledger)
        assert refused.value.facts["attribute"] == attribute
        assert refused.value.facts["explanation"] == {"zh": zh, "en": en}
        assert refused.value.detail == en

    @given(predicates(), attributes(), known())
    def test_every_refusal_has_its_words(
        self, data: dict[str, Any], of_member: dict[str, Value], ledger: Known
    ) -> None:
        for reason in reasons(predicate(data), of_member, TODAY, ledger):
            assert all(text.isprintable() and len(text) < 3_000 for text in reason.sentence)
            assert "  " not in reason.sentence.en

    def test_a_long_list_of_towns_is_told_shortly(self) -> None:
        towns = [f"t{number}" for number in range(500)]
        (reason,) = reasons(predicate({"town": {"in": towns}}), {"town": "x"}, TODAY)
        assert len(reason.sentence.en) < 200


def test_a_day_is_the_zones() -> None:
    """At 23:30 UTC on the last of May it is June in Dongguan."""
    late = datetime(2025, 5, 31, 23, 30, tzinfo=UTC)
    today = late.astimezone(ZoneInfo("Asia/Shanghai")).date()
    assert reasons(predicate({"birthday": {"month": "this"}}), {"birthday": "06-30"}, today) == []
