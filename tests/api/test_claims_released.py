"""The promise: a released claim gives back once, and its ticket never claims again."""

from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem
from tests.factories.ledger import record_all


async def test_a_released_claim_gives_back_once_and_its_ticket_never_claims_again(api: Api, stores: Stores) -> None:
    await api.launched(stock=1)
    ticket = await api.ticket()
    claim_id = (await api.claim(ticket)).json()["claim_id"]
    path = f"/v1/claims/{claim_id}/release"
    problem(await api.operate("POST", path), 404, "no-such-claim")
    await record_all(stores)
    assert (await api.operate("POST", path + "?reason=ill")).status_code == 200
    problem(await api.operate("POST", path), 409, "already-released")
    problem(await api.claim(ticket), 409, "claim-released")
    assert (await api.claim(await api.ticket())).status_code == 201


async def test_only_operators_release(api: Api) -> None:
    answer = await api.client.post("/v1/claims/trial.0.1/release", headers=api.bearer())
    problem(answer, 403, "operators-only")
    problem(await api.operate("POST", "/v1/claims/nonsense/release"), 422, "id-invalid")
