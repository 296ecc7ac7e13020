"""The promise: only a receipt that was signed here verifies."""

from tests.api.conftest import Api, problem


async def test_forged_receipts_are_422(api: Api) -> None:
    await api.launched()
    ticket = await api.ticket()
    receipt = (await api.claim(ticket)).json()["receipt"]
    for text in ("", "x", ticket, receipt[:-1], "B" + receipt[1:], "A" * 5_000):
        answer = await api.client.post("/v1/receipts/verify", json={"receipt": text})
        assert answer.status_code in (413, 422)
        problem(answer, answer.status_code, answer.json()["code"])
