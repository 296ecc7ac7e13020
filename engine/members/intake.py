"""Judges the rows of a members' CSV, one by one: what is right becomes a row for the ledger, else it is told why not.

An empty cell leaves what is known as it is. An ID number becomes a keyed hash, and month and day of birth, here, and
goes no further: no message repeats it, wherever in the row it stands.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from engine import ids
from engine.members.attributes import ATTRIBUTES, Value, WrongValue, checked, is_day, nearest
from engine.members.id_number import Person, WrongNumber, is_id_number, person, without_numbers
from engine.members.sheet import Reject
from engine.towns import Towns

LIST_COLUMNS = ("member_id", "id_number")
COLUMNS = (*LIST_COLUMNS, "subject", *ATTRIBUTES)
_DAY = re.compile(r"([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})(?: [0-9:]+)?")
_FLAGS = {
    "true": True, "yes": True, "y": True, "1": True, "是": True,
    "false": False, "no": False, "n": False, "0": False, "否": False,
}  # fmt: skip
_TAGS_SEPARATOR = re.compile(r"[;；|]")
_SHOWN_CHARS = 40
_REMEMBERED_MAX = 100_000  # cells whose value is worked out once: towns and organisations stand in many rows


class MemberRow(NamedTuple):
    """A row for the ledger; what is None is left as it is known."""

    row: int
    id: str
    subject: str | None
    organisation: str | None
    attributes: str  # JSON


class _Wrong(Exception):
    """What is wrong with a cell, and what to do."""

    def __init__(self, wrong: str, advice: str) -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.advice = advice


class _Read(NamedTuple):
    """What a row says: values by column, whom its ID number stands for, and what is wrong."""

    values: dict[str, Value]
    person: Person | None
    rejects: list[Reject]


@dataclass(slots=True)
class Judge:
    """What rows are judged by: the towns, the organisations (without any each will do), the key, the day."""

    towns: Towns
    organisations: Collection[str]
    person_key: bytes | None
    today: date
    _remembered: dict[tuple[str, str], Value] = field(default_factory=dict)

    def member(self, number: int, columns: Sequence[str], cells: Sequence[str]) -> MemberRow | list[Reject]:
        """A member's row, or all that is wrong with it."""
        values, of_number, rejects = self._read(number, columns, cells)
        if not rejects and "member_id" not in values:
            rejects.append(Reject(number, "member_id", "is empty", "give the id by which the member signs in"))
        if of_number is not None:
            if values.setdefault("birthday", of_number.birthday) != of_number.birthday:
                rejects.append(Reject(number, "birthday", "does not fit the ID number", "leave it empty"))
            if "subject" in values:
                rejects.append(Reject(number, "subject", "stands beside an ID number", "give one of the two"))
            values["subject"] = of_number.subject
        if rejects:
            return rejects
        member_id = str(values.pop("member_id"))
        subject, organisation = (
            str(values.pop(name)) if name in values else None for name in ("subject", "organisation")
        )
        return MemberRow(number, member_id, subject, organisation, json.dumps(values, ensure_ascii=False))

    def listed(self, number: int, columns: Sequence[str], cells: Sequence[str]) -> str | list[Reject]:
        """Whom a row of a list names, a member by id or a person by number; or all that is wrong with it."""
        values, of_number, rejects = self._read(number, columns, cells)
        if not rejects and ("member_id" in values) == (of_number is not None):
            rejects.append(Reject(number, "member_id", "none or two are named", "give an id, or an ID number"))
        if rejects:
            return rejects
        return of_number.subject if of_number else str(values["member_id"])

    def _read(self, number: int, columns: Sequence[str], cells: Sequence[str]) -> _Read:
        found = _Read({}, None, [])
        if len(cells) != len(columns):
            wrong = f"has {len(cells)} cells, the heading has {len(columns)}"
            found.rejects.append(Reject(number, "", wrong, "look for a comma too many or a row that was cut off"))
            return found
        for name, cell in zip(columns, cells, strict=True):
            if not cell:
                continue
            try:
                if name == "id_number":
                    found = found._replace(person=self._person(cell))
                else:
                    found.values[name] = self._value(name, cell)
            except _Wrong as error:
                found.rejects.append(Reject(number, name, error.wrong, error.advice))
        return found

    def _person(self, cell: str) -> Person:
        assert self.person_key is not None, "a sheet with numbers is not read without a key"
        try:
            return person(cell, self.person_key, self.today)
        except WrongNumber as error:
            raise _Wrong(
                str(error), "compare it with the card; a sheet may have rounded it: format the column as text"
            ) from None

    def _value(self, name: str, cell: str) -> Value:
        known = self._remembered.get((name, cell))
        if known is None:
            known = _READERS.get(name, _by_kind)(self, name, cell)
            if name not in _UNLIKE and len(self._remembered) < _REMEMBERED_MAX:
                self._remembered[name, cell] = known
        return known


def _id(judge: Judge, name: str, cell: str) -> str:
    if is_id_number(cell):
        raise _Wrong("is an ID number, which is kept nowhere", "give another id; the number goes into id_number")
    try:
        return ids.member_id(cell)
    except ids.IdInvalid:
        raise _Wrong(f"{_shown(cell)} is no id", "use letters, digits and . _ : @ -, at most 64") from None


def _town(judge: Judge, name: str, cell: str) -> str:
    town = judge.towns.named(cell)
    if town is None:
        raise _Wrong(f"{_shown(cell)} is no town", f"write its name or code{nearest(cell, judge.towns.zh())}")
    return town.zh


def _organisation(judge: Judge, name: str, cell: str) -> str:
    if not ids.is_name(cell) or (judge.organisations and cell not in judge.organisations):
        advice = f"write an organisation's id{nearest(cell, list(judge.organisations))}"
        raise _Wrong(f"{_shown(cell)} is no organisation", advice)
    return cell


def _day(judge: Judge, name: str, cell: str) -> str:
    """A date as sheets write it: 2025-06-14, 2025/6/14, or with a time behind it."""
    found = _DAY.fullmatch(cell)
    day = f"{found[1]}-{int(found[2]):02}-{int(found[3]):02}" if found else ""
    if not is_day(day):
        raise _Wrong(f"{_shown(cell)} is no date", "write it like 2025-06-14")
    return day


def _flag(judge: Judge, name: str, cell: str) -> bool:
    if cell.lower() not in _FLAGS:
        raise _Wrong(f"{_shown(cell)} is neither yes nor no", "write true or false, 是 or 否")
    return _FLAGS[cell.lower()]


def _tags(judge: Judge, name: str, cell: str) -> Value:
    tags = [tag.strip() for tag in _TAGS_SEPARATOR.split(cell)]
    return _checked(name, [tag for tag in tags if tag], cell)


def _birthday(judge: Judge, name: str, cell: str) -> Value:
    if _DAY.fullmatch(cell):
        raise _Wrong("is a whole birth date", "write month and day like 06-14; the year is kept nowhere")
    return _checked(name, cell, cell)


def _by_kind(judge: Judge, name: str, cell: str) -> Value:
    return _checked(name, cell, cell)


def _checked(name: str, value: object, cell: str) -> Value:
    try:
        return checked(name, value)
    except WrongValue as error:
        raise _Wrong(f"{_shown(cell)} cannot be a {name}", str(error)) from None


_READERS: Mapping[str, Callable[[Judge, str, str], Value]] = {
    "member_id": _id,
    "subject": _id,
    "town": _town,
    "organisation": _organisation,
    "joined_at": _day,
    "verified_at": _day,
    "new_employment_form": _flag,
    "tags": _tags,
    "birthday": _birthday,
}
_UNLIKE = {"member_id", "subject"}  # columns in which no two rows say the same


def _shown(cell: str) -> str:
    """A cell as a message may show it."""
    plain = without_numbers(cell)
    return repr(plain[:_SHOWN_CHARS] + ("…" if len(plain) > _SHOWN_CHARS else ""))
