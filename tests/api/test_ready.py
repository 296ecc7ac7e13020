"""The promise: a process says that it is ready only when it can decide claims; a newer ledger does not stop it."""

import pytest
from sqlalchemy import text

from engine.ledger import migrations
from engine.runtime.connections import Stores
from tests.api.conftest import Api, problem


async def test_a_process_is_ready_on_the_tables_of_its_version(api: Api) -> None:
    assert (await api.client.get("/readyz")).json() == {"status": "ready"}


@pytest.mark.parametrize(("revision", "is_ready"), [("0001", False), ("9999", True)])
async def test_it_is_not_on_older_ones_and_stays_so_on_newer_ones(
    api: Api, stores: Stores, revision: str, is_ready: bool
) -> None:
    """Between `migrate` and the new processes the old ones go on: a balancer must not take all of them out."""
    change = text("update alembic_version set version_num = :revision")
    async with stores.ledger.begin() as connection:
        await connection.execute(change, {"revision": revision})
    try:
        answer = await api.client.get("/readyz")
    finally:
        async with stores.ledger.begin() as connection:
            await connection.execute(change, {"revision": migrations.newest()})
    if is_ready:
        assert answer.status_code == 200
    else:
        assert "run `flashclaim migrate`" in problem(answer, 503, "not-ready")["detail"]
