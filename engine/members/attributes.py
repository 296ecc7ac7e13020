"""What is known of a member: each attribute's name, kind, and how it is said in Chinese and in English. Pure.

A birthday is month and day alone: the year is kept nowhere.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from difflib import get_close_matches
from enum import Enum, auto
from typing import NamedTuple

from engine import ids
from engine.bounds import TAGS_MAX, TEXT_CHARS_MAX

Value = str | bool | tuple[str, ...]
Attributes = Mapping[str, Value]
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MONTH_DAY = re.compile(r"[0-9]{2}-[0-9]{2}")
_SEARCHED_MAX = 2_000  # names: a search takes 10 ms then
_LEAP_YEAR = 2000  # has every day that a birthday can be


class Kind(Enum):
    TEXT = auto()
    DAY = auto()  # a text like 2025-06-14: such texts stand in the order of their days
    MONTH_DAY = auto()  # a text like 06-14
    FLAG = auto()
    TEXTS = auto()
    NAME = auto()  # an id of something else


class Attribute(NamedTuple):
    kind: Kind
    zh: str
    en: str


ATTRIBUTES: Mapping[str, Attribute] = {
    "town": Attribute(Kind.TEXT, "镇街", "town"),
    "sector": Attribute(Kind.TEXT, "行业", "sector"),
    "joined_at": Attribute(Kind.DAY, "入会日期", "joining date"),
    "verified_at": Attribute(Kind.DAY, "认证日期", "verification date"),
    "birthday": Attribute(Kind.MONTH_DAY, "生日", "birthday"),
    "new_employment_form": Attribute(Kind.FLAG, "新就业形态", "new form of employment"),
    "tags": Attribute(Kind.TEXTS, "标签", "tags"),
    "organisation": Attribute(Kind.NAME, "所属工会", "organisation"),
}


class WrongValue(ValueError):
    """What cannot be a value of an attribute; the text says what can."""


def of_token(given: object) -> dict[str, Value]:
    """The attributes of a session token; raises `WrongValue`.

    Others than ours are a provider's own affair, as long as they are of a kind that we know. Dates are not looked at
    closer: this is done for each ticket, and one that is none fits no condition.
    """
    if not isinstance(given, Mapping):
        raise WrongValue("attributes are not values by name")
    found: dict[str, Value] = {}
    for name, value in given.items():
        found[name] = value if isinstance(value, str) and name not in _NO_TEXTS else _plain(name, value)
    return found


_NO_TEXTS = {name for name, attribute in ATTRIBUTES.items() if attribute.kind in (Kind.FLAG, Kind.TEXTS)}


def _plain(name: str, value: object) -> Value:
    known = ATTRIBUTES.get(name)
    if isinstance(value, bool) and (known is None or known.kind is Kind.FLAG):
        return value
    is_texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
    if is_texts and (known is None or known.kind is Kind.TEXTS):
        return tuple(value)  # type: ignore[arg-type]  # a list of texts, as was just seen
    raise WrongValue(f"{str(name)[:80]} is of no known kind")


def of_record(stored: Mapping[str, object], organisation: str | None) -> dict[str, Value]:
    """The attributes of a member's row; values that earlier versions took, and that are of no kind, are left out."""
    found: dict[str, Value] = {} if organisation is None else {"organisation": organisation}
    for name, value in stored.items():
        try:
            found |= of_token({name: value})
        except WrongValue:
            continue
    return found


def checked(name: str, value: object) -> Value:
    """A value that may be written down of a member; raises `WrongValue` with what is wrong and what to do."""
    attribute = ATTRIBUTES.get(name)
    if attribute is None:
        raise WrongValue(f"unknown name{nearest(name, ATTRIBUTES)}")
    if attribute.kind is Kind.FLAG:
        if not isinstance(value, bool):
            raise WrongValue("write true or false")
        return value
    if attribute.kind is Kind.TEXTS:
        if not isinstance(value, list | tuple) or len(value) > TAGS_MAX:
            raise WrongValue(f"write a list of at most {TAGS_MAX} texts")
        return tuple(sorted({_text(text) for text in value}))
    text = _text(value)
    is_right, advice = _SPELLED.get(attribute.kind, (None, ""))
    if is_right is not None and not is_right(text):
        raise WrongValue(advice)
    return text


def is_day(text: str) -> bool:
    """Whether a text is a date like 2025-06-14 that there is."""
    return _DAY.fullmatch(text) is not None and _is_date(text)


def is_month_day(text: str) -> bool:
    """Whether a text is a month and day like 06-14 that there is, 02-29 too."""
    return _MONTH_DAY.fullmatch(text) is not None and _is_date(f"{_LEAP_YEAR}-{text}")


_SPELLED: Mapping[Kind, tuple[Callable[[str], bool], str]] = {
    Kind.NAME: (ids.is_name, "write an id: a to z, 0 to 9 and -"),
    Kind.DAY: (is_day, "write a date like 2025-06-14"),
    Kind.MONTH_DAY: (is_month_day, "write month and day like 06-14; the year is kept nowhere"),
}


def nearest(name: str, known: Mapping[str, object] | tuple[str, ...] | list[str], shown_max: int = 20) -> str:
    """The end of a sentence about an unknown name: which one may be meant, or which there are."""
    if len(known) > _SEARCHED_MAX:
        return ""
    near = get_close_matches(name[:80], list(known), n=1, cutoff=0.5)
    if near:
        return f": did you mean {near[0]!r}?"
    shown = ", ".join(list(known)[:shown_max]) or "none"
    return f": known are {shown}{'…' if len(known) > shown_max else ''}"


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or len(value) > TEXT_CHARS_MAX:
        raise WrongValue(f"write a printable text of at most {TEXT_CHARS_MAX} characters")
    return value
