"""The promise: whoever was told "you got it" has it, though the API, the worker or Valkey is killed in mid-rush.

Each test runs a whole instance, lets members rush it, kills one part with SIGKILL, lets everything come back, and then
calls the same promises as the audit command.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.ledger.audit import AuditReport, audit, wait_until_recorded
from engine.members.model import Session
from engine.members.session import SessionTokens
from engine.runtime.connections import open_stores
from engine.runtime.servers import free_port, stop_process
from engine.runtime.settings import load_settings
from loadtests.workload import people
from tests.factories.drops import drop_json

MEMBERS, STOCK = 400, 300
RUSH_S_MAX = 90.0


class Instance:
    """A whole flashclaim, started by its own command."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.url = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "cli", "dev", "--port", self.url.rpartition(":")[2], "--data", str(data_dir)]
        with (data_dir / "dev.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.wait_until_ready()

    @property
    def dev(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data_dir / "dev.json").read_text())
        return found

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)  # it says nothing when it is ready but by answering
        raise AssertionError((self.data_dir / "dev.log").read_text())

    def kill(self, part: str) -> int:
        pid: int = self.dev["pids"][part]
        os.kill(pid, signal.SIGKILL)
        return pid

    def operator(self, method: str, path: str, body: Any = None) -> Any:
        answer = httpx.request(
            method,
            self.url + path,
            json=body,
            headers={"Authorization": f"Bearer {self.dev['operator_token']}"},
            timeout=10,
        )
        answer.raise_for_status()
        return answer.json()


@pytest.fixture
def instance() -> Iterator[Instance]:
    with tempfile.TemporaryDirectory(prefix="fc-fault-") as name:
        Path(name).chmod(0o755)
        running = Instance(Path(name))
        yield running
        stop_process(running.process, grace_s=40)


@pytest.mark.parametrize("part", ["api", "worker", "valkey"])
async def test_nothing_is_lost_when_a_part_is_killed_in_the_middle_of_a_rush(instance: Instance, part: str) -> None:
    opens_at = datetime.now(UTC) + timedelta(seconds=1)
    instance.operator("POST", "/v1/drops", drop_json("rush", opens_at, stock=STOCK, limit=1))
    instance.operator("POST", "/v1/drops/rush/launch")
    log = instance.data_dir / "claims.jsonl"
    killed: list[int] = []

    async def kill_in_the_middle(told: list[dict[str, Any]]) -> None:
        while len(told) < STOCK // 4:  # noqa: ASYNC110 (a list tells nobody that it grew)
            await asyncio.sleep(0.01)
        killed.append(instance.kill(part))

    told: list[dict[str, Any]] = []
    async with asyncio.timeout(RUSH_S_MAX):
        await asyncio.gather(_rush(instance, told), kill_in_the_middle(told))
    log.write_text("".join(json.dumps(line) + "\n" for line in told))
    instance.wait_until_ready()
    report = await _audit(instance, log)
    assert instance.dev["pids"][part] != killed[0], "the part was not restarted"
    assert report.differences == 0, report.details
    assert report.accepted == report.in_ledger == report.told == STOCK
    assert report.oversold == report.over_limit == report.lost == report.duplicate_serials == 0


async def _rush(instance: Instance, told: list[dict[str, Any]]) -> None:
    tokens = SessionTokens(load_settings(instance.data_dir))
    crowd = list(people(seed=7, count=MEMBERS, items=["box"], weights=[1]))
    random.Random(7).shuffle(crowd)
    places = asyncio.Semaphore(64)
    async with httpx.AsyncClient(base_url=instance.url, timeout=10) as client:

        async def live(member_id: str) -> None:
            async with places:
                bearer = tokens.issue(Session(member_id, member_id), 600)
                ticket = (await _answered(client, "/v1/drops/rush/ticket", f"Bearer {bearer}")).json()["ticket"]
                for _ in range(2):
                    answer = await _answered(client, "/v1/drops/rush/claims", f"Ticket {ticket}")
                    while answer.status_code == 409 and answer.json()["code"] == "not-open":
                        await asyncio.sleep(0.1)
                        answer = await _answered(client, "/v1/drops/rush/claims", f"Ticket {ticket}")
                    if answer.status_code in (200, 201):
                        told.append({"status": answer.status_code, **answer.json()})
                    else:
                        assert answer.json()["code"] == "sold-out", answer.text

        await asyncio.gather(*(live(person.member_id) for person in crowd))


async def _answered(client: httpx.AsyncClient, path: str, authorization: str) -> httpx.Response:
    """An answer that is final: after no answer and after 503 the same request is sent again."""
    while True:
        try:
            answer = await client.post(path, headers={"Authorization": authorization})
        except httpx.HTTPError:
            await asyncio.sleep(0.2)
            continue
        if answer.status_code != 503:
            return answer
        await asyncio.sleep(0.2)


async def _audit(instance: Instance, log: Path) -> AuditReport:
    settings = load_settings(instance.data_dir)
    async with open_stores(settings) as stores:
        assert await wait_until_recorded(stores.redis, settings.partitions, 40), "the ledger did not catch up"
        return await audit(stores, settings.partitions, settings.receipt_keyring, "rush", log)
