"""The promise: operators see what is to be done and when, and decide of what failed; each decision has its row."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from engine.ledger import actions
from engine.ledger.schema import schedule
from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem

PATH = "/v1/schedule"


async def jobs(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer = await api.operate("GET", f"{PATH}{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["jobs"]
    return found


async def closing(api: Api) -> dict[str, Any]:
    """The job that will close a drop which is open now."""
    await api.launched()
    (found,) = [job for job in await jobs(api, "?of=drop:trial") if job["kind"] == "drop-closes"]
    return found


@pytest.mark.parametrize(
    "query",
    [
        "?state=lost", "?state=", "?of=", "?of=a%00b", "?of=" + "x" * 201, "?after=-1", "?after=x", "?limit=0",
        "?limit=501",
    ],
)  # fmt: skip
async def test_malformed_questions_are_refused_with_the_field(api: Api, query: str) -> None:
    found = problem(await api.operate("GET", f"{PATH}{query}"), 422, "invalid")
    assert query[1:].partition("=")[0] in found["detail"]


@pytest.mark.parametrize("job", ["0", "-1", "x", "99999999999999999999", "%00"])
async def test_malformed_numbers_are_refused(api: Api, job: str) -> None:
    for method, path in (("GET", ""), ("POST", "/retry"), ("POST", "/cancel")):
        problem(await api.operate(method, f"{PATH}/{job}{path}"), 422, "invalid")


async def test_what_an_act_plans_is_shown(api: Api) -> None:
    opens = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    await api.launched(opens_at=opens)
    found = await jobs(api)
    assert [(job["kind"], job["object"], job["state"]) for job in found] == [
        ("drop-opens", "drop:trial", "waiting"),
        ("wave", "drop:trial", "waiting"),
        ("drop-closes", "drop:trial", "waiting"),
    ]
    assert [datetime.fromisoformat(job["due_at"]) - opens for job in found] == [
        timedelta(0), timedelta(0), timedelta(hours=1),
    ]  # fmt: skip
    one = (await api.operate("GET", f"{PATH}/{found[0]['id']}")).json()
    assert one == found[0]


async def test_lists_are_paged_and_narrowed(api: Api) -> None:
    await api.launched()
    await api.launched("other")
    first = (await api.operate("GET", f"{PATH}?limit=4")).json()
    rest = (await api.operate("GET", f"{PATH}?limit=4&after={first['next']}")).json()
    assert (len(first["jobs"]), len(rest["jobs"]), rest["next"]) == (4, 2, None)
    assert {job["object"] for job in await jobs(api, "?of=drop:other")} == {"drop:other"}
    assert await jobs(api, "?state=failed") == []
    assert len(await jobs(api, "?state=waiting")) == 6


async def test_what_failed_is_tried_again_and_what_waits_is_cancelled(api: Api, stores: Stores) -> None:
    job = await closing(api)
    cancelled = (await api.operate("POST", f"{PATH}/{job['id']}/cancel")).json()
    assert cancelled == {**job, "state": "cancelled"}
    refused = problem(await api.operate("POST", f"{PATH}/{job['id']}/cancel"), 409, "wrong-state")
    assert refused["state"] == "cancelled"
    async with stores.ledger.begin() as connection:
        await connection.execute(update(schedule).values(state="failed", attempts=12, error="why"))
    again = (await api.operate("POST", f"{PATH}/{job['id']}/retry")).json()
    assert (again["state"], again["attempts"], again["error"]) == ("waiting", 0, "why")
    async with stores.ledger.connect() as connection:
        links = await actions.chain(connection)
    assert actions.broken_links(links) == []
    acts = [link.action for link in links if link.action.object == f"job:{job['id']}"]
    assert [(act.verb, act.actor) for act in acts] == [("cancel", "boss"), ("retry", "boss")]


async def test_a_job_that_there_is_not_is_said_to_be_none(api: Api) -> None:
    for method, path in (("GET", ""), ("POST", "/retry"), ("POST", "/cancel")):
        problem(await api.operate(method, f"{PATH}/999999999{path}"), 404, "no-such-job")
