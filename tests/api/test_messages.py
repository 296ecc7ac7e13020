"""The promise: a member reads what they were told, in the language that they read, and marks it; only their own."""

from typing import Any

import pytest

from engine.bounds import MESSAGES_KEPT_MAX
from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem
from tests.engine.notices.test_store import message, tell

PATH = "/v1/me/messages"


async def listed(api: Api, query: str = "", member: str = "m-1", **headers: str) -> dict[str, Any]:
    answer = await api.client.get(f"{PATH}{query}", headers=api.bearer(member) | headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


class TestMalformed:
    @pytest.mark.parametrize(
        "query",
        [
            "?after=-1", "?after=x", "?after=", "?after=9999999999", "?after=1.5", "?after=%00", "?limit=0",
            "?limit=501", "?lang=fr", "?lang=", "?lang=%00",
        ],
    )  # fmt: skip
    async def test_pages_are_refused_with_the_field(self, api: Api, query: str) -> None:
        found = problem(await api.client.get(f"{PATH}{query}", headers=api.bearer()), 422, "invalid")
        assert query[1:].partition("=")[0] in found["detail"]

    @pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "9999999999", "99999999999999999999", "%00"])
    async def test_numbers_are_refused(self, api: Api, number: str) -> None:
        problem(await api.client.post(f"{PATH}/{number}/read", headers=api.bearer()), 422, "invalid")

    @pytest.mark.parametrize("query", ["", "?until=0", "?until=x", "?until=9999999999"])
    async def test_how_far_was_read_has_to_be_said(self, api: Api, query: str) -> None:
        problem(await api.client.post(f"{PATH}/read{query}", headers=api.bearer()), 422, "invalid")

    @pytest.mark.parametrize("seen", ["x", "-1", "9999999999", "1 2"])
    async def test_what_was_seen_last_is_a_number(self, api: Api, seen: str) -> None:
        answer = await api.client.get(f"{PATH}/live", headers=api.bearer() | {"Last-Event-ID": seen})
        problem(answer, 422, "invalid")


async def test_an_inbox_is_read_page_by_page(api: Api, stores: Stores) -> None:
    assert await listed(api) == {"messages": [], "unread": 0, "next": None}
    await tell(stores.ledger, *(message(once=str(number), coupon=number) for number in range(1, 6)), message("m-2"))
    first = await listed(api, "?limit=3")
    assert ([found["id"] for found in first["messages"]], first["unread"], first["next"]) == ([5, 4, 3], 5, 3)
    second = await listed(api, f"?limit=3&after={first['next']}")
    assert ([found["id"] for found in second["messages"]], second["next"]) == ([2, 1], None)
    newest = first["messages"][0]
    assert newest["kind"] == "prize-arrived"
    assert newest["facts"]["coupon"] == 5
    assert newest["read_at"] is None


async def test_both_languages_are_there_and_one_is_chosen(api: Api, stores: Stores) -> None:
    await tell(stores.ledger, message())
    for query, header, chosen in (
        ("", "", "zh"),
        ("", "en-GB,en;q=0.9", "en"),
        ("?lang=zh", "en", "zh"),
        ("?lang=en", "zh-CN", "en"),
        ("", "nonsense;;;q=", "zh"),
    ):
        (found,) = (await listed(api, query, **{"Accept-Language": header}))["messages"]
        assert found["texts"].keys() == {"zh", "en"}
        assert found["text"] == found["texts"][chosen]
    assert found["texts"]["zh"] == "您在“端午好礼”中抽中的烧鹅券已到账，请到“我的卡券”查看。"


async def test_a_message_is_read_once_and_the_first_time_counts(api: Api, stores: Stores) -> None:
    await tell(stores.ledger, message(), message(once="b"))
    first = (await api.client.post(f"{PATH}/1/read", headers=api.bearer())).json()
    again = (await api.client.post(f"{PATH}/1/read", headers=api.bearer())).json()
    assert first == again
    found = await listed(api)
    assert found["unread"] == 1
    assert [told["read_at"] for told in found["messages"]] == [None, first["read_at"]]
    problem(await api.client.post(f"{PATH}/3/read", headers=api.bearer()), 404, "no-such-message")


async def test_all_up_to_what_was_seen_are_read(api: Api, stores: Stores) -> None:
    await tell(stores.ledger, *(message(once=str(number)) for number in range(4)))
    answer = await api.client.post(f"{PATH}/read?until=3", headers=api.bearer())
    assert answer.json() == {"read": 3, "unread": 1}
    answer = await api.client.post(f"{PATH}/read?until={2**31 - 1}", headers=api.bearer())
    assert answer.json() == {"read": 1, "unread": 0}


async def test_the_oldest_make_room(api: Api, stores: Stores) -> None:
    await tell(stores.ledger, *(message(once=str(number)) for number in range(MESSAGES_KEPT_MAX + 1)))
    await tell(stores.ledger, message(once="one more"))
    problem(await api.client.post(f"{PATH}/1/read", headers=api.bearer()), 404, "no-such-message")
    assert (await listed(api, "?limit=500"))["unread"] == MESSAGES_KEPT_MAX
