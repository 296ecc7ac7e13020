"""Gates for tests, and clients that pass them."""

from collections.abc import Iterable, Mapping
from typing import Any

DALANG = {"lat": 22.90, "lon": 113.93}  # the centre of 大朗
DONGKENG = {"lat": 23.00, "lon": 113.93}  # of 东坑
SLOGANS = {"choices": [{"id": "light", "text": {"zh": "点亮"}}, {"id": "moon", "text": {"zh": "月圆", "en": "Moon"}}]}


def quiz_json(questions: int = 3, bank: int = 6, **more: Any) -> dict[str, Any]:
    """A quiz whose right choices say so, so that a test can take it; which place they have differs."""
    return {
        "questions": questions,
        "pass_mark": 2,
        "attempts": 3,
        "time_limit_s": 120,
        "bank": [
            {
                "id": f"q{number}",
                "question": {"en": f"Question {number}?", "zh": f"问题{number}？"},
                "choices": [
                    {"en": f"{'right' if place == number % 4 else 'wrong'} {number} {place}"} for place in range(4)
                ],
                "answer": number % 4 + 1,
            }
            for number in range(1, bank + 1)
        ],
        **more,
    }


def answers_to(questions: Iterable[Mapping[str, Any]], right: int) -> dict[str, int]:
    """Answers of which so many are right, to questions as the API tells them."""
    found = {}
    for place, question in enumerate(questions):
        wanted = "right" if place < right else "wrong"
        found[question["id"]] = next(
            choice["number"] for choice in question["choices"] if choice["text"]["en"].startswith(wanted)
        )
    return found
