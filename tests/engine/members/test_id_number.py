"""The promise: an ID number is checked, becomes a keyed hash, and is repeated by no message."""

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import ids
from engine.members.id_number import WrongNumber, is_id_number, person, without_numbers
from tests.factories.members import id_number

KEY, OTHER = b"k" * 32, b"o" * 32
TODAY = date(2025, 6, 14)
KNOWN = "11010519491231002X"  # the example of GB 11643 itself
numbers = st.builds(id_number, st.integers(110_000, 899_999), st.dates(date(1900, 1, 1), TODAY), st.integers(0, 999))


class TestMalformed:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "18 characters"),
            ("1101051949123100", "18 characters"),
            ("110105491231002", "18 characters"),  # 15 digits, out of use since 2013
            ("01010519491231002X", "18 characters"),
            ("1.10105E+17", "18 characters"),
            ("110105194912310020", "check character"),
            ("11010519491231020X", "check character"),  # two digits swapped
            (id_number(110_105, date(2025, 6, 15), 2), "birth date"),
            (id_number(110_105, date(1899, 12, 31), 2), "birth date"),
            ("110105199002300020", "check character"),
            ("x" * 100_000, "18 characters"),
        ],
    )
    def test_each_is_refused_without_being_repeated(self, text: str, words: str) -> None:
        with pytest.raises(WrongNumber, match=words) as refused:
            person(text, KEY, TODAY)
        assert not re.search("[0-9]{4}", str(refused.value))

    def test_a_day_that_there_is_not_is_no_birth_date(self) -> None:
        digits = "44190019900230001"
        for check in "0123456789X":
            with pytest.raises(WrongNumber):
                person(digits + check, KEY, TODAY)

    @given(numbers, st.integers(0, 16), st.integers(1, 9))
    def test_a_wrong_digit_is_found(self, number: str, place: int, more: int) -> None:
        wrong = f"{number[:place]}{(int(number[place]) + more) % 10}{number[place + 1 :]}"
        with pytest.raises(WrongNumber):
            person(wrong, KEY, TODAY)

    @given(st.text())
    def test_no_text_breaks_it(self, text: str) -> None:
        try:
            person(text, KEY, TODAY)
        except WrongNumber:
            return


@given(numbers)
def test_the_same_person_is_found_again_and_only_under_the_same_key(number: str) -> None:
    found = person(number, KEY, TODAY)
    assert found == person(f" {number.lower()} ", KEY, TODAY)
    assert found.subject != person(number, OTHER, TODAY).subject
    assert found.birthday == f"{number[10:12]}-{number[12:14]}"
    assert ids.member_id(found.subject) == found.subject
    assert found.subject[0] == "p"
    assert number[:6] not in found.subject


@given(numbers, numbers)
def test_two_people_are_two(one: str, other: str) -> None:
    assert (person(one, KEY, TODAY) == person(other, KEY, TODAY)) == (one == other)


def test_full_width_digits_and_blanks_are_no_faults() -> None:
    wide = "".join(chr(ord(sign) + 0xFEE0) for sign in KNOWN)
    assert person(wide, KEY, TODAY) == person("110105 19491231 002x", KEY, TODAY) == person(KNOWN, KEY, TODAY)
    assert person(KNOWN, KEY, TODAY).birthday == "12-31"


@given(numbers, st.sampled_from(["{}", "id {}", "{}x", "No.{}!", "a{}b", "{}{}"]))
def test_what_may_be_a_number_is_blotted_out(number: str, form: str) -> None:
    text = form.format(number, number)
    assert number[:17] not in without_numbers(text)
    assert is_id_number(number)


def test_what_is_none_stays() -> None:
    for text in ("大朗", "m-1", "13800138000", "2025-06-14", ""):
        assert without_numbers(text) == text
        assert not is_id_number(text)
