"""The promise: an operator of one organisation sees and acts on what is of it and of those under it, and nothing else.

What is another's and what does not exist get one answer, `not-your-organisation`, on every route that is an operator's;
a route that tests/attacks/test_access.py lists as one and that is not tried here fails the first test.
"""

from typing import Any

import httpx
import pytest

from engine.claims import keys
from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem
from tests.attacks.test_access import BODIES, OPERATOR, RULES
from tests.factories.campaigns import campaign_json, part
from tests.factories.drops import drop_json
from tests.factories.ledger import record_all

# Of whose things each operator's route speaks; what names nothing is in a test of its own.
ON_DROPS = {
    rule
    for rule in RULES
    if RULES[rule] is OPERATOR and any(name in rule for name in ("{drop_id}", "{claim_id}", "{draw_id}"))
}
ON_CAMPAIGNS = {rule for rule in RULES if RULES[rule] is OPERATOR and "{campaign_id}" in rule}
ON_MEMBERS = {rule for rule in RULES if RULES[rule] is OPERATOR and "{member_id}" in rule}
ON_ORGANISATIONS = {rule for rule in RULES if "{organisation_id}" in rule}
OF_THE_CITY = {"GET /v1/lists", "GET /v1/segments", "GET /v1/segments/{name}", "PUT /v1/segments/{name}"}
OF_THE_CITY |= {rule for rule in RULES if "/v1/schedule" in rule}
LISTED = {
    "GET /v1/drops",
    "GET /v1/members",
    "GET /v1/organisations",
    "POST /v1/drops",
    "GET /v1/campaigns",
    "POST /v1/campaigns",
}
TREE = {
    "dongguan": {"kind": "city", "title": {"en": "City"}},
    "dalang": {"kind": "town", "title": {"en": "Dalang"}, "parent": "dongguan", "town": "大朗"},
    "humen": {"kind": "town", "title": {"en": "Humen"}, "parent": "dongguan", "town": "虎门"},
    "mill": {"kind": "enterprise", "title": {"en": "A mill in Dalang"}, "parent": "dalang"},
}
SEEN = ("PATCH /v1/drops/{drop_id}", "POST /v1/campaigns/{campaign_id}/amendments")  # which ask for the revision
OWN, FOREIGN = ("dalang", "mill"), ("dongguan", "humen", "nowhere")


@pytest.fixture
async def town(api: Api, stores: Stores) -> "Town":
    """The tree, and in each organisation a launched drop with a claim, a draft, and a member."""
    for organisation, body in TREE.items():
        assert (await api.operate("PUT", f"/v1/organisations/{organisation}", body)).status_code == 200
        await api.launched(f"{organisation}-drop", organisation=organisation)
        assert (await api.claim(await api.ticket(drop_id=f"{organisation}-drop"), f"{organisation}-drop")).is_success
        draft = drop_json(f"{organisation}-draft", organisation=organisation)
        assert (await api.operate("POST", "/v1/drops", draft)).status_code == 201
        member = {"attributes": {"organisation": organisation}}
        assert (await api.operate("PUT", f"/v1/members/{organisation}-member", member)).status_code == 200
        campaign = campaign_json(f"{organisation}-goose", id=f"{organisation}-campaign", organisation=organisation)
        assert (await api.operate("POST", "/v1/campaigns", campaign)).status_code == 201
    await api.operate("PUT", "/v1/segments/locals", {"where": {"town": {"in": ["大朗"]}}})
    await record_all(stores)
    return Town(api)


class Town:
    """The API as an operator of Dalang."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.headers = api.operator_of("dalang")

    async def ask(self, rule: str, body: Any = None, **ids: str) -> httpx.Response:
        method, path = rule.split(" ")
        headers = {**self.headers, "If-Match": '"2"'} if rule in SEEN else self.headers
        body = BODIES.get(rule) if body is None else body
        return await self.api.client.request(method, path.format(**ids), headers=headers, json=body)


def of(organisation: str, kind: str = "drop") -> dict[str, str]:
    """The ids of what is an organisation's."""
    drop = f"{organisation}-{kind}"
    return {
        "drop_id": drop, "draw_id": drop, "claim_id": f"{drop}.0.1", "member_id": f"{organisation}-member",
        "organisation_id": organisation, "name": "locals", "campaign_id": f"{organisation}-campaign",
        "job_id": "1",
    }  # fmt: skip


def test_every_route_of_operators_is_tried() -> None:
    tried = ON_DROPS | ON_CAMPAIGNS | ON_MEMBERS | ON_ORGANISATIONS | OF_THE_CITY | LISTED
    assert tried == {rule for rule in RULES if RULES[rule] is OPERATOR}


class TestDrops:
    @pytest.mark.parametrize("rule", sorted(ON_DROPS))
    async def test_anothers_is_like_one_that_does_not_exist(self, town: Town, stores: Stores, rule: str) -> None:
        before = await stores.redis.hgetall(keys.drop(0, "dongguan-drop"))
        for kind in ("drop", "draft"):
            told = set()
            for organisation in FOREIGN:
                answer = await town.ask(rule, **of(organisation, kind))
                problem(answer, 403, "not-your-organisation")
                told.add(answer.text.replace(organisation, "WHOSE"))
            assert len(told) == 1, rule
        assert await stores.redis.hgetall(keys.drop(0, "dongguan-drop")) == before

    @pytest.mark.parametrize("rule", sorted(ON_DROPS))
    async def test_their_own_and_those_under_it_are_theirs(self, town: Town, rule: str) -> None:
        for organisation in OWN:
            answer = await town.ask(rule, **of(organisation))
            if "{draw_id}" in rule or rule.endswith("instant-document"):
                assert answer.json()["code"] in ("no-such-draw", "not-committed", "not-instant"), (rule, answer.text)
            else:
                assert answer.status_code in (200, 409, 412), (rule, answer.text)

    async def test_a_foreign_draft_is_no_drop_on_the_routes_of_everybody(self, town: Town) -> None:
        for rule in ("GET /v1/drops/{drop_id}", "POST /v1/drops/{drop_id}/ticket", "GET /v1/drops/{drop_id}/challenge"):
            told = set()
            for drop_id in ("humen-draft", "dongguan-draft", "nowhere-draft"):
                answer = await town.ask(rule, body={}, drop_id=drop_id)
                problem(answer, 404, "no-such-drop")
                told.add(answer.text.replace(drop_id, "ID"))
            assert len(told) == 1
            assert (await town.ask(rule, body={}, **of("mill", "draft"))).status_code != 404

    async def test_the_list_shows_theirs(self, town: Town) -> None:
        drops = (await town.ask("GET /v1/drops")).json()["drops"]
        assert [drop["id"] for drop in drops] == [
            "dalang-draft", "dalang-drop", "dalang-goose", "mill-draft", "mill-drop", "mill-goose",
        ]  # fmt: skip
        page = (await town.api.client.get("/v1/drops?limit=1&after=dalang-goose", headers=town.headers)).json()
        assert [drop["id"] for drop in page["drops"]] == ["mill-draft"]
        assert len((await town.api.operate("GET", "/v1/drops")).json()["drops"]) == 12

    async def test_they_make_them_for_their_own_alone(self, town: Town) -> None:
        for organisation in FOREIGN:
            answer = await town.ask("POST /v1/drops", drop_json("new", organisation=organisation))
            problem(answer, 403, "not-your-organisation")
        for organisation in OWN:
            answer = await town.ask("POST /v1/drops", drop_json(f"new-{organisation}", organisation=organisation))
            assert answer.status_code == 201

    async def test_they_give_none_away_and_take_none(self, town: Town) -> None:
        for organisation in FOREIGN:
            headers = {**town.headers, "If-Match": '"1"'}
            answer = await town.api.client.patch(
                "/v1/drops/dalang-draft", json={"organisation": organisation}, headers=headers
            )
            problem(answer, 403, "not-your-organisation")
        draft = (await town.api.operate("GET", "/v1/drops/dalang-draft")).json()
        assert (draft["organisation"], draft["revision"]) == ("dalang", 1)


class TestCampaigns:
    async def told(self, town: Town, rule: str, **ids: str) -> httpx.Response:
        query = "?member=dalang-member" if rule.endswith("dry-run") else ""
        return await town.ask(rule + query, BODIES.get(rule), **ids)

    @pytest.mark.parametrize("rule", sorted(ON_CAMPAIGNS))
    async def test_anothers_is_like_one_that_does_not_exist(self, town: Town, rule: str) -> None:
        told = set()
        for organisation in FOREIGN:
            answer = await self.told(town, rule, **of(organisation))
            problem(answer, 403, "not-your-organisation")
            told.add(answer.text.replace(organisation, "WHOSE"))
        assert len(told) == 1
        for found in (await town.api.operate("GET", "/v1/campaigns")).json()["campaigns"]:
            assert (found["status"], found["revision"]) == ("draft", 1)

    @pytest.mark.parametrize("rule", sorted(ON_CAMPAIGNS))
    async def test_their_own_and_those_under_it_are_theirs(self, town: Town, rule: str) -> None:
        answer = await self.told(town, rule, **of("mill"))
        assert answer.status_code in (200, 201, 409, 412, 428), (rule, answer.text)

    async def test_the_list_shows_theirs(self, town: Town) -> None:
        mixed = [part("a-goose"), part("b-goose", organisation="humen")]
        body = campaign_json(id="delegated", organisation="dalang", drops=mixed)
        assert (await town.api.operate("POST", "/v1/campaigns", body)).status_code == 201
        listed = (await town.ask("GET /v1/campaigns")).json()["campaigns"]
        assert [found["id"] for found in listed] == ["dalang-campaign", "mill-campaign"]
        assert len((await town.api.operate("GET", "/v1/campaigns")).json()["campaigns"]) == 5

    async def test_they_make_them_and_amend_them_for_their_own_alone(self, town: Town) -> None:
        """Nor may one drop in it be another's: what is done to a campaign is done to its drops."""
        amend = "POST /v1/campaigns/{campaign_id}/amendments?dry_run=true"
        headers = {**town.headers, "If-Match": '"1"'}
        for organisation in FOREIGN:
            foreign = {"organisation": organisation}, {"drops": [part("dalang-goose", organisation=organisation)]}
            for change in foreign:
                answer = await town.ask(
                    "POST /v1/campaigns", campaign_json(id="x", **{"organisation": "mill"} | change)
                )
                problem(answer, 403, "not-your-organisation")
                path = amend.removeprefix("POST ").format(campaign_id="dalang-campaign")
                answer = await town.api.client.post(path, json=change, headers=headers)
                problem(answer, 403, "not-your-organisation")
        body = campaign_json("new-goose", id="new", organisation="mill")
        assert (await town.ask("POST /v1/campaigns", body)).status_code == 201

    async def test_a_campaign_with_anothers_drop_in_it_is_not_theirs(self, town: Town) -> None:
        mixed = [part("a-goose"), part("b-goose", organisation="humen")]
        body = campaign_json(id="delegated", organisation="dalang", drops=mixed)
        assert (await town.api.operate("POST", "/v1/campaigns", body)).status_code == 201
        for rule in sorted(ON_CAMPAIGNS):
            problem(await self.told(town, rule, campaign_id="delegated"), 403, "not-your-organisation")

    async def test_a_dry_run_is_for_their_own_members(self, town: Town) -> None:
        path, told = "/v1/campaigns/dalang-campaign/dry-run?member=", set()
        for organisation in FOREIGN:
            answer = await town.api.client.get(f"{path}{organisation}-member", headers=town.headers)
            problem(answer, 403, "not-your-organisation")
            told.add(answer.text.replace(organisation, "WHOSE"))
        assert len(told) == 1
        assert (await town.api.client.get(f"{path}mill-member", headers=town.headers)).status_code == 200


class TestMembers:
    @pytest.mark.parametrize("rule", sorted(ON_MEMBERS))
    async def test_anothers_is_like_one_that_does_not_exist(self, town: Town, rule: str) -> None:
        """To write one down they must say that it is of theirs: so who is nobody's cannot be told from anothers'."""
        told = set()
        for organisation in FOREIGN:
            answer = await town.ask(rule, **of(organisation))
            problem(answer, 403, "not-your-organisation")
            told.add(answer.text.replace(organisation, "WHOSE"))
        assert len(told) == 1

    async def test_they_are_not_taken_over(self, town: Town) -> None:
        body = {"attributes": {"organisation": "dalang"}}
        answer = await town.ask("PUT /v1/members/{member_id}", body, member_id="humen-member")
        problem(answer, 403, "not-your-organisation")
        body = {"attributes": {"organisation": "humen"}}
        answer = await town.ask("PUT /v1/members/{member_id}", body, member_id="dalang-member")
        problem(answer, 403, "not-your-organisation")
        for member in ("humen-member", "dalang-member"):
            found = (await town.api.operate("GET", f"/v1/members/{member}")).json()
            assert found["attributes"] == {"organisation": member.removesuffix("-member")}

    async def test_their_own_are_theirs(self, town: Town) -> None:
        body = {"attributes": {"organisation": "mill", "town": "大朗镇"}}
        for member in ("mill-member", "dalang-member", "newcomer"):
            assert (await town.ask("PUT /v1/members/{member_id}", body, member_id=member)).status_code == 200
            found = (await town.ask("GET /v1/members/{member_id}", member_id=member)).json()
            assert found["attributes"] == {"organisation": "mill", "town": "大朗"}
        listed = (await town.ask("GET /v1/members")).json()["members"]
        assert [member["member_id"] for member in listed] == ["dalang-member", "mill-member", "newcomer"]

    @pytest.mark.parametrize("rule", sorted(OF_THE_CITY))
    async def test_what_speaks_of_members_everywhere_is_the_citys(self, town: Town, rule: str) -> None:
        problem(await town.ask(rule, **of("dalang")), 403, "not-your-organisation")
        problem(await town.ask(rule, **{**of("dalang"), "name": "none"}), 403, "not-your-organisation")


class TestOrganisations:
    async def test_anothers_is_like_one_that_does_not_exist(self, town: Town) -> None:
        for rule in sorted(ON_ORGANISATIONS):
            told = set()
            for organisation in FOREIGN:
                body = None if rule.startswith("GET") else TREE["mill"] | {"parent": "elsewhere"}
                answer = await town.ask(rule, body, organisation_id=organisation)
                problem(answer, 403, "not-your-organisation")
                told.add(answer.text.replace(organisation, "WHOSE"))
            assert len(told) == 1

    @pytest.mark.parametrize(
        ("organisation", "parent"),
        [("dalang", "dongguan"), ("dalang", "mill"), ("humen", "dalang"), ("dongguan", "dalang"), ("new", "humen")],
    )
    async def test_the_tree_above_and_beside_them_is_not_theirs(
        self, town: Town, organisation: str, parent: str
    ) -> None:
        body = {"kind": "town", "title": {"en": "Mine"}, "parent": parent}
        answer = await town.ask("PUT /v1/organisations/{organisation_id}", body, organisation_id=organisation)
        problem(answer, 403, "not-your-organisation")

    async def test_what_is_under_them_is(self, town: Town) -> None:
        body = {"kind": "enterprise", "title": {"en": "New"}, "parent": "mill"}
        put = "PUT /v1/organisations/{organisation_id}"
        assert (await town.ask(put, body, organisation_id="shop")).status_code == 200
        listed = (await town.ask("GET /v1/organisations")).json()["organisations"]
        assert [found["id"] for found in listed] == ["dalang", "mill", "shop"]


async def test_a_member_whose_token_names_an_organisation_is_a_member(town: Town) -> None:
    headers = town.api.operator_of("dalang", role="member")
    problem(await town.api.client.get("/v1/drops", headers=headers), 403, "operators-only")
    problem(await town.api.client.get("/v1/drops/dalang-draft", headers=headers), 404, "no-such-drop")
