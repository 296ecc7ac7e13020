"""A predicate as SQL over the rows of members: for counts, and for whoever works on all members at once.

It says the same as `predicate.reasons`, also where something is not known, which is NULL: neither so nor not so. A test
compares the two. A value that earlier versions took, of another kind than its attribute's, is not known.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, ColumnElement, Text, and_, any_, case, exists, func, literal, not_, or_, true

from engine.ledger.schema import list_members, members
from engine.members.conditions import Birthday, Condition, Flag, Has, OnDay, OneOf, Under
from engine.members.predicate import Predicate

Sql = ColumnElement[Any]
_DAY, _MONTH_DAY = r"^\d{4}-\d{2}-\d{2}$", r"^\d{2}-\d{2}$"


class Named(NamedTuple):
    """What the names in a predicate stand for: segments, and for each organisation those under it and itself."""

    segments: Mapping[str, Predicate]
    under: Mapping[str, Sequence[str]]


def selection(predicate: Predicate, today: date, named: Named) -> Sql:
    """The condition on a row of `members` that a predicate is on a day."""

    def of(part: Predicate) -> Sql:
        return selection(part, today, named)

    parts = [_on(name, condition, today, named) for name, condition in predicate.conditions]
    if predicate.list_ is not None:
        is_on = list_members.c.list == predicate.list_
        parts.append(exists().where(is_on, list_members.c.member.in_([members.c.id, members.c.subject])))
    if predicate.segment is not None:
        parts.append(of(named.segments[predicate.segment]))
    if predicate.any_of is not None:
        parts.append(or_(*map(of, predicate.any_of)))
    if predicate.all_of is not None:
        parts.append(and_(*map(of, predicate.all_of)))
    if predicate.not_ is not None:
        parts.append(not_(of(predicate.not_)))
    return and_(true(), *parts)


def _on(name: str, condition: Condition, today: date, named: Named) -> Sql:
    if isinstance(condition, Under):
        return _among(members.c.organisation, named.under[condition.under or ""])
    value = members.c.attributes[name]
    text, kind = value.astext.collate("C"), func.jsonb_typeof(value)
    if isinstance(condition, Flag):
        return case((kind == "boolean", value.astext == str(condition.is_).lower()))
    if isinstance(condition, Has):
        return case((kind == "array", _has(value, condition)))
    if isinstance(condition, OnDay):
        return case((and_(kind == "string", text.regexp_match(_DAY)), _on_day(text, condition)))
    if isinstance(condition, Birthday):
        days = sorted(condition.days(today))
        return case((and_(kind == "string", text.regexp_match(_MONTH_DAY)), _among(text, days)))
    assert isinstance(condition, OneOf)
    return case((kind == "string", _one_of(text, condition)))


def _one_of(text: Sql, condition: OneOf) -> Sql:
    parts = [_among(text, condition.in_)] if condition.in_ else []
    parts += [not_(_among(text, condition.not_in))] if condition.not_in else []
    return and_(*parts)


def _on_day(text: Sql, condition: OnDay) -> Sql:
    parts = [text < condition.before] if condition.before else []
    parts += [text > condition.after] if condition.after else []
    parts += [text <= condition.on_or_before] if condition.on_or_before else []
    return and_(*parts)


def _has(value: Any, condition: Has) -> Sql:
    parts = [value.has_any(literal(list(condition.has_any), ARRAY(Text)))] if condition.has_any else []
    parts += [value.has_all(literal(list(condition.has_all), ARRAY(Text)))] if condition.has_all else []
    return and_(*parts)


def _among(text: Sql, values: Sequence[str]) -> Sql:
    return text == any_(literal(list(values), ARRAY(Text)))
