"""The number of a citizen's identity card: checked, turned at once into a keyed hash, and kept nowhere.

The number is 17 digits (region 6, birth date 8, order 3) and a check character. Source: GB 11643-1999, whose check is
ISO 7064 MOD 11-2. Whoever has the key can try out all numbers, so it is kept as the key that seals tickets is; it is
never rotated, for what it made cannot be made anew without the numbers.
"""

import re
import unicodedata
from base64 import b32encode
from datetime import date
from hashlib import sha256
from hmac import digest
from typing import NamedTuple

from engine.bounds import MEMBER_ID_BYTES_MAX

_NUMBER = re.compile(r"[1-9][0-9]{16}[0-9X]")
_WEIGHTS = [2**power % 11 for power in range(17, 0, -1)]
_CHECKS = "10X98765432"  # by the weighted sum modulo eleven
_PURPOSE = b"flashclaim.person\0"
_HASH_BYTES = 20
_LIKE_A_NUMBER = re.compile(r"[0-9]{14,}[0-9Xx]?")
_BORN_YEAR_MIN = 1900

assert 1 + _HASH_BYTES * 8 // 5 <= MEMBER_ID_BYTES_MAX


class WrongNumber(ValueError):
    """What is no identity card's number; the text says why, and never repeats it."""


class Person(NamedTuple):
    """All that is kept of a number: whom limits count, and month and day of birth like 06-14."""

    subject: str
    birthday: str


def person(text: str, key: bytes, today: date) -> Person:
    """Who a number stands for; `today` bounds the birth date. Raises `WrongNumber`."""
    number = _plain(text)
    if not _NUMBER.fullmatch(number):
        raise WrongNumber("not 18 characters of an identity card: 17 digits, then a digit or X")
    if number[17] != _check(number):
        raise WrongNumber("its check character does not fit: a digit is wrong or two are swapped")
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        born = date.min
    if not born.year >= _BORN_YEAR_MIN or born > today:
        raise WrongNumber("holds no birth date")
    made = b32encode(digest(key, _PURPOSE + number.encode(), sha256)[:_HASH_BYTES])
    return Person(f"p{made.decode().lower()}", f"{born:%m-%d}")


def is_id_number(text: str) -> bool:
    """Whether a text is spelled as an identity card's number is, check character and all."""
    number = _plain(text)
    return _NUMBER.fullmatch(number) is not None and number[17] == _check(number)


def without_numbers(text: str) -> str:
    """A text as it may be shown and kept: runs of digits that may be an identity card's number are blotted out."""
    return _LIKE_A_NUMBER.sub("…", _plain(text) if _LIKE_A_NUMBER.search(_plain(text)) else text)


def _check(number: str) -> str:
    return _CHECKS[sum(int(digit) * weight for digit, weight in zip(number[:17], _WEIGHTS, strict=True)) % 11]


def _plain(text: str) -> str:
    """Full-width digits and blanks, as sheets have them, are no faults."""
    return "".join(unicodedata.normalize("NFKC", text).split()).upper()
