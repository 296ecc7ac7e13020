"""The promise: whatever fits the OpenAPI document, or just does not, gets an answer that the document declares.

schemathesis makes the requests out of the document, the same ones each time; they are sent as nobody, as a member and
as an operator, to ids that exist and to others. No answer is a 5xx but a declared 503.
"""

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from engine.runtime.connections import Stores
from tests.api.conftest import Api
from tests.factories.campaigns import campaign_json
from tests.factories.ledger import record_all

EXAMPLES = 8  # of each kind, for each role and operation
# Streams: see tests/attacks/test_access.py.
ENDLESS = ("GET /v1/drops/{drop_id}/live", "GET /v1/drops/{drop_id}/map/live", "GET /v1/me/messages/live")
KNOWN = {
    "drop_id": "trial", "claim_id": "trial.0.1", "member_id": "m-1", "organisation_id": "dongguan", "name": "locals",
    "draw_id": "trial", "number": 1, "job_id": 1, "campaign_id": "autumn",
}  # fmt: skip
CHECKS = [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]


def cases(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, **fixed: Any) -> list[Case[Any]]:
    """Requests for an operation, drawn from its declaration with a seed that is always the same."""
    found: list[Case[Any]] = []

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode, **fixed))
    def collect(case: Case[Any]) -> None:
        found.append(case)

    try:
        collect()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, operation.label  # nothing can be wrong where nothing is asked
    return found


async def sent(client: httpx.AsyncClient, case: Case[Any], headers: dict[str, str]) -> httpx.Response:
    how = case.as_transport_kwargs(base_url="http://flashclaim.test")
    given = {name: value for name, value in how["headers"].items() if name.lower() != "authorization"}
    body = {"content": how["data"]} if "data" in how else {"json": how["json"]} if "json" in how else {}
    return await client.request(how["method"], how["url"], params=how["params"], headers=given | headers, **body)


def declared(case: Case[Any], answer: httpx.Response) -> None:
    """Raises where the document does not say that this answer may come."""
    is_elsewhere = answer.status_code == 404 and answer.json().get("code") == "not-found"
    if is_elsewhere:  # an id with a slash in it is another path
        assert "%2F" in str(answer.request.url) or "/." in str(answer.request.url), answer.request.url
        return
    assert answer.status_code < 500 or answer.status_code == 503, (case.operation.label, answer.text)
    case.validate_response(answer, checks=CHECKS)


@pytest.fixture(scope="module", autouse=True)
def _checks() -> None:
    load_all_checks()


@pytest.mark.parametrize("role", ["nobody", "member", "operator"])
async def test_every_answer_is_one_that_the_document_declares(api: Api, stores: Stores, role: str) -> None:
    await api.launched()
    assert (await api.operate("POST", "/v1/campaigns", campaign_json())).status_code == 201
    used, unused = await api.ticket(), await api.ticket("m-2")
    assert (await api.claim(used)).status_code == 201
    await record_all(stores)
    document = (await api.client.get("/openapi.json")).json()
    seen: dict[str, set[int]] = {}
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        if operation.label in ENDLESS:
            continue
        headers = {"nobody": {}, "member": api.bearer(), "operator": api.bearer("boss", "operator")}[role]
        if operation.path.endswith("/claims") and operation.method == "post":
            headers = {"nobody": {}, "member": {"Authorization": f"Ticket {unused}"}}.get(role, headers)
        own = {name: value for name, value in KNOWN.items() if f"{{{name}}}" in operation.path}
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            for fixed in ({}, {"path_parameters": own}) if own else ({},):
                for case in cases(operation, mode, **fixed):
                    answer = await sent(api.client, case, headers)
                    declared(case, answer)
                    seen.setdefault(operation.label, set()).add(answer.status_code)
    assert len(seen) == sum(len(methods) for methods in document["paths"].values()) - len(ENDLESS)
    reached = {
        "nobody": {200, 401, 404, 422},
        "member": {200, 201, 403, 404, 422},
        "operator": {200, 201, 404, 409, 422},
    }
    assert set().union(*seen.values()) >= reached[role]
