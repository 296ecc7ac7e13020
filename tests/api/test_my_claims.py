"""The promise: a member's list holds all of their claims and no other's, page by page."""

from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem
from tests.factories.ledger import record_all


async def test_my_claims_are_mine(api: Api, stores: Stores) -> None:
    await api.launched()
    await api.claim(await api.ticket("m-1"))
    await api.claim(await api.ticket("m-2"))
    await record_all(stores)
    mine = (await api.client.get("/v1/claims", headers=api.bearer("m-2"))).json()["claims"]
    assert [claim["claim_id"] for claim in mine] == ["trial.0.2"]


async def test_my_claims_are_paged_without_a_gap_or_a_double(api: Api, stores: Stores) -> None:
    await api.launched("other", limit_per_member=3)
    await api.launched(limit_per_member=4)
    for drop_id in ("other", "trial", "trial", "other", "trial", "trial", "other"):
        await api.claim(await api.ticket(drop_id=drop_id), drop_id)
    await record_all(stores)
    seen: list[str] = []
    query = "?limit=2"
    while query:
        page = (await api.client.get(f"/v1/claims{query}", headers=api.bearer())).json()
        seen += [claim["claim_id"] for claim in page["claims"]]
        query = f"?limit=2&after={page['next']}" if page["next"] else ""
    assert len(seen) == len(set(seen)) == 7
    assert seen[0] == "other.0.3"
    problem(await api.client.get("/v1/claims?after=x", headers=api.bearer()), 422, "id-invalid")
