"""The promise: whoever asks is answered in the language that they read, whatever their header says; texts are whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bounds import MESSAGE_CHARS_MAX
from engine.notices.kinds import KINDS, names, written
from engine.notices.model import LANGUAGES, language

FACTS = {"draw": {"zh": "端午好礼", "en": "Dragon Boat gifts"}, "prize": {"zh": "烧鹅券", "en": "roast goose voucher"}}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "zh"),
        ("en", "en"),
        ("EN-gb", "en"),
        ("en-US,en;q=0.9,zh-CN;q=0.8", "en"),
        ("fr, zh-Hans-CN;q=0.9, en;q=0.8", "zh"),
        ("zh;q=0.1, en;q=0.2", "en"),
        ("en;q=0, zh", "zh"),
        ("fr, de", "zh"),
        ("*", "zh"),
        ("en;q=nan", "zh"),
        ("en;q=7", "zh"),
        ("en;x=1", "zh"),
        (";;,,;q", "zh"),
        ("fr," * 100 + "en", "zh"),
    ],
)
def test_a_header_says_which_language(header: str, expected: str) -> None:
    assert language(header) == expected


@given(st.text())
def test_no_header_breaks_it(header: str) -> None:
    assert language(header) in LANGUAGES


class TestTexts:
    @pytest.mark.parametrize("kind", KINDS)
    def test_of_every_kind_name_the_same_plain_facts_in_both_languages(self, kind: str) -> None:
        zh, en = (names(pattern) for pattern in KINDS[kind])
        assert set(zh) == set(en)
        assert all(name.isidentifier() for name in zh), "a dot or an index would reach into what a fact is"

    def test_are_made_in_both(self) -> None:
        assert written("prize-arrived", FACTS) == {
            "zh": "您在“端午好礼”中抽中的烧鹅券已到账，请到“我的卡券”查看。",
            "en": "The roast goose voucher that you drew in “Dragon Boat gifts” has arrived: see your coupons.",
        }

    def test_take_a_fact_that_is_the_same_in_both_or_is_there_in_one(self) -> None:
        for prize in ("烧鹅", {"zh": "烧鹅"}, {"zh": "烧鹅", "en": ""}):
            assert "The 烧鹅 that" in written("prize-arrived", {**FACTS, "prize": prize})["en"]
        assert "The 5 that" in written("prize-arrived", {**FACTS, "prize": 5})["en"]

    @pytest.mark.parametrize("prize", [None, True, [], {}, {"fr": "oie"}, {"zh": ""}, 1.5])
    def test_are_not_made_without_a_fact(self, prize: object) -> None:
        with pytest.raises(ValueError, match="needs the fact 'prize'"):
            written("prize-arrived", {**FACTS, "prize": prize})

    def test_are_not_made_of_an_unknown_kind_or_too_long(self) -> None:
        with pytest.raises(ValueError, match="no kind of message 'prize'"):
            written("prize", FACTS)
        with pytest.raises(ValueError, match="is the most"):
            written("prize-arrived", {**FACTS, "prize": "鹅" * MESSAGE_CHARS_MAX})

    @given(st.text(max_size=50))
    def test_are_what_the_facts_say_and_nothing_more(self, prize: str) -> None:
        """A fact is never read as a pattern."""
        if prize:
            assert prize in written("prize-arrived", {**FACTS, "prize": prize})["zh"]
