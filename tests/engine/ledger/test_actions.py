"""The promise: whatever an operator may legally write is kept in the record of acts; a zero byte is refused before."""

from datetime import UTC, datetime

import pytest

from engine.ledger.actions import Action

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def action(text: object) -> Action:
    return Action("drop:trial", "amend", "boss", NOW, NOW, change={"title": text}, before=None, after={})


@pytest.mark.parametrize("text", [r"C:\u0000", "\\", "荔枝 \\u0000", ["a", {"b": r"\u0000"}]])
def test_a_backslash_and_digits_are_no_zero_byte(text: object) -> None:
    assert action(text).change["title"] == text


@pytest.mark.parametrize("text", ["a\0b", ["a", {"b": "\0"}], {"\0": 1}, "\ud800"])
def test_what_postgresql_takes_in_no_text_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"zero byte|surrogates"):
        action(text)
