"""The app in this process, on the real stores, with helpers that speak as members and operators do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from engine.members.attributes import Value
from engine.members.model import Role, Session
from engine.members.session import SessionTokens
from engine.runtime.connections import Stores
from engine.runtime.settings import Settings
from tests.factories.drops import drop_json


@dataclass(frozen=True, slots=True)
class Api:
    """The API as tests use it."""

    client: httpx.AsyncClient
    tokens: SessionTokens

    def bearer(self, name: str = "m-1", role: Role = "member", **attributes: Value) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens.issue(Session(name, name, role, attributes), 600)}"}

    def operator_of(self, organisation: str, role: Role = "operator") -> dict[str, str]:
        """An operator who is bounded by an organisation."""
        session = Session(f"{organisation}-boss", f"{organisation}-boss", role, organisation=organisation)
        return {"Authorization": f"Bearer {self.tokens.issue(session, 600)}"}

    async def operate(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return await self.client.request(
            method, path, json=body, headers={**self.bearer("boss", "operator"), **headers}
        )

    async def launched(self, drop_id: str = "trial", **more: Any) -> None:
        assert (await self.operate("POST", "/v1/drops", drop_json(drop_id, **more))).status_code == 201
        assert (await self.operate("POST", f"/v1/drops/{drop_id}/launch")).status_code == 200

    async def ticket(self, member: str = "m-1", drop_id: str = "trial", **wish: Any) -> str:
        answer = await self.client.post(f"/v1/drops/{drop_id}/ticket", json=wish, headers=self.bearer(member))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["ticket"])

    async def claim(self, ticket: str, drop_id: str = "trial", body: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Ticket {ticket}"}
        return await self.client.post(f"/v1/drops/{drop_id}/claims", headers=headers, json=body)


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://flashclaim.test") as client,
    ):
        yield client


@pytest.fixture
async def api(settings: Settings, stores: Stores) -> AsyncIterator[Api]:
    async with running(create_app(settings)) as client:
        yield Api(client, SessionTokens(settings))


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The members of a problem+json answer, after checking what every one of them has."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["code"] == code, found
    assert found["status"] == status
    assert found["type"].endswith(code)
    assert found["title"]
    assert found["detail"]
    return found
