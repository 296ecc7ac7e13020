"""The promise: the quiz is taken by these routes, each refusal has its code, and no answer that a member can see holds
which choice is right.
"""

import asyncio
import json
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from api.app import create_app
from engine.rates import control
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.api.conftest import Api, problem, running
from tests.factories.drops import drop_json
from tests.factories.gates import answers_to, quiz_json

START, ANSWERS = "/v1/drops/trial/quiz", "/v1/drops/trial/quiz/answers"


async def post(api: Api, path: str, body: Any = None, member: str = "m-1") -> httpx.Response:
    return await api.client.post(path, json=body, headers=api.bearer(member))


async def begun(api: Api, member: str = "m-1") -> dict[str, Any]:
    answer = await post(api, START, member=member)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def answered(api: Api, right: int, member: str = "m-1") -> httpx.Response:
    attempt = await begun(api, member)
    body = {"attempt": attempt["attempt"], "answers": answers_to(attempt["questions"], right)}
    return await post(api, ANSWERS, body, member)


async def passed(api: Api, member: str = "m-1") -> str:
    return str((await answered(api, 3, member)).json()["pass"])


class TestWay:
    async def test_of_a_member_who_passes(self, api: Api) -> None:
        await api.launched(gates={"quiz": quiz_json()})
        assert problem(await post(api, "/v1/drops/trial/ticket"), 428, "quiz-required")["route"] == f"POST {START}"
        attempt = await begun(api)
        assert set(attempt) == {
            "gate", "passed", "attempt", "attempts_left", "pass_mark", "questions", "started_at", "expires_at",
        }  # fmt: skip
        assert await begun(api) == attempt
        found = (await answered(api, 2)).json()
        assert (found["gate"], found["passed"], found["attempt"], found["mark"]) == ("quiz", True, 1, 2)
        again = await begun(api)
        assert again.keys() == found.keys()
        for sealed in (found["pass"], again["pass"], found["pass"]):
            ticket = (await post(api, "/v1/drops/trial/ticket", {"quiz": sealed})).json()["ticket"]
            assert (await api.claim(ticket)).status_code in (201, 409)

    async def test_of_one_who_fails_until_there_is_no_attempt_left(self, api: Api) -> None:
        await api.launched(gates={"quiz": quiz_json(attempts=2)})
        for number, left in ((1, 1), (2, 0)):
            found = problem(await answered(api, 1), 409, "quiz-failed")
            facts = (found["attempt"], found["attempts_left"], found["mark"], found["pass_mark"], found["questions"])
            assert facts == (number, left, 1, 2, 3)
        assert problem(await post(api, START), 409, "no-attempts-left")["attempts"] == 2
        problem(await post(api, "/v1/drops/trial/ticket"), 428, "quiz-required")

    async def test_of_one_who_is_late(self, api: Api, stores: Stores) -> None:
        await api.launched(gates={"quiz": quiz_json()})
        attempt = await begun(api)
        async with stores.ledger.begin() as connection:
            await connection.execute(text("update quiz_attempts set expires_at = now()"))
        body = {"attempt": 1, "answers": answers_to(attempt["questions"], 3)}
        for _ in range(2):
            assert problem(await post(api, ANSWERS, body), 409, "quiz-late")["attempts_left"] == 2
        assert (await begun(api))["attempt"] == 2

    async def test_of_one_who_answers_twice(self, api: Api) -> None:
        await api.launched(gates={"quiz": quiz_json()})
        questions = (await begun(api))["questions"]
        wrong, right = ({"attempt": 1, "answers": answers_to(questions, count)} for count in (0, 3))
        first = problem(await post(api, ANSWERS, wrong), 409, "quiz-failed")
        assert problem(await post(api, ANSWERS, wrong), 409, "quiz-failed") == first
        problem(await post(api, ANSWERS, right), 409, "attempt-answered")

    async def test_in_parallel_there_are_no_more_attempts(self, api: Api, stores: Stores) -> None:
        await api.launched(gates={"quiz": quiz_json(attempts=2)})

        async def greedy() -> set[str]:
            codes = set()
            for _ in range(4):
                start = await post(api, START)
                if start.status_code == 200 and not start.json()["passed"]:
                    body = {"attempt": start.json()["attempt"], "answers": answers_to(start.json()["questions"], 0)}
                    codes.add((await post(api, ANSWERS, body)).json()["code"])
                else:
                    codes.add(start.json()["code"])
            return codes

        codes = set().union(*await asyncio.gather(*(greedy() for _ in range(8))))
        assert codes == {"quiz-failed", "no-attempts-left"}
        async with stores.ledger.connect() as connection:
            assert await connection.scalar(text("select count(*) from quiz_attempts")) == 2


class TestRefused:
    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({}, "invalid"),
            ({"attempt": 1}, "invalid"),
            ({"answers": {}}, "invalid"),
            ({"attempt": "1", "answers": {}}, "invalid"),
            ({"attempt": True, "answers": {}}, "invalid"),
            ({"attempt": 0, "answers": {}}, "invalid"),
            ({"attempt": 10**9, "answers": {}}, "invalid"),
            ({"attempt": 1, "answers": []}, "invalid"),
            ({"attempt": 1, "answers": {}, "mark": 3}, "invalid"),
            ([], "invalid"),
            ({"attempt": 1, "answers": {"nothing": 1}}, "answers-invalid"),
            ({"attempt": 1, "answers": {"\x00": 1}}, "answers-invalid"),
        ],
    )
    async def test_answers_that_are_none_leave_the_attempt_open(self, api: Api, body: Any, code: str) -> None:
        await api.launched(gates={"quiz": quiz_json()})
        attempt = await begun(api)
        problem(await post(api, ANSWERS, body), 422, code)
        for number in (0, 5, "1", True, 1.5, None, [1]):
            wrong = {"attempt": 1, "answers": {attempt["questions"][0]["id"]: number}}
            problem(await post(api, ANSWERS, wrong), 422, "answers-invalid")
        assert (await begun(api)) == attempt

    async def test_an_attempt_that_is_not_there(self, api: Api) -> None:
        await api.launched(gates={"quiz": quiz_json()})
        problem(await post(api, ANSWERS, {"attempt": 1, "answers": {}}), 404, "no-such-attempt")
        attempt = await begun(api)
        body: dict[str, Any] = {"attempt": 1, "answers": answers_to(attempt["questions"], 3)}
        problem(await post(api, ANSWERS, body, "m-2"), 404, "no-such-attempt")

    async def test_another_members_pass(self, api: Api) -> None:
        await api.launched(gates={"quiz": quiz_json()})
        found = problem(
            await post(api, "/v1/drops/trial/ticket", {"quiz": await passed(api)}, "m-2"), 422, "pass-invalid"
        )
        assert found["route"] == f"POST {START}"

    async def test_a_pass_from_before_the_quiz_was_changed(self, api: Api) -> None:
        await api.launched(gates={"quiz": quiz_json()})
        sealed = await passed(api)
        assert (await post(api, "/v1/drops/trial/ticket", {"quiz": sealed})).status_code == 200
        change = {"gates": {"quiz": quiz_json(bank=7)}}
        answer = await api.operate("PATCH", "/v1/drops/trial", change, **{"If-Match": '"2"'})
        assert answer.status_code == 200
        problem(await post(api, "/v1/drops/trial/ticket", {"quiz": sealed}), 422, "pass-invalid")
        assert (await begun(api))["attempt"] == 1

    async def test_whoever_is_not_eligible_takes_no_quiz(self, api: Api, stores: Stores) -> None:
        await api.launched(gates={"quiz": quiz_json()}, eligibility={"town": {"in": ["大朗"]}})
        answer = await api.client.post(START, headers=api.bearer(town="东坑"))
        problem(answer, 403, "not-eligible")
        await api.operate("POST", "/v1/drops/trial/close")
        problem(await api.client.post(START, headers=api.bearer(town="大朗")), 409, "closed")
        async with stores.ledger.connect() as connection:
            assert await connection.scalar(text("select count(*) from quiz_attempts")) == 0


async def test_its_routes_are_within_the_rates_of_ticket_requests(
    settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "HELD_S", 0.02)
    app = create_app(settings.model_copy(update={"member_claims_per_second": 1, "member_claims_burst": 2}))
    async with running(app) as client:
        api = Api(client, app.state.services.sessions)
        await api.launched(gates={"quiz": quiz_json(), "list": "veterans"})
        await begun(api)
        problem(await post(api, "/v1/drops/trial/list"), 403, "not-on-list")
        for path, body in ((START, None), (ANSWERS, {"attempt": 1, "answers": {}}), ("/v1/drops/trial/ticket", None)):
            found = problem(await post(api, path, body), 429, "slow-down")
            assert found["whose"] == "member"
        await begun(api, "m-2")


class TestAnswersStayHere:
    """The bank's words are markers: whatever a member can see is searched for them."""

    async def test_no_answer_to_a_member_says_which_choice_is_right(self, api: Api) -> None:
        await api.launched(gates={"quiz": self.marked()})
        seen = ""
        for headers in ({}, api.bearer(), {"Authorization": "Bearer x.y.z"}):
            for path in ("/v1/drops/trial", "/v1/drops/trial/challenge", "/v1/drops/trial/report", "/openapi.json"):
                seen += (await api.client.get(path, headers=headers)).text
            sent: list[tuple[str, Any]] = [("ticket", None), ("ticket", {"quiz": "x"}), ("quiz/answers", {})]
            for path, body in sent:
                seen += (await api.client.post(f"/v1/drops/trial/{path}", json=body, headers=headers)).text
        assert "MARKED" not in seen
        assert '"bank"' not in seen
        attempt = await begun(api)
        shown = json.dumps(attempt)
        assert shown.count("MARKED") == 3 * 5, "the questions that are asked, each with four choices"
        assert '"answer"' not in shown
        for question in attempt["questions"]:
            assert set(question) == {"id", "question", "choices"}
            assert all(set(choice) == {"number", "text"} for choice in question["choices"])
        body = {"attempt": 1, "answers": {question["id"]: 1 for question in attempt["questions"]}}
        told = await post(api, ANSWERS, body)
        assert "MARKED" not in told.text
        assert '"answer"' not in told.text

    async def test_the_order_says_nothing_for_it_differs_from_person_to_person(self, api: Api) -> None:
        await api.launched(gates={"quiz": quiz_json(questions=6)})
        orders = set()
        for number in range(12):
            for question in (await begun(api, f"m-{number}"))["questions"]:
                texts = [choice["text"]["en"].split()[0] for choice in question["choices"]]
                orders.add((question["id"], texts.index("right")))
        assert len(orders) > 6 * 2

    async def test_operators_see_them_and_a_member_with_an_operators_look_does_not(self, api: Api) -> None:
        await api.launched(gates={"quiz": self.marked()})
        found = (await api.operate("GET", "/v1/drops/trial")).json()["gates"]["quiz"]
        assert found == self.marked()
        listed = await api.client.get("/v1/drops", headers=api.bearer())
        problem(listed, 403, "operators-only")
        assert "MARKED" not in listed.text
        for headers in ({"X-Role": "operator"}, {"Accept": "application/json;role=operator"}):
            answer = await api.client.get("/v1/drops/trial?role=operator", headers={**api.bearer(), **headers})
            assert "MARKED" not in answer.text
            assert set(answer.json()["gates"]["quiz"]) == {"questions", "pass_mark", "attempts", "time_limit_s"}

    async def test_a_draft_with_a_fault_tells_its_operator_alone(self, api: Api) -> None:
        quiz = self.marked()
        quiz["bank"][0]["answer"] = 9
        body = drop_json("trial", gates={"quiz": quiz})
        member = await api.client.post("/v1/drops", json=body, headers=api.bearer())
        problem(member, 403, "operators-only")
        found = problem(await api.operate("POST", "/v1/drops", body), 422, "spec-invalid")
        assert found["errors"][0]["field"] == "gates.quiz.bank.0.answer"

    @staticmethod
    def marked() -> dict[str, Any]:
        bank = [
            {
                "id": f"q{number}",
                "question": {"en": f"MARKED question {number}"},
                "choices": [{"en": f"MARKED choice {number} {place}"} for place in range(4)],
                "answer": number % 4 + 1,
            }
            for number in range(1, 7)
        ]
        return quiz_json(bank=0) | {"bank": bank}
