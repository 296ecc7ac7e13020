"""Which members something is for: small typed conditions, written as data, judged, and explained to who is refused.

    {town: {in: [大朗, 东坑]}, joined_at: {before: 2025-01-01}, not: {list: won-last-year}}

All conditions of a predicate must hold; `any_of`, `all_of` and `not` join predicates. What is not known of a member is
neither so nor not so: neither a condition on it holds, nor its `not`; so SQL has it, in which `selection.py` says the
same. Pure: the day, and what the ledger knows, are passed in.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from engine.bounds import CONDITIONS_MAX, PREDICATE_DEPTH_MAX
from engine.members.attributes import ATTRIBUTES, Attributes, Kind, Value
from engine.members.conditions import (
    BY_ATTRIBUTE,
    Birthday,
    Condition,
    Flag,
    Has,
    Name,
    OnDay,
    OneOf,
    Part,
    Said,
    Under,
    are_some,
    shown,
)


class Known(NamedTuple):
    """What the ledger says of a member, as far as a predicate asks for it.

    `path` are organisations, from the member's own up to the root; empty where theirs is not known.
    """

    lists: frozenset[str] = frozenset()
    path: tuple[str, ...] = ()
    segments: "Mapping[str, Predicate]" = MappingProxyType({})


NOTHING_KNOWN = Known()


class Reason(NamedTuple):
    """Why a member is refused: what is asked for, and what is so of them; `value` is None where it is not known."""

    attribute: str
    value: Value | None
    wanted: Said
    found: Said

    @property
    def sentence(self) -> Said:
        return Said(
            f"此活动面向{self.wanted.zh}的会员；{self.found.zh}",
            f"this drop is for members {self.wanted.en}; {self.found.en}",
        )


def _said_something(nested: "Predicate") -> "Predicate":
    if nested.is_empty:
        raise PydanticCustomError("empty", "says nothing: give at least one condition")
    return nested


def _bounded(given: object) -> object:
    """Bound what is looked at closer: a predicate comes from outside, and is judged at each ticket."""
    waiting, count = [(given, 1)], 0
    while waiting:
        part, depth = waiting.pop()
        if not isinstance(part, Mapping):
            continue
        count += len(part)
        if depth > PREDICATE_DEPTH_MAX:
            raise PydanticCustomError("deep", f"is nested more than {PREDICATE_DEPTH_MAX} deep")
        if count > CONDITIONS_MAX:
            raise PydanticCustomError("large", f"has more than {CONDITIONS_MAX} conditions: make a list of members")
        for name in ("any_of", "all_of"):
            inner = part.get(name)
            waiting += [(nested, depth + 1) for nested in inner] if isinstance(inner, list | tuple) else []
        waiting += [(part[name], depth + 1) for name in ("not", "not_") if name in part]
    return given


Nested = Annotated["Predicate", AfterValidator(_said_something)]
SeveralNested = Annotated[tuple[Nested, ...], AfterValidator(are_some)]


class Predicate(Part):
    """Conditions that must all hold; without any it is for everybody."""

    town: OneOf | None = None
    sector: OneOf | None = None
    joined_at: OnDay | None = None
    verified_at: OnDay | None = None
    birthday: Birthday | None = None
    new_employment_form: Flag | None = None
    tags: Has | None = None
    organisation: Under | None = None
    list_: Name | None = Field(None, alias="list")
    segment: Name | None = None
    any_of: SeveralNested | None = None
    all_of: SeveralNested | None = None
    not_: Nested | None = Field(None, alias="not")

    @cached_property
    def conditions(self) -> tuple[tuple[str, Condition], ...]:
        """The conditions on attributes, without those of nested predicates."""
        given = ((name, getattr(self, name)) for name in BY_ATTRIBUTE)
        return tuple((name, condition) for name, condition in given if condition is not None)

    @cached_property
    def nested(self) -> "tuple[Predicate, ...]":
        return (*(self.any_of or ()), *(self.all_of or ()), *([self.not_] if self.not_ else []))

    @cached_property
    def lists(self) -> frozenset[str]:
        """The lists that it names; those of its segments are theirs."""
        return frozenset(part.list_ for part in self._parts() if part.list_)

    @cached_property
    def segments(self) -> frozenset[str]:
        return frozenset(part.segment for part in self._parts() if part.segment)

    @cached_property
    def organisations(self) -> frozenset[str]:
        return frozenset(part.organisation.under or "" for part in self._parts() if part.organisation)

    @cached_property
    def asks_ledger(self) -> bool:
        """Whether a member's attributes alone do not tell if it holds."""
        return bool(self.lists or self.segments or self.organisations)

    def _parts(self) -> "Iterator[Predicate]":
        yield self
        for part in self.nested:
            yield from part._parts()


Eligibility = Annotated[Predicate, BeforeValidator(_bounded)]


def reasons(
    predicate: Predicate, attributes: Attributes, today: date, known: Known = NOTHING_KNOWN, *, wanted: bool = True
) -> list[Reason]:
    """Every condition that speaks against a member; none when it is for them. Not `wanted`: whom it is not for."""
    parts = [
        _on_attribute(name, condition, attributes, today, known, wanted) for name, condition in predicate.conditions
    ]
    if predicate.list_ is not None:
        parts.append(_on_list(predicate.list_, known, wanted))
    if predicate.segment is not None:
        parts.append(reasons(known.segments[predicate.segment], attributes, today, known, wanted=wanted))
    if predicate.nested:
        parts += _joined(predicate, attributes, today, known, wanted)
    return [reason for part in parts for reason in part] if wanted else _none_holds(parts)


def _joined(
    predicate: Predicate, attributes: Attributes, today: date, known: Known, wanted: bool
) -> list[list[Reason]]:
    """What `any_of`, `all_of` and `not` have to say, each."""

    def of(part: Predicate, is_wanted: bool) -> list[Reason]:
        return reasons(part, attributes, today, known, wanted=is_wanted)

    found = []
    for joined, is_any in ((predicate.any_of, True), (predicate.all_of, False)):
        if joined is not None:
            parts = [of(part, wanted) for part in joined]
            # Of several one must hold where any does, and, for the contrary of all, where one does not.
            found.append(_none_holds(parts) if is_any is wanted else [reason for part in parts for reason in part])
    if predicate.not_ is not None:
        found.append(of(predicate.not_, not wanted))
    return found


def _on_attribute(
    name: str, condition: Condition, attributes: Attributes, today: date, known: Known, wanted: bool
) -> list[Reason]:
    value: Value | None = known.path if name == "organisation" else attributes.get(name)
    is_known = value is not None and condition.fits(value)
    if is_known and value is not None and condition.holds(value, today) is wanted:
        return []
    label, verb, must = ATTRIBUTES[name], condition.verbs[not wanted], condition.said()
    asked = Said(f"{label.zh}{verb.zh}{must.zh}", f"whose {label.en} {verb.en} {must.en}".replace("  ", " "))
    is_ = "are" if label.kind is Kind.TEXTS else "is"
    if not is_known or value is None:
        missing = Said(
            f"您的{label.zh}尚未登记：请先完善资料再试",
            f"your {label.en} {is_} not known: complete your profile, then try again",
        )
        return [Reason(name, None, asked, missing)]
    told = value[0] if name == "organisation" and isinstance(value, tuple) else value
    return [
        Reason(name, told, asked, Said(f"您的{label.zh}为{shown(told).zh}", f"your {label.en} {is_} {shown(told).en}"))
    ]


def _on_list(name: str, known: Known, wanted: bool) -> list[Reason]:
    if (name in known.lists) is wanted:
        return []
    if wanted:
        return [
            Reason("list", None, Said(f"在名单 {name} 上", f"on the list {name}"), Said("您不在其中", "you are not"))
        ]
    return [Reason("list", None, Said(f"不在名单 {name} 上", f"not on the list {name}"), Said("您在其中", "you are"))]


def _none_holds(parts: Sequence[Sequence[Reason]]) -> list[Reason]:
    """One reason out of those against each of several predicates, of which one must hold; none where one does."""
    if any(not part for part in parts):
        return []
    asked = [_join([reason.wanted for reason in part], "且", " and ") for part in parts]
    found = list(dict.fromkeys(reason.found for part in parts for reason in part))
    if len(parts) == 1 and len(parts[0]) == 1:
        return list(parts[0])
    return [Reason("any_of", None, _join(asked, "，或", ", or "), _join(found, "，", ", "))]


def _join(said: Sequence[Said], zh: str, en: str) -> Said:
    return Said(zh.join(part.zh for part in said), en.join(part.en for part in said))


def names_at(place: Sequence[str | int]) -> list[str]:
    """The names that may stand at a place in a predicate, for the fault about one that may not."""
    part: type[Part] = Predicate
    for step in place:
        part = BY_ATTRIBUTE.get(str(step), part) if part is Predicate else part
    return [field.alias or name for name, field in part.model_fields.items()]
