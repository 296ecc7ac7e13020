"""The promise: gates that nobody could pass, or that mean two things, are refused by field; what anybody may read of
them holds no answer; an amendment changes no number that is in tickets.
"""

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from engine.bounds import QUIZ_BANK_MAX, QUIZ_CHOICES_MAX, SLOGANS_MAX
from engine.drops.gates import Gates
from engine.drops.spec import SpecInvalid, amended, parse
from engine.towns import TOWNS_MAX
from tests.factories.drops import drop_json, drop_spec
from tests.factories.gates import SLOGANS, quiz_json

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to.md"
LIGHT, MOON = SLOGANS["choices"]


def question(**more: Any) -> dict[str, Any]:
    return {"id": "q1", "question": {"en": "?"}, "choices": [{"en": "a"}, {"en": "b"}], "answer": 1, **more}


def quiz(*bank: Any, **more: Any) -> dict[str, Any]:
    return {"quiz": {"questions": 1, "pass_mark": 1, "attempts": 1, "time_limit_s": 9, "bank": list(bank), **more}}


@pytest.mark.parametrize(
    ("gates", "field", "words"),
    [
        (5, "gates", "valid dictionary"),
        ({"quizz": {}}, "gates.quizz", "did you mean 'quiz'"),
        ({"list_": "veterans"}, "gates.list_", "did you mean 'list'"),
        ({"list": ["veterans"]}, "gates.list", "valid string"),
        ({"location": {"towns": "some"}}, "gates.location.towns", "'any'"),
        ({"location": {"towns": []}}, "gates.location.towns", "at least 1"),
        ({"location": {"towns": ["x"] * (TOWNS_MAX + 1)}}, "gates.location.towns", "more than 255"),
        ({"location": {"town": ["大朗"]}}, "gates.location.town", "did you mean 'towns'"),
        ({"slogan": {"choices": []}}, "gates.slogan.choices", "at least 1"),
        ({"slogan": {"choices": [LIGHT, MOON, LIGHT]}}, "gates.slogan.choices.2.id", "stands twice"),
        ({"slogan": {"choices": [LIGHT] * (SLOGANS_MAX + 1)}}, "gates.slogan.choices", "more than 64"),
        (quiz(question(), questions=2), "gates.quiz.questions", "the bank has 1"),
        (quiz(question(), pass_mark=2), "gates.quiz.pass_mark", "2 of 1 questions cannot be right"),
        (quiz(question(), attempts=0), "gates.quiz.attempts", "greater than or equal"),
        (quiz(question(), time_limit_s=0), "gates.quiz.time_limit_s", "greater than or equal"),
        (quiz(question(), time_limit_s=1.5), "gates.quiz.time_limit_s", "valid integer"),
        (quiz(question(), question()), "gates.quiz.bank.1.id", "stands twice"),
        (quiz(question(answer=0)), "gates.quiz.bank.0.answer", "greater than or equal"),
        (quiz(question(answer=3)), "gates.quiz.bank.0.answer", "none of the 2 choices"),
        (quiz(question(answer="1")), "gates.quiz.bank.0.answer", "valid integer"),
        (quiz(question(answr=1)), "gates.quiz.bank.0.answr", "did you mean 'answer'"),
        (quiz(question(choices=[{"en": "a"}])), "gates.quiz.bank.0.choices", "at least 2"),
        (quiz(question(choices=[{"en": "a"}, {"en": "a"}])), "gates.quiz.bank.0.choices.1", "stands twice"),
        (
            quiz(question(choices=[{"en": str(number)} for number in range(QUIZ_CHOICES_MAX + 1)])),
            "gates.quiz.bank.0.choices",
            "more than 10",
        ),
        (quiz(question(question={"en": "a\x00"})), "gates.quiz.bank.0.question.en", "control character"),
        (quiz(*[question()] * (QUIZ_BANK_MAX + 1)), "gates.quiz.bank", "more than 500"),
    ],
)
def test_a_fault_is_named(gates: Any, field: str, words: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        parse(drop_json("trial", gates=gates), "f")
    errors = refused.value.facts["errors"]
    assert any(error["field"] == field and words in error["problem"] for error in errors), errors  # type: ignore[attr-defined]


def test_what_is_not_there_is_not_written() -> None:
    assert drop_spec("trial").model_dump(mode="json", by_alias=True)["gates"] == {}
    gates = {"slogan": SLOGANS, "list": "veterans", "location": {"towns": "any"}}
    assert drop_spec("trial", gates=gates).model_dump(mode="json", by_alias=True)["gates"] == gates


def test_what_anybody_may_read_holds_no_bank_and_no_lists_name() -> None:
    gates = Gates.model_validate({"quiz": quiz_json(), "list": "veterans", "slogan": SLOGANS})
    shown = gates.public()
    assert shown["quiz"] == {"questions": 3, "pass_mark": 2, "attempts": 3, "time_limit_s": 120}
    assert (shown["list"], shown["slogan"]) == (True, SLOGANS)
    assert gates.quiz is not None
    assert len(gates.quiz.bank) == 6, "the gates themselves are as they were"


class TestAmended:
    SPEC = drop_spec("trial", gates={"slogan": SLOGANS})

    @pytest.mark.parametrize("choices", [[MOON, LIGHT], [LIGHT], None])
    def test_after_the_launch_no_slogan_moves_or_goes(self, choices: Any) -> None:
        gates = {} if choices is None else {"slogan": {"choices": choices}}
        with pytest.raises(SpecInvalid, match="light, moon"):
            amended(self.SPEC, {"gates": gates}, draft=False)
        assert amended(self.SPEC, {"gates": gates}, draft=True).gates == Gates.model_validate(gates)

    def test_slogans_can_be_added_and_reworded_and_a_gate_can_come(self) -> None:
        more = [{**LIGHT, "text": {"en": "Other words"}}, MOON, {"id": "sun", "text": {"en": "Sun"}}]
        changed = amended(self.SPEC, {"gates": {"slogan": {"choices": more}, "list": "veterans"}}, draft=False)
        assert changed.gates.slogan is not None
        assert [changed.gates.slogan.number(name) for name in ("light", "moon", "sun", "x")] == [1, 2, 3, None]
        first = amended(drop_spec("trial"), {"gates": {"slogan": SLOGANS}}, draft=False)
        assert first.gates == self.SPEC.gates


def test_the_example_of_the_how_to_page_is_a_legal_one() -> None:
    page = HOW_TO.read_text(encoding="utf-8")
    shown = dedent("    gates:\n" + page.partition("    gates:\n")[2].partition("\n\n")[0])
    spec = drop_spec("trial", **yaml.safe_load(shown))
    assert set(spec.gates.model_dump(by_alias=True)) == {"list", "location", "slogan", "quiz", "proof_of_work"}
