"""The conditions that a predicate may put on one attribute: whether a value meets them, and how they are said. Pure.

How to add one: a class here with its place in `engine/members/predicate.py`, and its SQL in `selection.py` beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from functools import cached_property, lru_cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from engine import ids
from engine.bounds import CONDITION_VALUES_MAX, TEXT_CHARS_MAX
from engine.members.attributes import Value, is_day, is_month_day

_T = TypeVar("_T")
_YEAR_DAYS, _MONTHS = 366, 12
_SHOWN_MAX = 8  # values of a condition that a refused member is told


class Said(NamedTuple):
    """The same in Chinese and in English."""

    zh: str
    en: str


_AS_IT_IS = Said("{}", "{}")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("printable", "has a control character")
    return text


def _day(given: object) -> object:
    """A date as YAML reads it, or as a text; nothing else that could be taken for a moment."""
    text = given.isoformat() if type(given) is date else given
    if not isinstance(text, str) or not is_day(text):
        raise PydanticCustomError("day", "expected a date like 2025-06-14")
    return text


def _name(text: str) -> str:
    if not ids.is_name(text):
        raise PydanticCustomError("name", "is not an id: use a to z, 0 to 9 and -")
    return text


def _month(given: object) -> object:
    if given != "this" and not (type(given) is int and 1 <= given <= _MONTHS):
        raise PydanticCustomError("month", "expected this, or a number from 1 to 12")
    return given


def are_some(given: tuple[_T, ...]) -> tuple[_T, ...]:
    """Refuse an empty list; by pydantic's own bound a list of which all are faulty would be told to be empty too."""
    if not given:
        raise PydanticCustomError("empty", "is empty: give at least one")
    return given


Text = Annotated[str, Field(min_length=1, max_length=TEXT_CHARS_MAX), AfterValidator(_printable)]
Texts = Annotated[tuple[Text, ...], Field(max_length=CONDITION_VALUES_MAX), AfterValidator(are_some)]
Day = Annotated[str, BeforeValidator(_day)]
Name = Annotated[str, AfterValidator(_name)]
Month = Annotated[Literal["this"] | int, BeforeValidator(_month)]


class Part(BaseModel):
    """A part of a predicate: it is written as it was given, without the names that were not."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_serializer(mode="wrap")
    def _written(self, written: Callable[[Self], dict[str, Any]]) -> dict[str, Any]:
        told = written(self)
        fields = {field.alias or name: name for name, field in type(self).model_fields.items()}
        values = {alias: told.get(alias, told.get(name)) for alias, name in fields.items()}
        return {alias: value for alias, value in values.items() if value is not None}

    @cached_property
    def is_empty(self) -> bool:
        return all(getattr(self, name) is None for name in type(self).model_fields)


class Condition(Part):
    """What one attribute must be."""

    verbs: ClassVar[tuple[Said, Said]] = (Said("为", "is"), Said("并非", "is not"))

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.is_empty:
            names = ", ".join(field.alias or name for name, field in type(self).model_fields.items())
            raise PydanticCustomError("empty", "says nothing: give {names}", {"names": names})
        return self

    def fits(self, value: Value) -> bool:
        """Whether a value is of the kind that the condition is on; one that is not is as good as unknown."""
        return isinstance(value, str)

    def holds(self, value: Value, today: date) -> bool:
        raise NotImplementedError

    def said(self) -> Said:
        """What the value must be, behind a verb."""
        raise NotImplementedError


class OneOf(Condition):
    """On a text: one of these, none of those."""

    in_: Texts | None = Field(None, alias="in")
    not_in: Texts | None = None

    def holds(self, value: Value, today: date) -> bool:
        return (self.in_ is None or value in self.allowed) and (self.not_in is None or value not in self.barred)

    def said(self) -> Said:
        return _both(
            _listed(self.in_, Said("{}之一", "one of {}")) if self.in_ else None,
            Said(f"{_shown(self.not_in).zh}以外", f"none of {_shown(self.not_in).en}") if self.not_in else None,
        )

    @cached_property
    def allowed(self) -> frozenset[Value]:
        return frozenset(self.in_ or ())

    @cached_property
    def barred(self) -> frozenset[Value]:
        return frozenset(self.not_in or ())


class OnDay(Condition):
    """On a date: texts like 2025-06-14, which stand in the order of their days."""

    verbs = (Said("", "is"), Said("并非", "is not"))

    before: Day | None = None
    after: Day | None = None
    on_or_before: Day | None = None

    def fits(self, value: Value) -> bool:
        return isinstance(value, str) and is_day(value)

    def holds(self, value: Value, today: date) -> bool:
        day = str(value)
        return (
            (self.before is None or day < self.before)
            and (self.after is None or day > self.after)
            and (self.on_or_before is None or day <= self.on_or_before)
        )

    def said(self) -> Said:
        return _both(
            Said(f"晚于{self.after}", f"after {self.after}") if self.after else None,
            Said(f"早于{self.before}", f"before {self.before}") if self.before else None,
            Said(f"不晚于{self.on_or_before}", f"on or before {self.on_or_before}") if self.on_or_before else None,
        )


class Flag(Condition):
    """On yes or no."""

    is_: Annotated[bool, Field(strict=True)] | None = Field(None, alias="is")

    def fits(self, value: Value) -> bool:
        return isinstance(value, bool)

    def holds(self, value: Value, today: date) -> bool:
        return value is self.is_

    def said(self) -> Said:
        return shown(bool(self.is_))


class Has(Condition):
    """On a list of texts: at least one of these, every one of those."""

    verbs = (Said("", ""), Said("并非", "do not"))

    has_any: Texts | None = None
    has_all: Texts | None = None

    def fits(self, value: Value) -> bool:
        return isinstance(value, tuple)

    def holds(self, value: Value, today: date) -> bool:
        assert isinstance(value, tuple)
        held = set(value)
        return (self.has_any is None or not held.isdisjoint(self.has_any)) and (
            self.has_all is None or held.issuperset(self.has_all)
        )

    def said(self) -> Said:
        return _both(
            _listed(self.has_any, Said("含有{}之一", "include one of {}"), Said("含有{}", "include {}"))
            if self.has_any
            else None,
            _listed(self.has_all, Said("含有全部{}", "include all of {}"), Said("含有{}", "include {}"))
            if self.has_all
            else None,
        )


class Birthday(Condition):
    """On month and day: in a month, this one or by its number, or within some days from today on.

    Who was born on 29 February has their birthday on the 28th in years that have no 29th.
    """

    verbs = (Said("", "is"), Said("并非", "is not"))

    month: Month | None = None
    within_days: Annotated[int, Field(ge=0, le=_YEAR_DAYS, strict=True)] | None = None

    def fits(self, value: Value) -> bool:
        return isinstance(value, str) and is_month_day(value)

    def holds(self, value: Value, today: date) -> bool:
        return value in self.days(today)

    def days(self, today: date) -> frozenset[str]:
        """The birthdays that meet the condition on a day."""
        found = _birthdays(today, self.within_days) if self.within_days is not None else _ANY_DAY
        month = today.month if self.month == "this" else self.month
        return found if month is None else frozenset(day for day in found if int(day[:2]) == month)

    def said(self) -> Said:
        at = Said("今天", "today")
        if self.within_days:
            at = Said(f"从今天起{self.within_days}天内", f"within {self.within_days} days from today")
        month = Said("在本月", "in this month")
        if isinstance(self.month, int):
            month = Said(f"在{self.month}月", f"in month {self.month}")
        return _both(month if self.month else None, at if self.within_days is not None else None)


class Under(Condition):
    """On an organisation: this one, or one under it. The value is the path from the member's own up to the root."""

    under: Name | None = None

    def fits(self, value: Value) -> bool:
        return bool(value)

    def holds(self, value: Value, today: date) -> bool:
        assert isinstance(value, tuple)
        return self.under in value

    def said(self) -> Said:
        return Said(f"{self.under}或其下级", f"{self.under} or one under it")


@lru_cache(maxsize=1_024)
def _birthdays(today: date, days: int) -> frozenset[str]:
    """The birthdays from today on, so many days ahead."""
    found = set()
    for ahead in range(days + 1):
        day = today + timedelta(days=ahead)
        found.add(f"{day:%m-%d}")
        if (day.month, day.day) == (2, 28) and (day + timedelta(days=1)).month == 3:
            found.add("02-29")
    return frozenset(found)


_ANY_DAY = _birthdays(date(2000, 1, 1), _YEAR_DAYS)  # a leap year


def shown(value: Value) -> Said:
    """A value as its member is told it."""
    if isinstance(value, bool):
        return Said("是", "yes") if value else Said("否", "no")
    if isinstance(value, str):
        return Said(value, value)
    return _shown(value) if value else Said("无", "none")


def _shown(values: Sequence[str]) -> Said:
    more = "…" if len(values) > _SHOWN_MAX else ""
    return Said("、".join(values[:_SHOWN_MAX]) + more, ", ".join(values[:_SHOWN_MAX]) + more)


def _listed(values: Sequence[str], several: Said, one: Said = _AS_IT_IS) -> Said:
    form, told = several if len(values) > 1 else one, _shown(values)
    return Said(form.zh.format(told.zh), form.en.format(told.en))


def _both(*said: Said | None) -> Said:
    given = [part for part in said if part is not None]
    return Said("且".join(part.zh for part in given), " and ".join(part.en for part in given))


BY_ATTRIBUTE: Mapping[str, type[Condition]] = {
    "town": OneOf,
    "sector": OneOf,
    "joined_at": OnDay,
    "verified_at": OnDay,
    "birthday": Birthday,
    "new_employment_form": Flag,
    "tags": Has,
    "organisation": Under,
}
